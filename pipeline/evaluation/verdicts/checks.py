"""Checks of a student against its teacher in a report.

No single metric suffices. Class means have perfect accuracy and no recall; a student that ignores
w is nearer to real images than a strongly guided teacher. Every report therefore includes such
students as negative controls, and verdicts are void if a control is not rejected.

A check has three answers. A student passes it (yes) if the whole 95 % interval of the value is
within the bounds, and fails it (no) if the whole interval is outside. Otherwise the samples cannot
tell, and about as many as `Check.samples_needed` would.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pipeline.documents import Document
from pipeline.evaluation.scores import Range, Scores

if TYPE_CHECKING:  # numpy and scipy take time to import
    from pipeline.evaluation.metrics.bootstrap import Estimate

# Bounds are relative to the teacher's numbers.
# A Frechet distance is a squared length, so that a tenth is a twentieth of the length. At w = 0 the
# distance is small: a fifth is what the demo's teacher loses itself from 64 to 16 steps (1.18).
# With guidance a smaller distance is as wrong as a larger one: the student is guided less.
MOST_DISTANCE = 1.1
MOST_DISTANCE_UNGUIDED = 1.2
SCORE_MARGIN = 0.03
SCORE_MARGIN_UNGUIDED = 0.05
LEAST_RECALL = 0.9
LEAST_ACCURACY = 0.98
# at least the teacher's distance to the training set; a mean of 500 samples is accurate to 1.5 %
LEAST_NEAREST = 0.98
# for pixels in [-1, 1]; just below the change per unit of w in the digits demo, 0.17
MOST_RMS = 0.15
# of the w requested; up to w = 4 it changes the demo's samples by less than half of MOST_RMS
EFFECTIVE_W_MARGIN = 0.1

EFFECTIVE_W = "effective w"

UNPAIRED_RMS_NOTE = (
    "RMS is not checked for stochastic students with several steps: their sampler adds noise, so "
    "their samples do not correspond to the teacher's"
)

JudgedNetwork = Literal["student", "w forced to 0", "class means", "mean image"]

Answer = Literal["yes", "no", "cannot tell"]

MOST_SAMPLES = 10**6
"""Largest number of samples that is worth naming."""


class Check(Document):
    """One check of a sample set.

    Attributes:
        name: name of the check.
        value: measured value.
        least: smallest value that passes; None for no lower bound.
        most: largest value that passes; None for no upper bound. A check without bounds is
            reported only.
        interval: 95 % interval of the value; None if it has none.
    """

    name: str
    value: float
    least: float | None = None
    most: float | None = None
    interval: Range | None = None

    @property
    def is_bounded(self) -> bool:
        """Whether the check has a bound."""
        return self.least is not None or self.most is not None

    @property
    def passed(self) -> bool:
        """Whether the value lies within its bounds, whatever its interval."""
        return self._contains(self.value, self.value)

    @property
    def answer(self) -> Answer:
        """Whether the interval lies within the bounds, outside, or neither."""
        low, high = self.interval or (self.value, self.value)
        if self._contains(low, high):
            return "yes"
        is_below = self.least is not None and high < self.least
        is_above = self.most is not None and low > self.most
        return "no" if is_below or is_above else "cannot tell"

    def samples_needed(self, num: int) -> int | None:
        """Return about how many samples would tell; None if these do, or over a million.

        An interval narrows with the root of the number of samples. It has to end between the value
        and the bound.

        Args:
            num: number of samples of the value.
        """
        if self.answer != "cannot tell" or self.interval is None:
            return None
        low, high = self.interval
        found = 0.0
        for bound in (self.least, self.most):
            if bound is None or not low <= bound <= high:
                continue
            gap = abs(self.value - bound)
            reach = high - self.value if self.value < bound else self.value - low
            found = max(found, num * (reach / gap) ** 2 if gap else math.inf)
        if not found <= MOST_SAMPLES:
            return None
        digits = len(str(round(found)))
        unit = int(10 ** max(0, digits - 2))  # two significant digits
        return math.ceil(found / unit - 1e-6) * unit  # 4 and a rounding error are 4

    def _contains(self, low: float, high: float) -> bool:
        above = self.least is None or low >= self.least
        return above and (self.most is None or high <= self.most)

    @property
    def as_markdown(self) -> str:
        """The value in Markdown, bold if out of bounds, with a question mark if undecided."""
        if not self.is_bounded:
            return "not checked"
        marked = {"yes": "{}", "no": "**{}**", "cannot tell": "{} ?"}[self.answer]
        return marked.format(f"{self.value:.3g}")


class Verdict(Document):
    """All checks of one sample set at one guidance weight.

    Attributes:
        judged: kind of the set: a student, or a negative control.
        title: display name.
        w: guidance weight.
        floor_factor: distance to the teacher over the noise floor, at least about 1. Reported
            without a bound, because it grows with the number of samples.
        checks: the checks.
        scores: scores of a control; those of a student are in its row.
    """

    judged: JudgedNetwork
    title: str
    w: float
    floor_factor: float | None
    checks: tuple[Check, ...]
    scores: Scores | None = None

    @property
    def answer(self) -> Answer:
        """Whether all checks pass, one fails, or neither is known."""
        answers = {check.answer for check in self.checks}
        return "no" if "no" in answers else "cannot tell" if "cannot tell" in answers else "yes"

    @property
    def passed(self) -> bool:
        """Whether all checks pass."""
        return self.answer == "yes"

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the failed checks."""
        return tuple(check.name for check in self.checks if check.answer == "no")

    def samples_needed(self, num: int) -> int | None:
        """Return about how many samples would tell of every check; None if none, or too many."""
        undecided = [check for check in self.checks if check.answer == "cannot tell"]
        found = [check.samples_needed(num) for check in undecided]
        return max((each or MOST_SAMPLES + 1 for each in found), default=None)


