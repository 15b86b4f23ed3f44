"""The recipe's `gate` section: what a round's student must be to become a teacher, and what else.

It is the students' gate. That of an exported pipeline is another (`stages/gate.py`).
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
        raise ValueError("a remedy stands twice; say how often with extend.times or retry.times")
    if "stop" in value[:-1]:
        raise ValueError("nothing follows stop; put it last")
    return value


Bound = Annotated[
    float | StrictBool,
    BeforeValidator(
        _is_off_or_positive,
        json_schema_input_type=Annotated[float, Field(gt=0)] | Literal["off", False],
    ),
]
"""A number, or off."""

Remedies = Annotated[
    tuple[Remedy, ...],
    BeforeValidator(_as_list, json_schema_input_type=Remedy | list[Remedy]),
    AfterValidator(_each_once),
]
"""One remedy or several."""


class Extension(Document):
    """More updates for the failed student: `share` of the round's own, up to `times` times.

    They start from its weights, with a new optimiser and the round's rate annealed to 0 once more.
    """

    share: PositiveFloat = 0.5
    times: PositiveInt = 1


class Retrial(Document):
    """The round anew: each time the learning rate is multiplied by `factor`, up to `times` times.

    Targets and draws are those of the first time.
    """

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.3
    times: PositiveInt = 1


class GateRules(Document):
    """What one round's student is asked, against the round's own teacher, and what follows.

    Each bound may be `off`. They hold at every guidance weight the gate looks at. Distance and
    recall are in the features of the report's classifier; of data without classes, in those of the
    first of `evaluation.extractors`, and without one they are not asked.

    Attributes:
        distance: Frechet distance to the teacher's samples from other noise, at most so many times
            the floor, which is the teacher's own. At the default of 2 the student's error is as
            large as what chance makes of so few samples.
        rms: root mean square difference to the teacher's samples of the same noise, at most; pixels
            in [-1, 1]. The default is twice what the report asks of a faithful student. It is not
            asked where the student, or its teacher, is a stochastic student of several steps: noise
            is added on its way, so that no sample of the one belongs to a sample of the other.
        recall: of held-out data, at least so much of the teacher's. Two sets of 200 samples of one
            teacher differ by up to a fifth; the default leaves as much again for the student.
        w_consistency: whether the teacher's samples at the same w must be the nearest.
        finite: whether a round whose numbers go bad is the gate's to deal with.
        on_fail: reactions to a failure in the order in which they are tried: extend, retry, ask,
            stop; after the last one the run stops.
    """

    distance: Bound = 2.0
    rms: Bound = 0.3
    recall: Bound = 0.6
    w_consistency: bool = True
    finite: bool = True
    on_fail: Remedies = ("stop",)
    extend: Extension = Extension()
    retry: Retrial = Retrial()

    @property
    def asks_samples(self) -> bool:
        """Whether anything has to be drawn: some bound that samples are asked for is not off."""
        return self.w_consistency or any((self.distance, self.rms, self.recall))


class GateOverride(Document):
    """What is otherwise for some rounds; None is as for all."""

    distance: Bound | None = None
    rms: Bound | None = None
    recall: Bound | None = None
    w_consistency: bool | None = None
    finite: bool | None = None
    on_fail: Remedies | None = None
    extend: Extension | None = None
    retry: Retrial | None = None


class GateConfig(GateRules):
    """The gate of every round.

    Attributes:
        num_samples: drawn by teacher and student at each guidance weight.
        w: guidance weights; None for the ends and the middle of `evaluation.w`.
        ask_hours: how long `ask` waits for an answer before the run stops.
        rounds: what is otherwise, by round (`"3"`) or kind of round (`guidance`, `halving`). What
            is said of a round counts before what is said of its kind.
    """

    num_samples: PositiveInt = 200
    w: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] | None = None
    ask_hours: PositiveFloat = 24.0
    rounds: dict[str, GateOverride] = {}

    def rules(self, index: int, kind: Kind) -> GateRules:
        """The rules of one round."""
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


def _over(rule: Any, said: Any) -> Any:
    """A rule with what an override says of it; of an extension or a retrial the rest stays."""
    if not isinstance(said, Extension | Retrial):
        return said
    return rule.model_copy(update={name: getattr(said, name) for name in said.model_fields_set})
