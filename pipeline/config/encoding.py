"""The recipe's `encoding` section: students that go from data to noise in a few steps."""

from pydantic import model_validator

from pipeline.config.training import Halving


class Encoding(Halving):
    """The encoder rounds, a chain of their own from the stage-1 student: each arrow is a round.

    An encoder takes its steps from data to noise. Pictures are encoded unguided, w = 0, so that is
    what it is trained for: what it encodes comes back by any decoder of as many steps.

    Source: Meng et al. 2022, arXiv:2210.03142, progressive distillation for encoding.
    """

    @model_validator(mode="after")
    def _is_plain(self) -> "Encoding":
        if self.sampler != "deterministic" or self.own_states:
            raise ValueError(
                "sampler and own_states are for students that draw; an encoder has neither"
            )
        return self
