"""The recipe's `encoding` section: students that go from data to noise in a few steps."""

from typing import Any

from pydantic import model_validator

from pipeline.config.training import Halving


class Encoding(Halving):
    """The encoder rounds, a chain of their own from the stage-1 student: each arrow is a round.

    An encoder takes its steps from data to noise. Pictures are encoded unguided, w = 0, so that is
    what it is trained for: what it encodes comes back by any decoder of as many steps.

    Source: Meng et al. 2022, arXiv:2210.03142, progressive distillation for encoding.
    """

    @model_validator(mode="before")
    @classmethod
    def _is_asked_unguided(cls, tree: Any) -> Any:
        """Recipes of before state w = 0, and nothing else was ever asked of an encoder."""
        if not isinstance(tree, dict) or "w" not in tree:
            return tree
        if tree["w"] != {"min": 0, "max": 0, "mass_at_min": 0}:
            raise ValueError("w: pictures are encoded at w = 0, whatever they become; leave it out")
        return {key: value for key, value in tree.items() if key != "w"}

    @model_validator(mode="after")
    def _is_plain(self) -> "Encoding":
        if self.sampler != "deterministic" or self.on_policy_fraction:
            raise ValueError(
                "sampler and on_policy_fraction are for students that draw; an encoder has neither"
            )
        return self
