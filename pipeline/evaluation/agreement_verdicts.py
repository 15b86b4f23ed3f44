"""Is a student as good as its teacher, where data have no classes? What can be asked there.

Samples of the same noise tell how far a student is from its teacher and which w it follows. An
extractor, where the recipe has one, tells how near it is to real images and how various. There are
controls here too, of which the same is asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from pipeline.evaluation.comparing import SampleSet
from pipeline.evaluation.fidelity import (
    NOT_PAIRED,
    Check,
    Judged,
    Verdict,
    distance_check,
    follows_check,
    over,
    recall_check,
    rms_check,
    why_void,
)
from pipeline.evaluation.metrics import paired_rms
from pipeline.evaluation.protocol import Panel
from pipeline.evaluation.sampling import Images
from pipeline.evaluation.scores import PanelScores
from pipeline.evaluation.scoring import kept

_TEACHERS_MEAN = "every sample the mean of the teacher's"


def verdicts_of(
    sets: Sequence[SampleSet], panels: Sequence[Panel], means: Mapping[float, PanelScores]
) -> tuple[Verdict, ...]:
    """Verdicts by w: on students, then on the controls.

    Of a student whose samples are no pairs of the teacher's nothing can be asked without real
    images in an extractor's features, and so nothing is said.

    Args:
        sets: all that is compared.
        panels: the first one is asked for distance and recall.
        means: in its features, the mean of the teacher's samples in the place of each of them, by
            guidance weight; empty without a panel.
    """
    judge = _Judge(sets, panels[0] if panels else None, means)
    return tuple(chain.from_iterable(judge.at(w) for w in judge.teachers))


@dataclass(frozen=True)
class _Judged:
    """Samples and who made them.

    Attributes:
        judged: a student, or the control that stands for a bad one.
        title: what a person calls it.
        images: the samples.
        scores: of them in an extractor's features, if there is one.
        is_paired: whether the noise they began from is all the noise in them.
    """

    judged: Judged
    title: str
    images: Images
    scores: PanelScores | None
    is_paired: bool = True


class _Judge:
    def __init__(
        self,
        sets: Sequence[SampleSet],
        panel: Panel | None,
        means: Mapping[float, PanelScores],
    ) -> None:
        self.teachers = {each.cell.w: each for each in sets if each.cell.role == "teacher"}
        self._students = [each for each in sets if each.cell.role == "student"]
        self._scores = {row.cell: row.scores for row in panel.rows} if panel is not None else {}
        self._means = means

    def at(self, w: float) -> Iterator[Verdict]:
        """The verdicts at one guidance weight."""
        teacher = self.teachers[w].load()
        for each in (each for each in self._students if each.cell.w == w):
            verdict = self._verdict(w, teacher, self._student(each))
            if any(check.is_asked for check in verdict.checks):
                yield verdict
        for control in self._controls(w, teacher):
            yield self._verdict(w, teacher, control)

    def _student(self, each: SampleSet) -> _Judged:
        cell = each.cell
        images, scores = each.load(), self._scores.get(cell)
        return _Judged("student", cell.title, images, scores, is_paired=not cell.adds_noise)

    def _controls(self, w: float, teacher: Images) -> Iterator[_Judged]:
        mean = np.broadcast_to(teacher.mean(0), teacher.shape)
        yield _Judged("mean image", _TEACHERS_MEAN, mean, self._means.get(w))
        unguided = [s for s in self._students if s.cell.w == 0 and not s.cell.adds_noise]
        if unguided and w != 0:
            student = self._student(unguided[-1])
            yield replace(student, judged="w forced to 0", title=f"{student.title}, told w = 0")

    def _verdict(self, w: float, teacher: Images, found: _Judged) -> Verdict:
        its = self._scores.get(self.teachers[w].cell)
        rms = kept(paired_rms(found.images, teacher))
        checks = [
            *(_by_features(w, found.scores, its) if found.scores and its else ()),
            rms_check(rms, is_paired=found.is_paired),
            *([self._follows(w, rms, found)] if len(self.teachers) > 1 else []),
        ]
        return Verdict(
            judged=found.judged,
            title=found.title,
            w=w,
            floor_factor=self._floor_factor(found, its),
            checks=tuple(checks),
        )

    @staticmethod
    def _floor_factor(found: _Judged, teacher: PanelScores | None) -> float | None:
        """That of a student; a control's distance is none to the teacher at this w."""
        if found.judged != "student" or found.scores is None or teacher is None:
            return None
        return over(found.scores.distance_to_teacher, teacher.distance_to_teacher)

    def _follows(self, w: float, rms: float, found: _Judged) -> Check:
        """Which w's teacher is nearest, noise by noise."""
        apart = {
            at: rms if at == w else paired_rms(found.images, each.load())
            for at, each in self.teachers.items()
        }
        nearest = min(apart, key=apart.__getitem__)
        return follows_check(w, nearest, is_asked=found.is_paired)


def _by_features(w: float, mine: PanelScores, its: PanelScores) -> Iterator[Check]:
    """Against real images, as a ratio to the teacher's; nothing where there are none."""
    if mine.distance_to_real is not None and its.distance_to_real is not None:
        yield distance_check(w, mine.distance_to_real, its.distance_to_real)
    if mine.recall is not None and its.recall is not None:
        yield recall_check(mine.recall, its.recall)


def verdict_section(verdicts: Sequence[Verdict], panels: Sequence[Panel]) -> str:
    """The verdicts for people: what was asked, a table of all, what was not asked and why."""
    students = [verdict for verdict in verdicts if verdict.judged == "student"]
    if not students:
        return "No student was judged.\n"
    names = list(dict.fromkeys(check.name for each in students for check in each.checks))
    void = why_void(verdicts)
    head = f"| w | samples | {' | '.join(names)} | |\n|--:|---|{'--:|' * len(names)}---|\n"
    lines = [_line(each, names, "void" if void else "") for each in students]
    lines += [_line(each, names) for each in verdicts if each.judged != "student"]
    passed = sum(verdict.passed for verdict in students)
    counted = f"{passed} of {len(students)} students' rows pass every check."
    told = [void or counted, "What fails is bold."]
    if "distance" in names:
        told.append(
            f"Distance and recall are ratios to the teacher's own, in the features of "
            f"{panels[0].extractor}."
        )
    if not all(check.is_asked for each in students for check in each.checks):
        told.append(f"{NOT_PAIRED}.")
    return f"{' '.join(told)}\n\n{head}{''.join(lines)}"


def _line(verdict: Verdict, names: Sequence[str], instead: str = "") -> str:
    checks = {check.name: check for check in verdict.checks}
    values = [checks[name].in_a_table if name in checks else "-" for name in names]
    title = verdict.title if verdict.judged == "student" else f"*control: {verdict.title}*"
    end = instead or ("pass" if verdict.passed else "fail")
    return f"| {' | '.join([f'{verdict.w:g}', title, *values, end])} |\n"
