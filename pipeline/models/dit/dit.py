"""Class-conditional diffusion transformers (DiT): the network."""

from typing import Any, ClassVar

from torch import Tensor, nn

from pipeline.config import DiTConfig
from pipeline.models.stock.stock_network import StockFamily, dtype_of
from pipeline.tensors import Condition, Latent, PerSample


class DiTFamily(StockFamily):
    """Class-conditional transformers; the index after the last class is the null condition.

    The network has no input for w, so a student has a baked-in w.

    Source: Peebles & Xie 2022, arXiv:2212.09748.
    """

    name: ClassVar[str] = "dit"
    folder: ClassVar[str] = "transformer"
    network: DiTConfig

    @property
    def stock(self) -> type[Any]:
        """The network class of DiTPipeline."""
        from diffusers import DiTTransformer2DModel

        return DiTTransformer2DModel  # type: ignore[no-any-return]

    def disable_dropout(self, module: nn.Module) -> nn.Module:
        """Also disable label dropout, because the training method drops labels itself.

        diffusers drops labels in training mode, in each layer independently. The embedding row of
        the null class is kept.
        """
        from diffusers.models.embeddings import LabelEmbedding

        for part in module.modules():
            if isinstance(part, LabelEmbedding):
                part.dropout_prob = 0.0
        return super().disable_dropout(module)

    def build(self) -> nn.Module:
        """Build a new network."""
        channels, height, _ = self.latent_shape
        return self.disable_dropout(
            self.stock(
                num_attention_heads=self.network.heads,
                attention_head_dim=self.network.head_dim,
                in_channels=channels,
                out_channels=channels,  # the default, but DiTPipeline reads it from the config
                num_layers=self.network.layers,
                sample_size=height,
                patch_size=self.network.patch,
                num_embeds_ada_norm=self.num_classes,
            )
        )

    def forward(
        self,
        module: nn.Module,
        z_t: Latent,
        timestep: Tensor,
        condition: Condition,
        w: PerSample | None,  # noqa: ARG002 (always None)
    ) -> Latent:
        """Evaluate the network; a learned variance (second half of the output) is dropped."""
        output: Tensor = module(
            z_t.to(dtype_of(module)),
            timestep=timestep.round().long().clamp(min=0),  # t = 0, where encoders start
            class_labels=condition["label"],
            return_dict=False,
        )[0]
        return output[:, : self.latent_shape[0]]
