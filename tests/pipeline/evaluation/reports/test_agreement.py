"""The report on data without classes measures agreement with the teacher only; its verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config import CaptionedDigitsData, GaussianConfig
from pipeline.data.shards.writer import write_dataset
from pipeline.data.sources.datasets import load_source
from pipeline.data.sources.loaded_source import unlabelled_split
from pipeline.errors import DataError
from pipeline.evaluation.candidates import ExtractorFeatures, ReportInputs, SampleSet
from pipeline.evaluation.documents import (
    AgreementReport,
    SampleSpec,
    read_report,
)
from pipeline.evaluation.extractor_metrics import ExtractorEstimates
from pipeline.evaluation.metrics.halves import HalfSamples, Replicates
from pipeline.evaluation.reports.agreement import verdicts_of, write_agreement
from pipeline.evaluation.reports.comparisons import check_table
from pipeline.evaluation.scores import ExtractorScores
from pipeline.evaluation.tables import metric_columns
from pipeline.evaluation.verdicts.checks import Verdict, void_reason
from pipeline.ledger import Artifact
from pipeline.training.plan import plan_rounds
from stages.export.export import model_card_facts
from tests.support.cases import RECIPES, read_recipe

COUNT = 8
OFF = {"noise_floor": 0.5, "teacher": 0.0, "student": 0.1, "baseline": 0.3}
WEIGHTS = (0.0, 2.0)
TEACHER = {
    w: 0.5 * np.random.default_rng(int(w)).normal(size=(10, 4, 4, 3)).astype(np.float32)
    for w in WEIGHTS
}
HALVES = HalfSamples(np.zeros(10, np.int64), seed=0)


def constant_replicates(value: float) -> Replicates:
    """A statistic without spread or bias."""
    return Replicates(value, np.full(5, value), np.full(5, value))


def by_extractor(distance: float, recall: float, to_teacher: float = 1.0) -> ExtractorEstimates:
    """Numbers of a sample set in an extractor's features."""
    scores = ExtractorScores(distance_to_real=distance, distance_to_teacher=to_teacher)
    found = {
        "distance_to_real": constant_replicates(distance),
        "recall": constant_replicates(recall),
    }
    return ExtractorEstimates(scores, found, effective_w=None)


MEANS = {w: by_extractor(9.0, 0.0, to_teacher=8.0) for w in WEIGHTS}
"""The mean-image control: far from real images, without diversity."""


def cell(who: str, w: float, steps: int = 4, sampler: str = "ddim") -> SampleSpec:
    """A cell of a role, or of a student with another name."""
    role = who if who in OFF else "student"
    number = 1 if role == "student" else None
    told = {"role": role, "round": number, "bundle": who, "digest": who, "sampler": sampler}
    return SampleSpec(steps=steps, w=w, seed=0, **told)


def a_set(at: SampleSpec, images: np.ndarray) -> SampleSet:
    return SampleSet(at, at.steps, lambda: images)


def constant(role: str, w: float) -> SampleSet:
    return a_set(cell(role, w), np.full((COUNT, 16, 16, 3), OFF[role], np.float32))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> ReportInputs:
    data = tmp_path_factory.mktemp("data")
    config = CaptionedDigitsData(source="captioned_digits", count=30, holdout_count=10)
    source = load_source(config, 0, GaussianConfig(family="gaussian", means=((0.0,),)))
    splits = unlabelled_split(40, 0.25, 0, "here")
    write_dataset(data, replace(source, labels=None, class_names=(), splits=splits), config)
    (recipe,) = [read_recipe(path) for path in RECIPES if path.stem == "captions"]
    asked = recipe.evaluation.model_copy(update={"num_samples": COUNT})
    return ReportInputs(
        recipe=recipe.model_copy(update={"evaluation": asked}),
        data=data,
        own=None,
        sets=tuple(constant(role, w) for w in (1.0, 3.0) for role in OFF),
        skipped=(),
    )


def written(comparison: ReportInputs, folder: Path) -> AgreementReport:
    (folder / "report").mkdir()
    report = write_agreement(comparison, folder / "report")
    assert read_report(folder / "report") == report
    for name in (*report.pictures, *(panel.curve for panel in report.panels)):
        with Image.open(folder / "report" / name) as picture:
            assert min(picture.size) > 300
    return report


