"""Verdicts without classes: a student near its teacher passes, negative controls do not."""

from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.evaluation.candidates import SampleSet
from pipeline.evaluation.documents import ExtractorMetrics, ExtractorRow, SampleSpec
from pipeline.evaluation.reports.agreement import verdicts_of
from pipeline.evaluation.reports.view import check_table
from pipeline.evaluation.scores import ExtractorScores
from pipeline.evaluation.verdicts.checks import Verdict, void_reason
from pipeline.sampling.solvers import Sampler

WEIGHTS = (0.0, 2.0)
TEACHER = {
    w: 0.5 * np.random.default_rng(int(w)).normal(size=(10, 4, 4, 3)).astype(np.float32)
    for w in WEIGHTS
}


def cell(role: str, w: float, steps: int = 4, sampler: Sampler = "ddim") -> SampleSpec:
    return SampleSpec(
        role="teacher" if role == "teacher" else "student",
        bundle=role,
        digest=role,
        round=None if role == "teacher" else 1,
        sampler=sampler,
        steps=steps,
        w=w,
        seed=0,
    )


def a_set(at: SampleSpec, images: np.ndarray) -> SampleSet:
    return SampleSet(at, at.steps, lambda: images)


def compared(*extra: SampleSet) -> list[SampleSet]:
    """Return the teacher, a student with offset 0.1, and `extra`."""
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
        ("w forced to 0", 2.0): ("RMS", "w consistency"),
    }
    assert void_reason(verdicts) == ""
    assert [check.value for check in verdicts[0].checks] == [pytest.approx(0.1, rel=1e-5), 0]
    table = check_table(verdicts)
    assert table is not None
    section = table.markdown
    assert "| 0 | student, 4 steps | 0.1 | 0 | pass |" in section
    assert "| 2 | *control: student, 4 steps, w forced to 0* | **" in section


def test_verdicts_are_void_where_all_samples_are_equal() -> None:
    grey = [a_set(cell(who, 0.0), np.zeros((6, 4, 4, 3), np.float32)) for who in ("teacher", "s")]
    verdicts = verdicts_of(grey, (), {})
    # with a single guidance weight there is no check of w
    assert [check.name for check in verdicts[0].checks] == ["RMS"]
    assert f"{verdicts[-1].title}, at w = 0" in void_reason(verdicts)
    table = check_table(verdicts)
    assert table is not None
    assert [row[-1] for row in table.rows] == ["void", "pass"]


MEANS = {
    w: ExtractorScores(distance_to_real=9.0, distance_to_teacher=8.0, recall=0.0) for w in WEIGHTS
}
"""Scores of the mean-image control: far from real images, without diversity."""


def panel(recall: float, sets: Sequence[SampleSet]) -> ExtractorMetrics:
    """Return metrics of students as near to real images as the teacher, with another recall."""
    rows = tuple(
        ExtractorRow(
            cell=each.cell,
            evaluations=1,
            scores=ExtractorScores(
                distance_to_real=2.0,
                distance_to_teacher=1.0,
                recall=0.8 if each.cell.role == "teacher" else recall,
            ),
        )
        for each in sets
    )
    return ExtractorMetrics(extractor="DINOv2 (not FID)", kind="dinov2", metrics=(), rows=rows)


def test_an_extractor_adds_checks_of_distance_and_recall() -> None:
    noisy = a_set(cell("noisy", 2.0, steps=2, sampler="stochastic"), TEACHER[0.0])
    sets = compared(noisy)
    alone = [each.title for each in verdicts_of(sets, (), {}) if each.judged == "student"]
    assert alone == ["student, 4 steps"] * 2  # no check applies to the other
    verdicts = verdicts_of(sets, [panel(0.4, sets)], MEANS)
    students = [each for each in verdicts if each.judged == "student"]
    assert [each.failed for each in students] == [("recall",)] * 3
    assert [each.floor_factor for each in students] == [1.0] * 3
    assert [check.name for check in students[-1].checks if not check.is_bounded] == [
        "RMS",
        "w consistency",
    ]
    assert void_reason(verdicts) == ""
    assert {key: why for key, why in passed(verdicts).items() if key[0] != "student"} == {
        ("mean image", 0.0): ("distance", "recall", "RMS"),
        ("mean image", 2.0): ("distance", "recall", "RMS"),
        ("w forced to 0", 2.0): ("recall", "RMS", "w consistency"),
    }
    table = check_table(verdicts)
    assert table is not None
    assert table.heads[2:6] == ("distance", "recall", "RMS", "w consistency")
    section = table.markdown
    control = next(each for each in verdicts if each.judged == "mean image")
    assert f"| *control: {control.title}* | **4.5** | **0** | **" in section


def test_a_control_that_passes_by_rms_fails_with_an_extractor() -> None:
    """Nearly equal samples are all near their mean image, which lacks their diversity."""
    images = {w: 0.05 * TEACHER[w] for w in WEIGHTS}
    sets = [a_set(cell(who, w), images[w]) for w in WEIGHTS for who in ("teacher", "good")]
    assert "at w = 0" in void_reason(verdicts_of(sets, (), {}))
    verdicts = verdicts_of(sets, [panel(0.8, sets)], MEANS)
    means = [each for each in verdicts if each.judged == "mean image"]
    assert [each.failed for each in means] == [("distance", "recall")] * 2
    assert [each.floor_factor for each in means] == [None] * 2


def test_a_student_without_applicable_checks_has_no_verdict() -> None:
    """Data of prompts only have no real images, so there is no distance and no recall."""
    noisy = a_set(cell("noisy", 2.0, steps=2, sampler="stochastic"), np.ones_like(TEACHER[2.0]))
    sets = compared(noisy)
    rows = [
        row.model_copy(update={"scores": ExtractorScores(distance_to_teacher=9.0)})
        for row in panel(0.8, sets).rows
    ]
    blind = panel(0.8, sets).model_copy(update={"rows": tuple(rows)})
    verdicts = verdicts_of(sets, [blind], {})
    assert noisy.cell.title not in {each.title for each in verdicts}
    assert all(any(check.is_bounded for check in each.checks) for each in verdicts)