def needed_text(needed: int | None) -> str:
    """Describe the number of samples that would tell."""
    if needed is None or needed > MOST_SAMPLES:
        return "more than a million samples would tell"
    return f"about {needed:,} samples would tell"


def void_reason(verdicts: Sequence[Verdict]) -> str:
    """Return why the verdicts are void, in a sentence; empty if every control fails a check."""
    passing = [each for each in verdicts if each.judged != "student" and each.answer != "no"]
    if not passing:
        return ""
    controls = "; ".join(f"{each.title}, at w = {each.w:g}" for each in passing)
    return (
        f"Verdicts are void: negative controls fail no check ({controls}), "
        "so the checks cannot tell good students from bad ones."
    )


def check_samples(
    judged: JudgedNetwork,
    title: str,
    w: float,
    scores: Scores,
    teacher: Scores,
    relative: Mapping[str, "Estimate"],
    *,
    is_paired: bool = True,
) -> Verdict:
    """Compute all checks of a sample set.

    Args:
        judged: kind of the set.
        title: display name.
        w: guidance weight.
        scores: scores of the samples.
        teacher: scores of the teacher's reference at the same w, classes and noise.
        relative: numbers relative to the teacher's, with paired intervals, by name of the check.
        is_paired: whether the sampler adds no noise after the starting noise. Otherwise samples
            do not correspond to the teacher's, and RMS is not checked.
    """
    checks = [check for name in relative if (check := relative_check(name, w, relative[name]))]
    if scores.rms_to_teacher is not None:
        rms = scores.rms_to_teacher, scores.rms_to_teacher_interval
        checks.append(rms_check(*rms, is_paired=is_paired))
    if scores.effective_w is not None:
        checks.append(effective_w_check(w, scores.effective_w, scores.effective_w_interval))
    return Verdict(
        judged=judged,
        title=title,
        w=w,
        floor_factor=over(scores.distance_to_teacher, teacher.distance_to_teacher),
        checks=tuple(checks),
        scores=None if judged == "student" else scores,
    )


def relative_check(name: str, w: float, found: "Estimate") -> Check:
    """Check a number relative to the teacher's."""
    margin = SCORE_MARGIN if w else SCORE_MARGIN_UNGUIDED
    most = MOST_DISTANCE if w else MOST_DISTANCE_UNGUIDED
    bounds: dict[str, tuple[float | None, float | None]] = {
        "distance": (round(2 - most, 6) if w else None, most),
        "score": (round(1 - margin, 6), round(1 + margin, 6)),
        "recall": (LEAST_RECALL, None),
        "accuracy": (LEAST_ACCURACY, None),
        "not copied": (LEAST_NEAREST, None),
        "prompt": (LEAST_ACCURACY, None),
    }
    least, most_passing = bounds[name]
    return estimated_check(name, found, least, most_passing)


def estimated_check(name: str, found: "Estimate", least: float | None, most: float | None) -> Check:
    """Check a value with its interval, both rounded to six significant digits."""
    value, interval = found
    ends = (_rounded(interval.low), _rounded(interval.high))
    return Check(name=name, value=_rounded(value), least=least, most=most, interval=ends)


def rms_check(value: float, interval: Range | None, *, is_paired: bool) -> Check:
    """Check the RMS to the teacher's samples from the same noise; bounded for pairs only."""
    most = MOST_RMS if is_paired else None
    return Check(name="RMS", value=value, most=most, interval=interval)


def effective_w_check(w: float, value: float, interval: Range | None) -> Check:
    """Check that the effective w is that requested; bounded at w > 0 only."""
    least, most = effective_w_bounds(w, EFFECTIVE_W_MARGIN)
    return Check(name=EFFECTIVE_W, value=value, least=least, most=most, interval=interval)


def effective_w_bounds(w: float, margin: float) -> tuple[float | None, float | None]:
    """Return the bounds of the effective w for a relative margin; none at w = 0."""
    return (_rounded(w * (1 - margin)), _rounded(w * (1 + margin))) if w else (None, None)


def over(value: float | None, other: float | None) -> float | None:
    """Divide, with None for missing numbers; 1 if the divisor is 0."""
    if value is None or other is None:
        return None
    return _rounded(value / other) if other else 1.0


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
