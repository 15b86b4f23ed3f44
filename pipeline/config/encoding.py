"""The recipe's `encoding` section: students that go from data to noise in a few steps."""

from pydantic import model_validator

from pipeline.config.laws import GuidanceWeights
from pipeline.config.training import Halving


class Encoding(Halving):
    """The encoder rounds, a chain of their own from the stage-1 student: each arrow is a round.

    An encoder takes its steps from data to noise. It is asked unguided, so that is what it is
    trained for, unless `w` says more: what it encodes comes back by any decoder of the run.

    Source: Meng et al. 2022, arXiv:2210.03142, progressive distillation for encoding.
    """

    w: GuidanceWeights = GuidanceWeights(min=0, max=0, mass_at_min=0)

    @model_validator(mode="after")
    def _is_plain(self) -> "Encoding":
        if self.sampler != "deterministic" or self.own_states:
            raise ValueError(
                "sampler and own_states are for students that draw; an encoder has neither"
            )
        return self

    @model_validator(mode="after")
    def _knows_w_of_zero(self) -> "Encoding":
        if self.w.min > 0:
            raise ValueError(
                f"w.min {self.w.min:g}: an encoder is asked at w = 0; use min: 0, or drop w"
            )
        return self
