"""What the gate found of a round's student: documents only, quick to read.

The checks of a finished run, in its report, are in `pipeline/evaluation/verdicts/checks.py`.
"""

from pathlib import Path
from typing import Literal

from pipeline.documents import Document
from pipeline.evaluation.verdicts.checks import Check

VERDICT = "verdict.json"

DISTANCE, RMS, RECALL, FOLLOWS = "distance", "RMS", "recall", "follows w"

_UNITS = {DISTANCE: " times the floor", RECALL: " of the teacher's"}


class AtWeight(Document):
    """What was asked at one guidance weight."""

    w: float
    checks: tuple[Check, ...]


class RoundVerdict(Document):
    """What the gate found of one student.

    Attributes:
        title: of the round.
        num_samples: of each network at each guidance weight.
        seed: of the noise that teacher and student start from.
        teacher_steps: of the round's teacher; None if nothing was drawn.
        student_steps: of the student; None if nothing was drawn.
        found: by guidance weight.
        bad_numbers: where training, weights or samples were not finite; "" if they all were.
        unmeasured: what could not be asked, with the reason.
        extractor: in whose features distance and recall are; "" for the data set's own classifier.
        pictures: file names beside it, teacher and student side by side.
    """

    format_version: Literal[1] = 1
    title: str
    num_samples: int
    seed: int
    teacher_steps: int | None = None
    student_steps: int | None = None
    found: tuple[AtWeight, ...] = ()
    bad_numbers: str = ""
    unmeasured: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    extractor: str = ""

    @property
    def passed(self) -> bool:
        """Whether the student may become a teacher."""
        return not self.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it may not, one for each check that failed, in words."""
        bad = (self.bad_numbers,) if self.bad_numbers else ()
        failed = (
            _in_words(check, at.w, self.extractor)
            for at in self.found
            for check in at.checks
            if not check.passed
        )
        return (*bad, *failed)

    @property
    def numbers(self) -> dict[str, float]:
        """The worst of each kind over all guidance weights, for charts; follows w as a share."""
        values: dict[str, list[float]] = {}
        for at in self.found:
            for check in at.checks:
                value = float(check.value == at.w) if check.name == FOLLOWS else check.value
                values.setdefault(check.name, []).append(value)
        return {name.replace(" ", "_").lower(): _worst(name, v) for name, v in values.items()}


def read_verdict(folder: Path) -> RoundVerdict:
    """Read the verdict in a folder."""
    return RoundVerdict.model_validate_json((folder / VERDICT).read_text(encoding="utf-8"))


def _in_words(check: Check, w: float, extractor: str) -> str:
    if check.name == FOLLOWS:
        return f"at w = {w:g} it draws what its teacher draws at w = {check.value:g}"
    bound = f"at most {check.most:g}" if check.most is not None else f"at least {check.least:g}"
    unit = _UNITS.get(check.name, "")
    by = f" in the features of {extractor}" if extractor and unit else ""
    return f"{check.name} {check.value:.3g}{unit}{by} at w = {w:g} ({bound})"


def _worst(name: str, values: list[float]) -> float:
    if name == FOLLOWS:
        return sum(values) / len(values)
    return min(values) if name == RECALL else max(values)
