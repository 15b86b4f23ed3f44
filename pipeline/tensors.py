"""Names for the tensor shapes that travel through the library.

Shapes are documentation in production and are checked in tests (jaxtyping with beartype). `b` is
the batch; `*latent` is everything after it (channels first), which no formula needs to know.
"""

from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

Latent: TypeAlias = Float[Tensor, "b *latent"]
PerSample: TypeAlias = Float[Tensor, "b"]
Condition: TypeAlias = dict[str, Tensor]
"""What a network is conditioned on, one entry per sample in every tensor; keys are the family's."""


def per_sample(coefficient: PerSample, like: Latent) -> Tensor:
    """Shape a per-sample coefficient `[b]` so that it multiplies `like` `[b, *latent]`.

    The coefficient keeps its precision up to this point (levels are float64) and is cast to the
    precision of the product: that of `like`, but at least float32.
    """
    dtype = like.dtype if like.dtype.itemsize >= 4 else coefficient.float().dtype
    return coefficient.to(device=like.device, dtype=dtype).reshape(-1, *[1] * (like.ndim - 1))
