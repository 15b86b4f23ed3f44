"""Distributions of the guidance weight and of the time in stage 1."""

import math
from statistics import NormalDist, fmean
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, model_validator

from pipeline.documents import Document

Share = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]


class WDistribution(Document):
    """Distribution of the guidance weight w in training: a range, or one or more values.

    w = 0 is unguided; diffusers' `guidance_scale` is 1 + w. A student is valid for the trained
    range or values only.
    """

    min: Weight = 0.0
    """Lower end of the range."""

    max: Weight = 4.0
    """Upper end of the range."""

    mass_at_min: Share = 0.1
    """Probability of exactly `min`, in [0, 1); otherwise w is uniform on the range."""

    values: Annotated[tuple[Weight, ...], Field(min_length=1)] | None = Field(
        default=None, exclude_if=lambda values: values is None
    )
    """Equally likely values of w instead of a range. Default: none, use the range."""

    @model_validator(mode="before")
    @classmethod
    def _values_imply_the_range(cls, tree: Any) -> Any:
        values = tree.get("values") if isinstance(tree, dict) else None
        if not isinstance(values, list | tuple) or not _are_numbers(values):
            return tree
        ends = {"min": min(values), "max": max(values)}
        wrong = [key for key, end in ends.items() if tree.get(key, end) != end]
        if wrong or tree.get("mass_at_min"):
            raise ValueError(
                f"w has values and {(*wrong, 'mass_at_min')[0]}; give either values, or min, max "
                "and mass_at_min"
            )
        kept = {"values": tuple(sorted(values))} if len(values) > 1 else {}
        return {**ends, "mass_at_min": 0, **kept}

    @model_validator(mode="after")
    def _is_a_range(self) -> "WDistribution":
        if self.min > self.max:
            raise ValueError(f"w range is reversed: min {self.min} is above max {self.max}")
        if self.values and len(set(self.values)) < len(self.values):
            raise ValueError(f"w has a value twice in {list(self.values)}; list each once")
        return self

    def allows(self, w: float) -> bool:
        """Whether students are trained at this w."""
        return w in self.values if self.values else self.min <= w <= self.max

    @property
    def unguided_share(self) -> float:
        """Return the probability of w = 0, at which a teacher takes one evaluation."""
        if self.values:
            return self.values.count(0.0) / len(self.values)
        if self.min > 0:
            return 0.0
        return self.mass_at_min if self.max > 0 else 1.0

    @property
    def middle(self) -> float:
        """Return a weight in the middle of the trained ones."""
        return self.values[len(self.values) // 2] if self.values else (self.min + self.max) / 2

    @property
    def in_words(self) -> str:
        """Return the trained weights as a phrase: `from 0 to 4`, `one of 0, 2, 4`."""
        if self.values:
            return f"one of {self.as_text[1:-1]}"
        return f"from {self.min:g} to {self.max:g}"

    @property
    def as_text(self) -> str:
        """Return the trained weights as a range or set: `[0.0, 4.0]`, `{0, 2, 4}`."""
        if self.values:
            return "{" + ", ".join(f"{value:g}" for value in self.values) + "}"
        return f"[{self.min}, {self.max}]"


def _are_numbers(values: Any) -> bool:
    numbers = [each for each in values if isinstance(each, int | float)]
    return len(numbers) == len(values) > 0 and not any(isinstance(each, bool) for each in values)


class TimeDistribution(Document):
    """Distribution of the time t in stage-1 training, in [0, 1]; t = 1 is noise.

    Source: Esser et al. 2024, arXiv:2403.03206, section 3.1 (logit-normal) and eq. 23 (shift).
    """

    distribution: Literal["uniform", "logit_normal"] = "uniform"
    """`uniform`, or `logit_normal`: sigmoid(mean + std n) of a standard normal n, which prefers
    intermediate times."""

    mean: float = 0.0
    """Location of `logit_normal`; positive values prefer noisy times."""

    std: PositiveFloat = 1.0
    """Scale of `logit_normal`."""

    shift: PositiveFloat = 1.0
    """Shift a of all times towards noise, t -> a t / (1 + (a - 1) t), for flow-matching teachers.
    It multiplies the shift of the teacher's schedule; the default 1 adds none."""

    @model_validator(mode="after")
    def _has_what_it_uses(self) -> "TimeDistribution":
        if self.distribution == "uniform" and (self.mean, self.std) != (0.0, 1.0):
            raise ValueError(
                "mean and std need distribution: logit_normal; a uniform distribution has neither"
            )
        return self

    @property
    def expected(self) -> float:
        """Return the mean time, by the midpoint rule over 1,000 quantiles."""
        units = [(index + 0.5) / 1000 for index in range(1000)]
        if self.distribution == "logit_normal":
            normal = NormalDist(self.mean, self.std)
            units = [(1 + math.tanh(normal.inv_cdf(unit) / 2)) / 2 for unit in units]
        return fmean(self.shift * unit / (1 + (self.shift - 1) * unit) for unit in units)


UNIFORM = TimeDistribution()
"""Uniform times without shift."""
