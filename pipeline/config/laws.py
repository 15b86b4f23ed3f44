"""What stage 1 draws by chance: the laws of the guidance weight and of the time."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, model_validator

from pipeline.documents import Document

Share = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]


class WDistribution(Document):
    """The law of the guidance weight w in training: a range, or one or a few values.

    On a range it is uniform, plus a point mass at `min`. Of `values` each is as likely; the student
    is then good for these and no others. w = 0 is unguided; diffusers' guidance_scale is 1 + w.
    """

    min: Weight = 0.0
    max: Weight = 4.0
    mass_at_min: Share = 0.1
    values: Annotated[tuple[Weight, ...], Field(min_length=1)] | None = Field(
        default=None, exclude_if=lambda values: values is None
    )

    @model_validator(mode="before")
    @classmethod
    def _values_say_the_ends(cls, tree: Any) -> Any:
        values = tree.get("values") if isinstance(tree, dict) else None
        if not isinstance(values, list | tuple) or not _are_numbers(values):
            return tree
        ends = {"min": min(values), "max": max(values)}
        wrong = [key for key, end in ends.items() if tree.get(key, end) != end]
        if wrong or tree.get("mass_at_min"):
            raise ValueError(
                f"w has values and {(*wrong, 'mass_at_min')[0]}: values are each as likely and say "
                "where the range ends; keep one of the two ways"
            )
        kept = {"values": tuple(sorted(values))} if len(values) > 1 else {}
        return {**ends, "mass_at_min": 0, **kept}

    @model_validator(mode="after")
    def _is_a_range(self) -> "WDistribution":
        if self.min > self.max:
            raise ValueError(f"w range is reversed: min {self.min} is above max {self.max}")
        if self.values and len(set(self.values)) < len(self.values):
            raise ValueError(f"w has a value twice in {list(self.values)}; name each once")
        return self

    def allows(self, w: float) -> bool:
        """Whether a student of this law was trained at w."""
        return w in self.values if self.values else self.min <= w <= self.max

    @property
    def middle(self) -> float:
        """A weight in the middle of those it allows."""
        return self.values[len(self.values) // 2] if self.values else (self.min + self.max) / 2

    @property
    def in_words(self) -> str:
        """The weights it allows, in a sentence."""
        if self.values:
            return f"one of {self.said[1:-1]}"
        return f"from {self.min:g} to {self.max:g}"

    @property
    def said(self) -> str:
        """The weights it allows, as a set."""
        if self.values:
            return "{" + ", ".join(f"{value:g}" for value in self.values) + "}"
        return f"[{self.min}, {self.max}]"


def _are_numbers(values: Any) -> bool:
    numbers = [each for each in values if isinstance(each, int | float)]
    return len(numbers) == len(values) > 0 and not any(isinstance(each, bool) for each in values)


class TimeDistribution(Document):
    """The law of the time t that stage 1 is trained at.

    `logit_normal` is sigmoid(mean + std n) of a standard normal n: more of the middle, where most
    is to be learnt, and little of the ends. `shift` a then moves every time towards noise,
    t_m = a t_n / (1 + (a - 1) t_n): what a flow-matching teacher of larger images was trained with.
    It comes on top of the schedule's own `shift`: a here and b there are one of a b in all, so
    leave it at 1 where the teacher's schedule has the shift that you want.

    Source: Esser et al. 2024, arXiv:2403.03206, section 3.1 (logit-normal) and eq. 23 (shift).
    """

    distribution: Literal["uniform", "logit_normal"] = "uniform"
    mean: float = 0.0
    std: PositiveFloat = 1.0
    shift: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _has_what_it_uses(self) -> "TimeDistribution":
        if self.distribution == "uniform" and (self.mean, self.std) != (0.0, 1.0):
            raise ValueError(
                "mean and std need distribution: logit_normal; a uniform distribution has neither"
            )
        return self


UNIFORM = TimeDistribution()
"""The plain law."""
