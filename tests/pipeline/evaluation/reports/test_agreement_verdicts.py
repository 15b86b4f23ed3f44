"""Verdicts without classes: a student near its teacher passes, and what is bad on purpose not."""

from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.evaluation.candidates import SampleSet
from pipeline.evaluation.documents import Cell, Panel, PanelRow
from pipeline.evaluation.reports.agreement import verdict_section, verdicts_of
from pipeline.evaluation.scores import PanelScores
from pipeline.evaluation.verdicts.checks import Verdict, why_void
from pipeline.sampling.solvers import Sampler

WEIGHTS = (0.0, 2.0)
TEACHER = {
    w: 0.5 * np.random.default_rng(int(w)).normal(size=(10, 4, 4, 3)).astype(np.float32)
    for w in WEIGHTS
}


def cell(role: str, w: float, steps: int = 4, sampler: Sampler = "ddim") -> Cell:
    return Cell(
        role="teacher" if role == "teacher" else "student",
        bundle=role,
        digest=role,
        round=None if role == "teacher" else 1,
        sampler=sampler,
        steps=steps,
        w=w,
        seed=0,
    )


def a_set(at: Cell, images: np.ndarray) -> SampleSet:
    return SampleSet(at, at.steps, lambda: images)


def compared(*extra: SampleSet) -> list[SampleSet]:
    """The teacher, a student that is off by .1, and more."""
    sets = [a_set(cell("teacher", w), TEACHER[w]) for w in WEIGHTS]
    return [*sets, *(a_set(cell("good", w), TEACHER[w] + 0.1) for w in WEIGHTS), *extra]


def passed(verdicts: Sequence[Verdict]) -> dict[tuple[str, float], tuple[str, ...]]:
    return {(each.judged, each.w): each.failed for each in verdicts}


def test_a_student_near_its_teacher_passes_and_the_controls_do_not() -> None:
    verdicts = verdicts_of(compared(), (), {})
    assert [each.w for each in verdicts] == [0, 0, 2, 2, 2]
    assert passed(verdicts) == {
        ("student", 0.0): (),
        ("mean image", 0.0): ("RMS",),
        ("student", 2.0): (),
        ("mean image", 2.0): ("RMS",),
        ("w forced to 0", 2.0): ("RMS", "follows w"),
    }
    assert why_void(verdicts) == ""
    assert [check.value for check in verdicts[0].checks] == [pytest.approx(0.1, rel=1e-5), 0]
    section = verdict_section(verdicts, ())
    assert section.startswith("2 of 2 students' rows pass every check.")
    assert "| 0 | student, 4 steps | 0.1 | 0 | pass |" in section
    assert "| 2 | *control: student, 4 steps, told w = 0* | **" in section


def test_where_all_samples_are_alike_nothing_is_judged() -> None:
    grey = [a_set(cell(who, 0.0), np.zeros((6, 4, 4, 3), np.float32)) for who in ("teacher", "s")]
    verdicts = verdicts_of(grey, (), {})
    # with one guidance weight there is none that samples could be taken for
    assert [check.name for check in verdicts[0].checks] == ["RMS"]
    assert "every sample the mean of the teacher's, at w = 0" in why_void(verdicts)
    assert verdict_section(verdicts, ()).startswith("Nothing is judged here")
    assert "| void |" in verdict_section(verdicts, ())


MEANS = {w: PanelScores(distance_to_real=9.0, distance_to_teacher=8.0, recall=0.0) for w in WEIGHTS}
"""Every sample the mean of the teacher's: far from real images, and all alike."""


def panel(recall: float, sets: Sequence[SampleSet]) -> Panel:
    """Students as near to real images as the teacher, but not as various."""
    rows = tuple(
        PanelRow(
            cell=each.cell,
            evaluations=1,
            scores=PanelScores(
                distance_to_real=2.0,
                distance_to_teacher=1.0,
                recall=0.8 if each.cell.role == "teacher" else recall,
            ),
        )
        for each in sets
    )
    return Panel(extractor="DINOv2 (not FID)", kind="dinov2", metrics=(), rows=rows)


def test_an_extractor_says_how_near_to_real_images_and_how_various() -> None:
    noisy = a_set(cell("noisy", 2.0, steps=2, sampler="stochastic"), TEACHER[0.0])
    sets = compared(noisy)
    alone = [each.title for each in verdicts_of(sets, (), {}) if each.judged == "student"]
    assert alone == ["student, 4 steps"] * 2  # nothing can be asked of the other
    verdicts = verdicts_of(sets, [panel(0.4, sets)], MEANS)
    students = [each for each in verdicts if each.judged == "student"]
    assert [each.failed for each in students] == [("recall",)] * 3
    assert [each.floor_factor for each in students] == [1.0] * 3
    assert [check.name for check in students[-1].checks if not check.is_asked] == [
        "RMS",
        "follows w",
    ]
    assert why_void(verdicts) == ""
    assert {key: why for key, why in passed(verdicts).items() if key[0] != "student"} == {
        ("mean image", 0.0): ("distance", "recall", "RMS"),
        ("mean image", 2.0): ("distance", "recall", "RMS"),
        ("w forced to 0", 2.0): ("recall", "RMS", "follows w"),
    }
    section = verdict_section(verdicts, [panel(0.4, sets)])
    assert "in the features of DINOv2 (not FID)" in section
    assert "| w | samples | distance | recall | RMS | follows w | |" in section
    assert "| *control: every sample the mean of the teacher's* | **4.5** | **0** | **" in section
    assert "RMS is not asked of stochastic students" in section


def test_a_control_that_the_noise_lets_through_is_caught_by_an_extractor() -> None:
    """Samples that hardly differ are all near their mean, but not as various as it."""
    images = {w: 0.05 * TEACHER[w] for w in WEIGHTS}
    sets = [a_set(cell(who, w), images[w]) for w in WEIGHTS for who in ("teacher", "good")]
    assert "the mean of the teacher's, at w = 0" in why_void(verdicts_of(sets, (), {}))
    verdicts = verdicts_of(sets, [panel(0.8, sets)], MEANS)
    means = [each for each in verdicts if each.judged == "mean image"]
    assert [each.failed for each in means] == [("distance", "recall")] * 2
    assert [each.floor_factor for each in means] == [None] * 2


def test_of_whom_nothing_can_be_asked_nothing_is_said() -> None:
    """Prompts alone have no real images, so that an extractor tells no distance and no recall."""
    noisy = a_set(cell("noisy", 2.0, steps=2, sampler="stochastic"), np.ones_like(TEACHER[2.0]))
    sets = compared(noisy)
    rows = [
        row.model_copy(update={"scores": PanelScores(distance_to_teacher=9.0)})
        for row in panel(0.8, sets).rows
    ]
    blind = panel(0.8, sets).model_copy(update={"rows": tuple(rows)})
    verdicts = verdicts_of(sets, [blind], {})
    assert noisy.cell.title not in {each.title for each in verdicts}
    assert all(any(check.is_asked for check in each.checks) for each in verdicts)