def test_a_constant_offset_is_measured_as_such(comparison: ReportInputs, tmp_path: Path) -> None:
    report = written(comparison, tmp_path)
    assert [row.cell.role for row in report.rows] == ["noise_floor", "student", "baseline"] * 2
    for row in report.rows:
        off = OFF[row.cell.role]
        assert row.scores.rms_to_teacher == pytest.approx(off, abs=1e-6)
        # all samples have the same offset, so the interval has zero width
        assert row.scores.rms_to_teacher_interval == pytest.approx([off] * 2)
        assert row.scores.psnr_to_teacher == pytest.approx(-20 * np.log10(off / 2), abs=1e-3)
        assert row.scores.ssim_to_teacher < 1
    assert [metric.title for metric in report.metrics] == ["RMS", "PSNR", "SSIM"]
    assert "no metrics against real images" in (tmp_path / "report" / "report.md").read_text()
    # numbers are facts for a model card
    artifact = Artifact(kind="report", fingerprint="0", path="report", files={})
    plan, other, *_ = plan_rounds(comparison.recipe)[1:]
    assert model_card_facts(tmp_path, artifact, plan) == {
        "w = 1: RMS to the teacher's sample from the same noise": "0.1",
        "w = 3: RMS to the teacher's sample from the same noise": "0.1",
        "samples per cell": COUNT,
    }
    assert model_card_facts(tmp_path, artifact, other) == {}


def readings() -> tuple[ExtractorFeatures, ExtractorFeatures]:
    """Return random features of two extractors, with a constant offset per role."""
    heldout = np.random.default_rng(1).normal(size=(10, 6))
    prompts = np.random.default_rng(2).normal(size=(COUNT, 6))

    def of(cell: SampleSpec) -> np.ndarray:
        drawn = np.random.default_rng(3 + (cell.role == "noise_floor")).normal(size=(COUNT, 6))
        return drawn + OFF[cell.role]

    def mean_of(cell: SampleSpec) -> np.ndarray:
        return of(cell).mean(0, keepdims=True).repeat(COUNT, axis=0)

    def read(kind: str, real: np.ndarray | None, prompts: np.ndarray | None) -> ExtractorFeatures:
        name, distance = f"{kind} (not FID)", f"to real, by {kind}"
        sha256, identity = kind[0] * 64, kind[1] * 64
        labels = np.zeros(10, np.int64)
        return ExtractorFeatures(
            name, sha256, identity, distance, kind, of, real, labels, prompts, mean_of
        )

    return read("dinov2", heldout, None), read("clip", None, prompts)


@pytest.mark.slow
def test_each_extractor_has_separate_tables(comparison: ReportInputs, tmp_path: Path) -> None:
    report = written(replace(comparison, readings=readings(), data_sha256="e" * 64), tmp_path)
    first, second = report.panels
    titles = [[metric.title for metric in panel.metrics] for panel in report.panels]
    assert titles[0][:2] == ["to real, by dinov2", "relative distance"]
    assert titles[1] == ["to teacher", "CLIP score"]
    for panel, sha256, identity in ((first, "d", "i"), (second, "c", "l")):
        named = {(metric.extractor_sha256, metric.extractor_identity) for metric in panel.metrics}
        assert named == {(sha256 * 64, identity * 64)}
    identities = {metric.identity for panel in report.panels for metric in panel.metrics}
    assert len(identities) == len(first.metrics) + len(second.metrics)
    for panel in report.panels:
        assert [row.cell.role for row in panel.rows] == ["teacher", "student", "baseline"] * 2
        for row in panel.rows:
            numbers = row.scores.model_dump(exclude_none=True)
            named = [name for name in numbers if not name.endswith("_interval")]
            assert set(named) == {metric.metric for metric in panel.metrics}
            assert all(f"{name}_interval" in numbers for name in named)
    means = [each for each in report.verdicts if each.judged == "mean image"]
    assert len(means) == 2
    assert all({"distance", "recall"} <= {check.name for check in each.checks} for each in means)
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    dino, clip = (page.index(f"features of {kind} (not FID)") for kind in ("dinov2", "clip"))
    # no table mixes two extractors, and nothing but Inception-v3 is called FID
    assert "CLIP score" not in page[dino:clip]
    assert "KID" not in page[clip:]
    assert "| FID |" not in page
    with pytest.raises(DataError, match="extractor_sha256"):
        metric_columns(first.metrics + second.metrics, [])


def compared(*extra: SampleSet) -> list[SampleSet]:
    """Return the teacher, a student with offset 0.1, and `extra`."""
    sets = [a_set(cell("teacher", w), TEACHER[w]) for w in WEIGHTS]
    return [*sets, *(a_set(cell("good", w), TEACHER[w] + 0.1) for w in WEIGHTS), *extra]


def failures(verdicts: Sequence[Verdict]) -> dict[tuple[str, float], tuple[str, ...]]:
    return {(each.judged, each.w): each.failed for each in verdicts}


