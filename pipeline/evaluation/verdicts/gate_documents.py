"""Verdict of the quality gate on a round's student. Documents only; fast to import.

The checks of a finished run, in its report, are in `pipeline/evaluation/verdicts/checks.py`.
"""

from pathlib import Path
from typing import Literal

from pipeline.documents import Document
from pipeline.evaluation.verdicts.checks import Check

VERDICT = "verdict.json"

DISTANCE, RMS, RECALL, W_CONSISTENCY = "distance", "RMS", "recall", "w consistency"

_UNITS = {DISTANCE: " times the noise floor", RECALL: " of the teacher's"}


class WeightChecks(Document):
    """Checks at one guidance weight."""

    w: float
    checks: tuple[Check, ...]


class RoundVerdict(Document):
    """Verdict of the gate on one student.

    Attributes:
        title: title of the round.
        num_samples: samples of each network at each guidance weight.
        seed: seed of the starting noise of teacher and student.
        teacher_steps: sampling steps of the round's teacher; None if nothing was sampled.
        student_steps: sampling steps of the student; None if nothing was sampled.
        found: checks, by guidance weight.
        bad_numbers: location of non-finite values in training, weights or samples; "" if none.
        unmeasured: checks that do not apply, with the reason.
        extractor: extractor of distance and recall; "" for the data set's own classifier.
        pictures: names of the figure files beside the verdict, teacher and student side by side.
    """

    format_version: Literal[1] = 1
    title: str
    num_samples: int
    seed: int
    teacher_steps: int | None = None
    student_steps: int | None = None
    found: tuple[WeightChecks, ...] = ()
    bad_numbers: str = ""
    unmeasured: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    extractor: str = ""

    @property
    def passed(self) -> bool:
        """Whether the student may become the next round's teacher."""
        return not self.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        """Description of each failed check."""
        bad = (self.bad_numbers,) if self.bad_numbers else ()
        failed = (
            _describe(check, at.w, self.extractor)
            for at in self.found
            for check in at.checks
            if not check.passed
        )
        return (*bad, *failed)

    @property
    def failures(self) -> frozenset[str]:
        """Identity of each failed check, without its values and bounds."""
        bad = {"finite"} if self.bad_numbers else set()
        return frozenset(bad).union(
            f"{check.name} at w = {at.w:g}"
            for at in self.found
            for check in at.checks
            if not check.passed
        )

    @property
    def numbers(self) -> dict[str, float]:
        """Worst value of each check over all w, for charts; "w consistency" as a share of the w."""
        values: dict[str, list[float]] = {}
        for at in self.found:
            for check in at.checks:
                value = float(check.value == at.w) if check.name == W_CONSISTENCY else check.value
                values.setdefault(check.name, []).append(value)
        return {name.replace(" ", "_").lower(): _worst(name, v) for name, v in values.items()}


def read_verdict(folder: Path) -> RoundVerdict:
    """Load the verdict in a folder."""
    return RoundVerdict.model_validate_json((folder / VERDICT).read_text(encoding="utf-8"))


def _describe(check: Check, w: float, extractor: str) -> str:
    if check.name == W_CONSISTENCY:
        return f"samples at w = {w:g} match the teacher's at w = {check.value:g}"
    bound = f"at most {check.most:g}" if check.most is not None else f"at least {check.least:g}"
    unit = _UNITS.get(check.name, "")
    by = f" in the features of {extractor}" if extractor and unit else ""
    return f"{check.name} {check.value:.3g}{unit}{by} at w = {w:g} ({bound})"


def _worst(name: str, values: list[float]) -> float:
    if name == W_CONSISTENCY:
        return sum(values) / len(values)
    return min(values) if name == RECALL else max(values)
