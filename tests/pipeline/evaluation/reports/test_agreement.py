"""The report on data without classes measures agreement with the teacher only."""

from collections.abc import Callable
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
from pipeline.evaluation.documents import Role, SampleSpec, read_report
from pipeline.evaluation.reports.agreement import write_agreement
from pipeline.evaluation.tables import metric_columns
from pipeline.ledger import Artifact
from pipeline.sampling.sampler import Images
from pipeline.training.plan import plan_rounds
from stages.export.export import model_card_facts
from tests.support.cases import RECIPES, read_recipe

COUNT = 8
NAMES = {"dinov2": "DINOv2", "clip": "CLIP"}
OFF = {"noise_floor": 0.5, "teacher": 0.0, "student": 0.1, "baseline": 0.3}


def a_set(role: Role, w: float) -> SampleSet:
    images = np.zeros((COUNT, 16, 16, 3), np.float32) + np.float32(OFF[role])
    cell = SampleSpec(
        role=role,
        bundle="teacher",
        digest="0",
        round=1 if role == "student" else None,
        sampler="ddim",
        steps=4,
        w=w,
        seed=0,
    )
    return SampleSet(cell=cell, evaluations=4, load=_returning(images))


def _returning(images: Images) -> Callable[[], Images]:
    return lambda: images


@pytest.fixture
def comparison(tmp_path: Path) -> ReportInputs:
    config = CaptionedDigitsData(source="captioned_digits", count=30, holdout_count=10)
    source = load_source(config, 0, GaussianConfig(family="gaussian", means=((0.0,),)))
    bare = replace(source, labels=None, class_names=())
    bare = replace(bare, splits=unlabelled_split(40, 0.25, 0, "here"))
    write_dataset(tmp_path / "data", bare, config)
    (recipe,) = [read_recipe(path) for path in RECIPES if path.stem == "captions"]
    asked = recipe.evaluation.model_copy(update={"num_samples": COUNT})
    return ReportInputs(
        recipe=recipe.model_copy(update={"evaluation": asked}),
        data=tmp_path / "data",
        own=None,
        sets=tuple(a_set(role, w) for w in (1.0, 3.0) for role in OFF),
        skipped=(),
    )


def test_a_constant_offset_is_measured_as_such(comparison: ReportInputs, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    report = write_agreement(comparison, folder)
    assert read_report(folder) == report
    assert [row.cell.role for row in report.rows] == ["noise_floor", "student", "baseline"] * 2
    for row in report.rows:
        assert row.scores.rms_to_teacher == pytest.approx(OFF[row.cell.role], abs=1e-6)
        # all samples have the same offset, so the interval has zero width
        assert row.scores.rms_to_teacher_interval == pytest.approx([OFF[row.cell.role]] * 2)
        decibels = -20 * np.log10(OFF[row.cell.role] / 2)
        assert row.scores.psnr_to_teacher == pytest.approx(decibels, abs=1e-3)
        assert row.scores.ssim_to_teacher is not None
        assert row.scores.ssim_to_teacher < 1
    assert [metric.title for metric in report.metrics] == ["RMS", "PSNR", "SSIM"]
    assert "no metrics against real images" in (folder / "report.md").read_text()
    for name in report.pictures:
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 300


def readings(comparison: ReportInputs) -> tuple[ExtractorFeatures, ExtractorFeatures]:
    """Return random features of two extractors, with a constant offset per role."""
    heldout = np.random.default_rng(1).normal(size=(10, 6))
    prompts = np.random.default_rng(2).normal(size=(COUNT, 6))

    def of(cell: SampleSpec) -> np.ndarray:
        drawn = np.random.default_rng(3 + (cell.role == "noise_floor")).normal(size=(COUNT, 6))
        return drawn + OFF[cell.role]

    def mean_of(cell: SampleSpec) -> np.ndarray:
        return of(cell).mean(0, keepdims=True).repeat(COUNT, axis=0)

    def read(kind: str, real: np.ndarray | None, prompts: np.ndarray | None) -> ExtractorFeatures:
        name, distance = f"{NAMES[kind]} (not FID)", f"to real, by {kind}"
        sha256, identity = kind[0] * 64, kind[1] * 64
        return ExtractorFeatures(name, sha256, identity, distance, kind, of, real, prompts, mean_of)

    return read("dinov2", heldout, None), read("clip", None, prompts)


def test_each_extractor_has_separate_tables(comparison: ReportInputs, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    both = replace(comparison, readings=readings(comparison), data_sha256="e" * 64)
    report = write_agreement(both, folder)
    assert read_report(folder) == report
    first, second = report.panels
    titles = [[metric.title for metric in panel.metrics] for panel in report.panels]
    assert titles[0][:2] == ["to real, by dinov2", "KID"]
    assert titles[1] == ["to teacher", "CLIP score"]
    assert {metric.extractor_sha256 for metric in first.metrics} == {"d" * 64}
    assert {metric.extractor_sha256 for metric in second.metrics} == {"c" * 64}
    assert {metric.extractor_identity for metric in first.metrics} == {"i" * 64}
    identities = {metric.identity for panel in report.panels for metric in panel.metrics}
    assert len(identities) == len(first.metrics) + len(second.metrics)
    for panel in report.panels:
        assert [row.cell.role for row in panel.rows] == ["teacher", "student", "baseline"] * 2
        for row in panel.rows:
            numbers = row.scores.model_dump(exclude_none=True)
            named = [name for name in numbers if not name.endswith("_interval")]
            assert set(named) == {metric.metric for metric in panel.metrics}
            assert all(f"{name}_interval" in numbers for name in named)
        with Image.open(folder / panel.curve) as picture:
            assert min(picture.size) > 300
    means = [each for each in report.verdicts if each.judged == "mean image"]
    assert len(means) == 2
    assert all({"distance", "recall"} <= {check.name for check in each.checks} for each in means)
    page = (folder / "report.md").read_text(encoding="utf-8")
    dino, clip = (
        page.index("features of DINOv2 (not FID)"),
        page.index("features of CLIP (not FID)"),
    )
    # no table mixes two extractors, and nothing but Inception-v3 is called FID
    assert "CLIP score" not in page[dino:clip]
    assert "KID" not in page[clip:]
    assert "| FID |" not in page
    with pytest.raises(DataError, match="extractor_sha256"):
        metric_columns(first.metrics + second.metrics, [])


def test_its_numbers_are_facts_for_a_model_card(comparison: ReportInputs, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    write_agreement(comparison, folder)
    artifact = Artifact(kind="report", fingerprint="0", path="report", files={})
    plan, other, *_ = plan_rounds(comparison.recipe)[1:]
    assert model_card_facts(tmp_path, artifact, plan) == {
        "w = 1: RMS to the teacher's sample from the same noise": "0.1",
        "w = 3: RMS to the teacher's sample from the same noise": "0.1",
        "samples per cell": COUNT,
    }
    assert model_card_facts(tmp_path, artifact, other) == {}
