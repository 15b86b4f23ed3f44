"""What the data gives to a round: clean samples and what they are conditioned on."""

from dataclasses import dataclass

from pipeline.tensors import Condition, Latent


@dataclass(frozen=True)
class Batch:
    """Clean samples from the data.

    Attributes:
        x: `[b, channels, height, width]` float32, pixels in [-1, 1].
        condition: what each sample is conditioned on.
    """

    x: Latent
    condition: Condition
