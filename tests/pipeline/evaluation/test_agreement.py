"""The report on data without classes measures agreement with the teacher, and claims no more."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config import CaptionedDigitsData, GaussianConfig
from pipeline.data.datasets import load_source
from pipeline.data.shards import write_dataset
from pipeline.data.source import unlabelled_split
from pipeline.evaluation.agreement import read_agreement, write_agreement
from pipeline.evaluation.comparing import Comparison, SampleSet
from pipeline.evaluation.protocol import Cell, Role
from pipeline.evaluation.sampling import Images
from pipeline.ledger import Artifact
from pipeline.training.plan import plan_rounds
from stages.facts import report_facts
from tests.cases import RECIPES, read_recipe

COUNT = 8
OFF = {"yardstick": 0.5, "teacher": 0.0, "student": 0.1, "baseline": 0.3}


def a_set(role: Role, w: float) -> SampleSet:
    images = np.zeros((COUNT, 16, 16, 3), np.float32) + np.float32(OFF[role])
    cell = Cell(
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
def comparison(tmp_path: Path) -> Comparison:
    config = CaptionedDigitsData(source="captioned_digits", count=30, holdout_count=10)
    source = load_source(config, 0, GaussianConfig(family="gaussian", means=((0.0,),)))
    bare = replace(source, labels=None, class_names=())
    bare = replace(bare, splits=unlabelled_split(40, 0.25, 0, "here"))
    write_dataset(tmp_path / "data", bare, config)
    (recipe,) = [read_recipe(path) for path in RECIPES if path.stem == "captions"]
    asked = recipe.evaluation.model_copy(update={"num_samples": COUNT})
    return Comparison(
        recipe=recipe.model_copy(update={"evaluation": asked}),
        data=tmp_path / "data",
        classifier=None,
        sets=tuple(a_set(role, w) for w in (1.0, 3.0) for role in OFF),
        skipped=(),
    )


def test_what_is_off_by_a_constant_is_off_by_that_much(
    comparison: Comparison, tmp_path: Path
) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    report = write_agreement(comparison, folder)
    assert read_agreement(folder) == report
    assert [row.cell.role for row in report.rows] == ["yardstick", "student", "baseline"] * 2
    for row in report.rows:
        assert row.scores.rms_to_teacher == pytest.approx(OFF[row.cell.role], abs=1e-6)
        # all samples are off by the same, so that there is nothing to be uncertain of
        assert row.scores.rms_to_teacher_interval == pytest.approx([OFF[row.cell.role]] * 2)
        decibels = -20 * np.log10(OFF[row.cell.role] / 2)
        assert row.scores.psnr_to_teacher == pytest.approx(decibels, abs=1e-3)
        assert row.scores.ssim_to_teacher is not None
        assert row.scores.ssim_to_teacher < 1
    assert [metric.title for metric in report.metrics] == ["RMS", "PSNR", "SSIM"]
    assert "nothing is said of real images" in (folder / "report.md").read_text()
    for name in report.pictures:
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 300


def test_its_numbers_are_facts_for_a_models_card(comparison: Comparison, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    write_agreement(comparison, folder)
    artifact = Artifact(kind="report", fingerprint="0", path="report", files={})
    plan, other, *_ = plan_rounds(comparison.recipe)[1:]
    assert report_facts(tmp_path, artifact, plan) == {
        "w = 1: RMS to the teacher's sample from the same noise": "0.1",
        "w = 3: RMS to the teacher's sample from the same noise": "0.1",
        "samples measured": COUNT,
    }
    assert report_facts(tmp_path, artifact, other) == {}
