"""The `gate` section of a recipe: the quality gate between rounds.

A student must pass the gate to become the teacher of the next round.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    StrictBool,
)

from pipeline.documents import Document

Remedy = Literal["extend", "retry", "ask", "stop"]

Kind = Literal["guidance", "halving"]

KINDS: tuple[Kind, ...] = ("guidance", "halving")


def _is_off_or_positive(value: object) -> object:
    if value is False or (isinstance(value, str) and value.lower() in ("off", "no")):
        return False
    try:
        is_positive = value is not True and float(str(value)) > 0
    except ValueError:
        is_positive = False
    if not is_positive:
        raise ValueError("expected a number above 0, or `off` for no bound")
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _each_once(value: tuple[Remedy, ...]) -> tuple[Remedy, ...]:
    if len(set(value)) < len(value):
        raise ValueError("a reaction is listed twice; use extend.times or retry.times to repeat it")
    if "stop" in value[:-1]:
        raise ValueError("`stop` must come last; remove the reactions after it")
    return value


Bound = Annotated[
    float | StrictBool,
    BeforeValidator(
        _is_off_or_positive,
        json_schema_input_type=Annotated[float, Field(gt=0)] | Literal["off", False],
    ),
]
"""A positive number, or False for no bound."""

Remedies = Annotated[
    tuple[Remedy, ...],
    BeforeValidator(_as_list, json_schema_input_type=Remedy | list[Remedy]),
    AfterValidator(_each_once),
]
"""One reaction to a failure, or several in order."""


class Extension(Document):
    """`on_fail: extend`: train the failed student for more updates.

    Training continues from its weights, with a new optimiser and a learning rate that is annealed
    to 0 again.
    """

    share: PositiveFloat = 0.5
    """Additional updates, as a fraction of the round's updates."""

    times: PositiveInt = 1
    """Maximum number of extensions per round."""


class Retry(Document):
    """`on_fail: retry`: train the round again from its teacher, at a lower learning rate.

    Targets and random draws are those of the first attempt.
    """

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Factor on the learning rate, applied again at each retry."""

    times: PositiveInt = 1
    """Maximum number of retries per round."""


class GateRules(Document):
    """Checks on the student of one round against its teacher, and the reactions to a failure.

    Checks apply at every guidance weight of the gate. A bound that is `off` is reported, but not
    checked. Distance and recall use the features of the evaluation classifier; for data without
    classes those of the first of `evaluation.extractors`, and without one they are not checked.
    """

    relative_distance: Bound = 1.5
    """Maximum relative distance to held-out images: 1 + the difference of the student's and the
    teacher's Frechet distance / the teacher's without the bias of the number of samples. At w > 0
    also bounded below, by 2 minus this. `off` for none."""

    rms: Bound = 0.3
    """Maximum root mean square difference between student and teacher samples from the same noise,
    in pixel values in [-1, 1]. `off` for none. Not checked if student or teacher is a stochastic
    student of several steps."""

    recall: Bound = 0.6
    """Minimum recall of held-out data, as a fraction of the teacher's recall. `off` for none. Two
    sets of 200 teacher samples differ by up to a fifth."""

    effective_w: Bound = 0.25
    """Maximum deviation of the effective w from w, as a fraction of w, at w > 0: the w at which the
    teacher's samples match the student's best. `off` for none."""

    finite: bool = True
    """Whether a round whose loss or weights are not finite counts as failed at the gate; otherwise
    the run stops."""

    on_fail: Remedies = ("stop",)
    """Reaction to a failure, or several in the order in which they are tried: `extend` training,
    `retry` at a lower learning rate, `ask` a person, `stop` the run. After the last one the run
    stops."""

    extend: Extension = Extension()
    """Settings of `on_fail: extend`."""

    retry: Retry = Retry()
    """Settings of `on_fail: retry`."""

    @property
    def asks_samples(self) -> bool:
        """Whether any check needs samples."""
        return any((self.relative_distance, self.rms, self.recall, self.effective_w))


class GateOverride(Document):
    """Gate settings of some rounds. A missing key keeps its value in `gate`."""

    relative_distance: Bound | None = None
    """Overrides `gate.relative_distance`."""

    rms: Bound | None = None
    """Overrides `gate.rms`."""

    recall: Bound | None = None
    """Overrides `gate.recall`."""

    effective_w: Bound | None = None
    """Overrides `gate.effective_w`."""

    finite: bool | None = None
    """Overrides `gate.finite`."""

    on_fail: Remedies | None = None
    """Overrides `gate.on_fail`."""

    extend: Extension | None = None
    """Overrides the given keys of `gate.extend`."""

    retry: Retry | None = None
    """Overrides the given keys of `gate.retry`."""


class GateConfig(GateRules):
    """The quality gate of every round."""

    num_samples: Annotated[int, Field(ge=4)] = 200
    """Samples of teacher and student at each guidance weight."""

    w: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] | None = None
    """Guidance weights of the checks. Default: smallest, middle and largest of `evaluation.w`."""

    ask_hours: PositiveFloat = 24.0
    """Hours that `on_fail: ask` waits for an approval or a rejection; then the run stops."""

    rounds: dict[str, GateOverride] = {}
    """Settings by kind of round (`guidance`, `halving`) or by its index (`"3"`), which takes
    precedence."""

    def rules(self, index: int, kind: Kind) -> GateRules:
        """Return the rules of one round."""
        values = {name: getattr(self, name) for name in GateRules.model_fields}
        for key in (kind, str(index)):
            override = self.rounds.get(key)
            if override:
                values |= {
                    name: _over(values[name], value)
                    for name in GateRules.model_fields
                    if (value := getattr(override, name)) is not None
                }
        return GateRules(**values)


def _over(rule: Any, override: Any) -> Any:
    """Apply an override; an extension or retry keeps the keys that are not overridden."""
    if not isinstance(override, Extension | Retry):
        return override
    return rule.model_copy(
        update={name: getattr(override, name) for name in override.model_fields_set}
    )
