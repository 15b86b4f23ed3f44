"""Is a student as good as its teacher, where data have no classes? What can be asked there.

Samples of the same noise tell how far a student is from its teacher and which w it follows. An
extractor, where the recipe has one, tells how near it is to real images and how various. There are
controls here too. No extractor reads them, so they are asked by the same noise alone: they may get
through where distance or recall would have caught them, which makes a report void, not wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from pipeline.evaluation.protocol import Cell, Panel, PanelRow
from pipeline.evaluation.sampling import Images
from pipeline.evaluation.scoring import kept

_TEACHERS_MEAN = "every sample the mean of the teacher's"


def verdicts_of(sets: Sequence[SampleSet], panels: Sequence[Panel]) -> tuple[Verdict, ...]:
    """Verdicts by w: on students, then on the controls.

    Of a student whose samples are no pairs of the teacher's nothing is asked without an extractor,
    and so nothing said.

    Args:
        sets: all that is compared.
        panels: the first one is asked for distance and recall.
    """
    judge = _Judge(sets, panels[0] if panels else None)
    return tuple(chain.from_iterable(judge.at(w) for w in judge.teachers))


@dataclass(frozen=True)
class _Judged:
    """Samples and who made them; `cell` is that of a student, whose features are known."""

    judged: Judged
    title: str
    images: Images
    cell: Cell | None = None

    @property
    def is_paired(self) -> bool:
        """Whether the noise they began from is all the noise in them."""
        return self.cell is None or not self.cell.adds_noise


class _Judge:
    def __init__(self, sets: Sequence[SampleSet], panel: Panel | None) -> None:
        self.teachers = {each.cell.w: each for each in sets if each.cell.role == "teacher"}
        self._students = [each for each in sets if each.cell.role == "student"]
        self._rows: Mapping[Cell, PanelRow] = (
            {row.cell: row for row in panel.rows} if panel is not None else {}
        )

    def at(self, w: float) -> Iterator[Verdict]:
        """The verdicts at one guidance weight."""
        teacher = self.teachers[w].load()
        for each in self._students:
            if each.cell.w == w and (self._rows or not each.cell.adds_noise):
                yield self._verdict(
                    w, teacher, _Judged("student", each.cell.title, each.load(), each.cell)
                )
        for control in self._controls(w, teacher):
            yield self._verdict(w, teacher, control)

    def _controls(self, w: float, teacher: Images) -> Iterator[_Judged]:
        mean = np.broadcast_to(teacher.mean(0), teacher.shape)
        yield _Judged("mean image", _TEACHERS_MEAN, mean)
        unguided = [s for s in self._students if s.cell.w == 0 and not s.cell.adds_noise]
        if unguided and w != 0:
            title = f"{unguided[-1].cell.title}, told w = 0"
            yield _Judged("w forced to 0", title, unguided[-1].load())

    def _verdict(self, w: float, teacher: Images, found: _Judged) -> Verdict:
        rows = self._rows.get(found.cell) if found.cell else None
        reference = self._rows.get(self.teachers[w].cell)
        rms = kept(paired_rms(found.images, teacher))
        checks = [
            *(_by_features(w, rows, reference) if rows and reference else ()),
            rms_check(rms, is_paired=found.is_paired),
            *([self._follows(w, rms, found)] if len(self.teachers) > 1 else []),
        ]
        return Verdict(
            judged=found.judged,
            title=found.title,
            w=w,
            floor_factor=over(
                rows.scores.distance_to_teacher if rows else None,
                reference.scores.distance_to_teacher if reference else None,
            ),
            checks=tuple(checks),
        )

    def _follows(self, w: float, rms: float, found: _Judged) -> Check:
        """Which w's teacher is nearest, noise by noise."""
        apart = {
            at: rms if at == w else paired_rms(found.images, each.load())
            for at, each in self.teachers.items()
        }
        nearest = min(apart, key=apart.__getitem__)
        return follows_check(w, nearest, is_asked=found.is_paired)


def _by_features(w: float, row: PanelRow, teacher: PanelRow) -> Iterator[Check]:
    """Against real images, as a ratio to the teacher's; nothing where there are none."""
    mine, its = row.scores, teacher.scores
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
            f"{panels[0].extractor}; controls, bad on purpose, are not asked for them."
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
