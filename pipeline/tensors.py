"""Type aliases for tensor shapes.

Shapes are documentation in production and are checked in tests (jaxtyping with beartype). `b` is
the batch size; `*latent` are all other dimensions (channels first), on which no formula depends.
"""

from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

Latent: TypeAlias = Float[Tensor, "b *latent"]
PerSample: TypeAlias = Float[Tensor, "b"]
Condition: TypeAlias = dict[str, Tensor]
"""Conditioning inputs of a network, one row per sample in every tensor, keyed by input."""


def per_sample(coefficient: PerSample, like: Latent) -> Tensor:
    """Reshape a per-sample coefficient `[b]` to broadcast against `like` `[b, *latent]`.

    The coefficient is cast to the precision of the product: that of `like`, but at least float32.
    Until here it keeps its own precision (levels are float64).
    """
    dtype = like.dtype if like.dtype.itemsize >= 4 else coefficient.float().dtype
    return coefficient.to(device=like.device, dtype=dtype).reshape(-1, *[1] * (like.ndim - 1))