def test_a_student_near_its_teacher_passes_and_the_controls_do_not() -> None:
    verdicts = judge(compared())
    assert [each.w for each in verdicts] == [0, 0, 2, 2, 2]
    assert failures(verdicts) == {
        ("student", 0.0): (),
        ("mean image", 0.0): ("RMS",),
        ("student", 2.0): (),
        ("mean image", 2.0): ("RMS", "effective w"),
        ("w forced to 0", 2.0): ("RMS", "effective w"),
    }
    assert void_reason(verdicts) == ""
    values = [check.value for check in verdicts[0].checks]
    assert values == [pytest.approx(0.1, rel=1e-5), pytest.approx(0, abs=1e-3)]
    section = check_table(verdicts).markdown
    assert "| 0 | student, 4 steps | 0.1 | not checked | pass |" in section
    assert "| 2 | *control: student, 4 steps, w forced to 0* | **" in section


def test_verdicts_are_void_where_all_samples_are_equal() -> None:
    grey = [a_set(cell(who, 0.0), np.zeros((6, 4, 4, 3), np.float32)) for who in ("teacher", "s")]
    verdicts = verdicts_of(grey, {}, {}, HalfSamples(np.zeros(6, np.int64), seed=0))
    # with a single guidance weight there is no check of w
    assert [check.name for check in verdicts[0].checks] == ["RMS"]
    assert f"{verdicts[-1].title}, at w = 0" in void_reason(verdicts)
    assert [row[-1] for row in check_table(verdicts).rows] == ["void", "pass"]


def numbers_of(recall: float, sets: Sequence[SampleSet]) -> dict[SampleSpec, ExtractorEstimates]:
    """Return numbers of students as near to real images as the teacher, with another recall."""
    return {
        each.cell: by_extractor(2.0, 0.8 if each.cell.role == "teacher" else recall)
        for each in sets
    }


def judge(
    sets: Sequence[SampleSet],
    by_features: Mapping[SampleSpec, ExtractorEstimates] | None = None,
    means: Mapping[float, ExtractorEstimates] | None = None,
) -> tuple[Verdict, ...]:
    return verdicts_of(sets, by_features or {}, means or {}, HALVES)


def test_an_extractor_adds_checks_of_distance_and_recall() -> None:
    noisy = a_set(cell("noisy", 2.0, steps=2, sampler="stochastic"), TEACHER[0.0])
    sets = compared(noisy)
    alone = [each.title for each in judge(sets) if each.judged == "student"]
    assert alone == ["student, 4 steps"] * 2  # no check applies to the other
    verdicts = judge(sets, numbers_of(0.4, sets), MEANS)
    students = [each for each in verdicts if each.judged == "student"]
    assert [each.failed for each in students] == [("recall",)] * 3
    assert [each.floor_factor for each in students] == [1.0] * 3
    assert [check.name for check in students[-1].checks if not check.is_bounded] == ["RMS"]
    assert void_reason(verdicts) == ""
    assert {key: why for key, why in failures(verdicts).items() if key[0] != "student"} == {
        ("mean image", 0.0): ("distance", "recall", "RMS"),
        ("mean image", 2.0): ("distance", "recall", "RMS", "effective w"),
        ("w forced to 0", 2.0): ("recall", "RMS", "effective w"),
    }
    table = check_table(verdicts)
    assert table.heads[2:6] == ("distance", "recall", "RMS", "effective w")
    control = next(each for each in verdicts if each.judged == "mean image")
    assert f"| *control: {control.title}* | **4.5** | **0** | **" in table.markdown


def test_a_control_that_passes_by_rms_fails_with_an_extractor() -> None:
    """Nearly equal samples are all near their mean image, which lacks their diversity."""
    images = {w: 0.05 * TEACHER[w] for w in WEIGHTS}
    sets = [a_set(cell(who, w), images[w]) for w in WEIGHTS for who in ("teacher", "good")]
    assert "at w = 0" in void_reason(judge(sets))
    verdicts = judge(sets, numbers_of(0.8, sets), MEANS)
    means = [each for each in verdicts if each.judged == "mean image"]
    assert [each.failed[:2] for each in means] == [("distance", "recall")] * 2
    assert "RMS" not in {name for each in means for name in each.failed}
    assert [each.floor_factor for each in means] == [None] * 2


def test_a_student_without_applicable_checks_has_no_verdict() -> None:
    """Data of prompts only have no real images, so there is no distance and no recall."""
    noisy = a_set(cell("noisy", 2.0, steps=2, sampler="stochastic"), np.ones_like(TEACHER[2.0]))
    sets = compared(noisy)
    far = ExtractorScores(distance_to_teacher=9.0)
    blind = {each.cell: ExtractorEstimates(far, {}, effective_w=None) for each in sets}
    verdicts = judge(sets, blind)
    assert noisy.cell.title not in {each.title for each in verdicts}
    assert all(any(check.is_bounded for check in each.checks) for each in verdicts)
