"""Verdict of the quality gate on a round's student. Documents only; fast to import.

The checks of a finished run, in its report, are in `pipeline/evaluation/verdicts/checks.py`.
"""

from pathlib import Path
from typing import Literal

from pipeline.documents import Document
from pipeline.evaluation.verdicts.checks import EFFECTIVE_W, Check, needed_text

VERDICT = "verdict.json"

DISTANCE, RMS, RECALL = "relative distance", "RMS", "recall"

_UNITS = {DISTANCE: "", RECALL: " of the teacher's"}


class WeightChecks(Document):
    """Checks at one guidance weight."""

    w: float
    checks: tuple[Check, ...]


class RoundVerdict(Document):
    """Verdict of the gate on one student.

    A student passes by the measured values, because the gate has to decide. `undecided` names the
    checks whose interval contains the bound.

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
            self._describe(check, at.w)
            for at in self.found
            for check in at.checks
            if not check.passed
        )
        return (*bad, *failed)

    @property
    def undecided(self) -> tuple[str, ...]:
        """Description of each passed check of which the samples cannot tell."""
        return tuple(
            self._describe(check, at.w)
            for at in self.found
            for check in at.checks
            if check.passed and check.answer == "cannot tell"
        )

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
        """Worst value of each check over all w, for charts; "effective w" as its deviation from w.

        The deviation is relative to w, at w > 0.
        """
        values: dict[str, list[float]] = {}
        for at in self.found:
            for check in at.checks:
                value = check.value
                if check.name == EFFECTIVE_W:
                    if at.w == 0:
                        continue
                    value = float(f"{abs(value / at.w - 1):.6g}")
                values.setdefault(check.name, []).append(value)
        return {name.replace(" ", "_").lower(): _worst(name, v) for name, v in values.items()}

    def _describe(self, check: Check, w: float) -> str:
        unit = _UNITS.get(check.name, "")
        by = (
            f" in the features of {self.extractor}"
            if self.extractor and check.name in _UNITS
            else ""
        )
        ends = ""
        if check.interval is not None:
            low, high = check.interval
            ends = f" ({low:.3g} to {high:.3g})"
        undecided = ""
        if check.answer == "cannot tell":
            needed = needed_text(check.samples_needed(self.num_samples))
            undecided = f"; {self.num_samples} samples cannot tell, {needed}"
        return (
            f"{check.name} {check.value:.3g}{ends}{unit}{by} at w = {w:g} "
            f"({_bound(check)}{undecided})"
        )


def read_verdict(folder: Path) -> RoundVerdict:
    """Load the verdict in a folder."""
    return RoundVerdict.model_validate_json((folder / VERDICT).read_text(encoding="utf-8"))


def _bound(check: Check) -> str:
    if check.least is not None and check.most is not None:
        return f"{check.least:g} to {check.most:g}"
    return f"at most {check.most:g}" if check.most is not None else f"at least {check.least:g}"


def _worst(name: str, values: list[float]) -> float:
    return min(values) if name == RECALL else max(values)
