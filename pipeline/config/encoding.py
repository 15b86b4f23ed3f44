"""The `encoding` section of a recipe: students that encode images to noise in a few steps."""

from pydantic import model_validator

from pipeline.config.training import Halving


class Encoding(Halving):
    """Encoder rounds: a chain of students that map data to noise, one round per arrow of `steps`.

    The chain starts from the stage-1 student. Encoders are trained at w = 0; the noise is decoded
    by a deterministic student with the same number of steps, at any w.

    Source: Meng et al. 2022, arXiv:2210.03142, progressive distillation for encoding.
    """

    @model_validator(mode="after")
    def _is_plain(self) -> "Encoding":
        if self.sampler != "deterministic" or self.on_policy_fraction:
            raise ValueError("sampler and on_policy_fraction do not apply to encoders; remove them")
        return self
