"""diffusers' DiTTransformer2DModel: a transformer on latents that is told a class."""

from typing import Any, ClassVar

from diffusers import DiTTransformer2DModel
from diffusers.models.embeddings import LabelEmbedding
from torch import Tensor, nn

from pipeline.config import DiTConfig
from pipeline.models.stock.stock_network import StockFamily, dtype_of
from pipeline.tensors import Condition, Latent, PerSample


class DiTFamily(StockFamily):
    """Class-conditional transformers; the class after the last real one is the null condition.

    Their pipeline cannot tell them w, so a student has one w baked in.

    Source: Peebles & Xie 2022, arXiv:2212.09748.
    """

    name: ClassVar[str] = "dit"
    folder: ClassVar[str] = "transformer"
    network: DiTConfig

    @property
    def stock(self) -> type[Any]:
        """The network of DiTPipeline."""
        return DiTTransformer2DModel  # type: ignore[no-any-return]

    @property
    def told_by(self) -> None:
        """Nothing tells it w."""
        return

    def settle(self, module: nn.Module) -> nn.Module:
        """Drop no labels at random: training here says itself which are null.

        diffusers would, in training mode, and each layer others. The null class keeps its row.
        """
        for part in module.modules():
            if isinstance(part, LabelEmbedding):
                part.dropout_prob = 0.0
        return module

    def build(self) -> nn.Module:
        """A fresh network."""
        channels, height, _ = self.latent_shape
        return self.settle(
            DiTTransformer2DModel(
                num_attention_heads=self.network.heads,
                attention_head_dim=self.network.head_dim,
                in_channels=channels,
                out_channels=channels,  # the default, but DiTPipeline wants it said
                num_layers=self.network.layers,
                sample_size=height,
                patch_size=self.network.patch,
                num_embeds_ada_norm=self.num_classes,
            )
        )

    def student_of(
        self,
        teacher: nn.Module,
        w_range: tuple[float, float],  # noqa: ARG002 (its one w is baked in by training)
    ) -> nn.Module:
        """A copy of the teacher."""
        return self.likeness(teacher)[0]

    def forward(
        self,
        module: nn.Module,
        z_t: Latent,
        timestep: Tensor,
        condition: Condition,
        w: PerSample | None,  # noqa: ARG002 (always None)
    ) -> Latent:
        """One evaluation; a second half of the output, the learned variance, is dropped."""
        output: Tensor = module(
            z_t.to(dtype_of(module)),
            timestep=timestep.round().long().clamp(min=0),  # t = 0, where encoders start
            class_labels=condition["label"],
            return_dict=False,
        )[0]
        return output[:, : self.latent_shape[0]]
