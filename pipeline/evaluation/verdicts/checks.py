"""Is a student as good as its teacher? Checks that each fail a kind of student that others pass.

No single number decides. Class means have perfect accuracy and no recall; a student that ignores w
has a better distance to real images than a strongly guided teacher. So every report also holds
controls, which are such students, and a report in which a control passes judges nothing.
"""

from collections.abc import Sequence
from typing import Literal

from pipeline.documents import Document
from pipeline.evaluation.scores import Scores

# ratios to the teacher's; at w = 0 distances are small, so that the same error is a larger share
MOST_DISTANCE = 1.1
MOST_DISTANCE_UNGUIDED = 1.2
SCORE_MARGIN = 0.03
SCORE_MARGIN_UNGUIDED = 0.05
LEAST_RECALL = 0.9
LEAST_ACCURACY = 0.98
# no nearer to the training set than the teacher; the mean of 500 samples is known to 1.5 %
LEAST_NEAREST = 0.98
# in pixels of [-1, 1]: just below what one unit of w changes in the digits demo, .17
MOST_RMS = 0.15

NOT_PAIRED = (
    "RMS is not asked of stochastic students of several steps: noise is added on their way, so "
    "that no sample of theirs belongs to one of the teacher's"
)

Judged = Literal["student", "w forced to 0", "class means", "mean image"]


class Check(Document):
    """One question about a set of samples.

    Attributes:
        name: what was asked.
        value: what was found.
        least: the smallest value that passes; None for no bound.
        most: the largest value that passes; None for no bound. Without either it is stated only.
    """

    name: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def is_asked(self) -> bool:
        """Whether there is a bound that the value could miss."""
        return self.least is not None or self.most is not None

    @property
    def passed(self) -> bool:
        """Whether the value lies within its bounds."""
        above = self.least is None or self.value >= self.least
        return above and (self.most is None or self.value <= self.most)

    @property
    def in_a_table(self) -> str:
        """Its value in Markdown, bold where it misses a bound."""
        if not self.is_asked:
            return "not asked"
        return f"{self.value:.3g}" if self.passed else f"**{self.value:.3g}**"


class Verdict(Document):
    """All checks of one set of samples at one guidance weight.

    Attributes:
        judged: a student, or the control that stands for a bad one.
        title: what a person calls it.
        w: the guidance weight it was asked for.
        floor_factor: distance to the teacher's samples over the teacher's own from other noise,
            which no student is below; stated, not bounded, for it grows with the samples counted.
        checks: what was asked of it.
        scores: what was measured on a control; a student's are in its row.
    """

    judged: Judged
    title: str
    w: float
    floor_factor: float | None
    checks: tuple[Check, ...]
    scores: Scores | None = None

    @property
    def passed(self) -> bool:
        """Whether it is as good as the teacher."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that it does not pass."""
        return tuple(check.name for check in self.checks if not check.passed)


def why_void(verdicts: Sequence[Verdict]) -> str:
    """Why verdicts say nothing of any student, in a sentence; empty if every control is caught."""
    passing = [each for each in verdicts if each.judged != "student" and each.passed]
    if not passing:
        return ""
    named = "; ".join(f"{each.title}, at w = {each.w:g}" for each in passing)
    return (
        "Nothing is judged here: the checks let through what is bad on purpose "
        f"({named}), so that passing them says nothing of a student."
    )


def examine(
    judged: Judged,
    title: str,
    w: float,
    scores: Scores,
    teacher: Scores,
    *,
    is_paired: bool = True,
) -> Verdict:
    """Ask everything of a set of samples.

    Args:
        judged: what made the samples.
        title: what a person calls it.
        w: the guidance weight it was asked for.
        scores: of the samples.
        teacher: of the teacher's reference at the same w, classes and noise.
        is_paired: whether the noise they began from is all the noise in them. A sample with more
            is none of the teacher's with an error, so RMS to it is not asked.
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
        found.append(follows_check(w, scores.nearest_teacher_w))
    return tuple(found)


def distance_check(w: float, value: float, teacher: float) -> Check:
    """Whether samples are about as near to real images as the teacher's are."""
    most = MOST_DISTANCE_UNGUIDED if w == 0 else MOST_DISTANCE
    return Check(name="distance", value=_ratio(value, teacher), most=most)


def recall_check(value: float, teacher: float) -> Check:
    """Whether samples are about as various as the teacher's."""
    return Check(name="recall", value=_ratio(value, teacher), least=LEAST_RECALL)


def rms_check(value: float, *, is_paired: bool) -> Check:
    """Whether samples are near to the teacher's of the same noise; asked of pairs only."""
    return Check(name="RMS", value=value, most=MOST_RMS if is_paired else None)


def follows_check(w: float, nearest: float, *, is_asked: bool = True) -> Check:
    """Whether the teacher whose samples are nearest is the one at the same w."""
    bound = w if is_asked else None
    return Check(name="follows w", value=nearest, least=bound, most=bound)


def over(value: float | None, other: float | None) -> float | None:
    """A ratio of what may not have been measured."""
    return None if value is None or other is None else _ratio(value, other)


def _ratio(value: float, other: float) -> float:
    """A teacher that has nothing of something (recall, say) asks nothing of its student."""
    if other == 0:
        return 1.0
    return float(f"{value / other:.6g}")
