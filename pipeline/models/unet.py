"""diffusers' UNet2DConditionModel, given a class, and w where stock pipelines give it."""

import json
from pathlib import Path
from typing import ClassVar

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from pipeline.config import UNetConfig
from pipeline.models.family import ModelFamily
from pipeline.tensors import Condition, Latent, PerSample


def embed_w(w: PerSample, size: int) -> Tensor:
    """The sinusoids of 1000 w that a student is told, float32 `[b, size]`.

    Computed digit for digit as diffusers' pipelines do it, so that a student says there what it
    says here: at frequencies this high, another order of rounding is seen in the samples.

    Source: diffusers, `StableDiffusionPipeline.get_guidance_scale_embedding`.
    """
    half = size // 2
    spacing = torch.tensor(10000.0, device=w.device).log() / (half - 1)
    frequencies = torch.exp(torch.arange(half, device=w.device, dtype=torch.float32) * -spacing)
    angles = (w.float() * 1000.0)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class UNetFamily(ModelFamily):
    """Class-conditional U-Nets; the class after the last real one is the null condition."""

    name: ClassVar[str] = "unet"
    folder: ClassVar[str] = "unet"
    network: UNetConfig

    def build(self) -> nn.Module:
        """A fresh network without attention."""
        channels, height, _ = self.latent_shape
        levels = len(self.network.block_channels)
        module: nn.Module = UNet2DConditionModel(
            sample_size=height,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=self.network.block_channels,
            layers_per_block=self.network.layers_per_block,
            norm_num_groups=self.network.norm_groups,
            down_block_types=("DownBlock2D",) * levels,
            up_block_types=("UpBlock2D",) * levels,
            mid_block_type="UNetMidBlock2D",
            num_class_embeds=self.num_classes + 1,
        )
        return module

    def student_of(
        self,
        teacher: nn.Module,
        w_range: tuple[float, float],  # noqa: ARG002 (a sinusoid takes any w)
    ) -> nn.Module:
        """The teacher's weights, plus a projection of the w embedding that starts at zero."""
        if not isinstance(teacher, UNet2DConditionModel):
            raise TypeError(f"expected a UNet2DConditionModel, got {type(teacher).__name__}")
        # an override inside the config would be dropped: it is listed there as a default value
        student: nn.Module = UNet2DConditionModel.from_config(
            teacher.config, time_cond_proj_dim=self.network.w_embedding_dim
        )
        changed = student.load_state_dict(teacher.state_dict(), strict=False)
        if changed.missing_keys != ["time_embedding.cond_proj.weight"] or changed.unexpected_keys:
            raise TypeError(f"only the w projection should be new in the student: {changed}")
        nn.init.zeros_(student.get_parameter("time_embedding.cond_proj.weight"))
        return student

    def forward(
        self,
        module: nn.Module,
        z_t: Latent,
        timestep: Tensor,
        condition: Condition,
        w: PerSample | None,
    ) -> Latent:
        """One evaluation; w enters as `timestep_cond`, embedded as stock pipelines embed it."""
        dtype = next(module.parameters()).dtype
        embedded = None
        if w is not None:
            embedded = embed_w(w, self.network.w_embedding_dim).to(dtype)
        output: Tensor = module(
            z_t.to(dtype),
            timestep,
            encoder_hidden_states=None,
            class_labels=condition["label"],
            timestep_cond=embedded,
            return_dict=False,
        )[0]
        return output

    def null_condition(self, condition: Condition) -> Condition:
        """The label one past the last class."""
        return {"label": torch.full_like(condition["label"], self.num_classes)}

    def save(self, module: nn.Module, folder: Path) -> None:
        """A stock diffusers model directory."""
        if not isinstance(module, UNet2DConditionModel):
            raise TypeError(f"expected a UNet2DConditionModel, got {type(module).__name__}")
        module.save_pretrained(folder, safe_serialization=True)
        # diffusers notes the path a model was loaded from; a bundle's bytes say what it is only
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    def load(self, folder: Path, *, knows_w: bool) -> nn.Module:
        """A stock diffusers model directory, safetensors only."""
        module: nn.Module = UNet2DConditionModel.from_pretrained(
            folder, use_safetensors=True, local_files_only=True
        )
        if (module.config.time_cond_proj_dim is not None) != knows_w:  # type: ignore[union-attr]
            raise ValueError(f"its network {'is not' if knows_w else 'is'} told w")
        return module.eval()
