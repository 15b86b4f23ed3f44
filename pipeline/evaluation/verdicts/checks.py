"""Checks of a student against its teacher in a report.

No single metric suffices. Class means have perfect accuracy and no recall; a student that ignores
w is nearer to real images than a strongly guided teacher. Every report therefore includes such
students as negative controls, and verdicts are void if a control passes all checks.
"""

from collections.abc import Sequence
from typing import Literal

from pipeline.documents import Document
from pipeline.evaluation.scores import Scores

# ratios to the teacher's; distances are small at w = 0, so the same error is a larger share there
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

UNPAIRED_RMS_NOTE = (
    "RMS is not checked for stochastic students with several steps: their sampler adds noise, so "
    "their samples do not correspond to the teacher's"
)

JudgedNetwork = Literal["student", "w forced to 0", "class means", "mean image"]


class Check(Document):
    """One check of a sample set.

    Attributes:
        name: name of the check.
        value: measured value.
        least: smallest value that passes; None for no lower bound.
        most: largest value that passes; None for no upper bound. A check without bounds is
            reported only.
    """

    name: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def is_bounded(self) -> bool:
        """Whether the check has a bound."""
        return self.least is not None or self.most is not None

    @property
    def passed(self) -> bool:
        """Whether the value lies within its bounds."""
        above = self.least is None or self.value >= self.least
        return above and (self.most is None or self.value <= self.most)

    @property
    def as_markdown(self) -> str:
        """The value in Markdown, bold if out of bounds."""
        if not self.is_bounded:
            return "not checked"
        return f"{self.value:.3g}" if self.passed else f"**{self.value:.3g}**"


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
    def passed(self) -> bool:
        """Whether all checks pass."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the failed checks."""
        return tuple(check.name for check in self.checks if not check.passed)


def void_reason(verdicts: Sequence[Verdict]) -> str:
    """Return why the verdicts are void, in a sentence; empty if every control fails a check."""
    passing = [each for each in verdicts if each.judged != "student" and each.passed]
    if not passing:
        return ""
    controls = "; ".join(f"{each.title}, at w = {each.w:g}" for each in passing)
    return (
        f"Verdicts are void: negative controls pass all checks ({controls}), "
        "so the checks cannot tell good students from bad ones."
    )


def check_samples(
    judged: JudgedNetwork,
    title: str,
    w: float,
    scores: Scores,
    teacher: Scores,
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
        is_paired: whether the sampler adds no noise after the starting noise. Otherwise samples
            do not correspond to the teacher's, and RMS is not checked.
    """
    return Verdict(
        judged=judged,
        title=title,
        w=w,
        floor_factor=over(scores.distance_to_teacher, teacher.distance_to_teacher),
        checks=_checks(w, scores, teacher, is_paired=is_paired),
        scores=None if judged == "student" else scores,
    )


def _checks(w: float, scores: Scores, teacher: Scores, *, is_paired: bool) -> tuple[Check, ...]:
    margin = SCORE_MARGIN_UNGUIDED if w == 0 else SCORE_MARGIN
    found = [
        distance_check(w, scores.distance_to_real, teacher.distance_to_real),
        Check(
            name="score",
            value=_ratio(scores.inception_score, teacher.inception_score),
            least=round(1 - margin, 6),
            most=round(1 + margin, 6),
        ),
        recall_check(scores.recall, teacher.recall),
        Check(
            name="accuracy",
            value=_ratio(scores.class_accuracy, teacher.class_accuracy),
            least=LEAST_ACCURACY,
        ),
        Check(
            name="not copied",
            value=_ratio(scores.nearest_training, teacher.nearest_training),
            least=LEAST_NEAREST,
        ),
    ]
    if scores.prompt_accuracy is not None and teacher.prompt_accuracy is not None:
        ratio = _ratio(scores.prompt_accuracy["all"], teacher.prompt_accuracy["all"])
        found.append(Check(name="prompt", value=ratio, least=LEAST_ACCURACY))
    if scores.rms_to_teacher is not None:
        found.append(rms_check(scores.rms_to_teacher, is_paired=is_paired))
    if scores.nearest_teacher_w is not None:
        found.append(w_consistency_check(w, scores.nearest_teacher_w))
    return tuple(found)


def distance_check(w: float, value: float, teacher: float) -> Check:
    """Check the distance to real images, as a ratio to the teacher's."""
    most = MOST_DISTANCE_UNGUIDED if w == 0 else MOST_DISTANCE
    return Check(name="distance", value=_ratio(value, teacher), most=most)


def recall_check(value: float, teacher: float) -> Check:
    """Check the recall (diversity), as a ratio to the teacher's."""
    return Check(name="recall", value=_ratio(value, teacher), least=LEAST_RECALL)


def rms_check(value: float, *, is_paired: bool) -> Check:
    """Check the RMS to the teacher's samples from the same noise; bounded for pairs only."""
    return Check(name="RMS", value=value, most=MOST_RMS if is_paired else None)


def w_consistency_check(w: float, nearest: float, *, is_bounded: bool = True) -> Check:
    """Check that the nearest teacher samples are those of the same w."""
    bound = w if is_bounded else None
    return Check(name="w consistency", value=nearest, least=bound, most=bound)


def over(value: float | None, other: float | None) -> float | None:
    """Divide, with None for missing numbers."""
    return None if value is None or other is None else _ratio(value, other)


def _ratio(value: float, other: float) -> float:
    """Divide by the teacher's value; 1 if that is 0, which passes every check."""
    if other == 0:
        return 1.0
    return float(f"{value / other:.6g}")
