"""The `encoding` section of a recipe: students that encode images to noise in a few steps."""

from typing import Any

from pydantic import model_validator

from pipeline.config.training import Halving


class Encoding(Halving):
    """Encoder rounds: a chain of students that map data to noise, one round per arrow of `steps`.

    The chain starts from the stage-1 student. Encoders are trained at w = 0; the noise is decoded
    by a deterministic student with the same number of steps, at any w.

    Source: Meng et al. 2022, arXiv:2210.03142, progressive distillation for encoding.
    """

    @model_validator(mode="before")
    @classmethod
    def _drop_w_of_zero(cls, tree: Any) -> Any:
        """Accept the `w` of earlier recipes, which was always w = 0."""
        if not isinstance(tree, dict) or "w" not in tree:
            return tree
        if tree["w"] != {"min": 0, "max": 0, "mass_at_min": 0}:
            raise ValueError("w: encoders are trained at w = 0 only; remove the key")
        return {key: value for key, value in tree.items() if key != "w"}

    @model_validator(mode="after")
    def _is_plain(self) -> "Encoding":
        if self.sampler != "deterministic" or self.on_policy_fraction:
            raise ValueError("sampler and on_policy_fraction do not apply to encoders; remove them")
        return self
