"""Errors that would otherwise appear after hours are reported before any file is created."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.preflight import check
from pipeline.config import Recipe
from pipeline.config.profile import ComputeConfig, Profile
from pipeline.errors import BundleError, ConfigError, StepfoldError
from stages.data.shard import shard
from stages.teacher.adopt import adopt
from stages.workspace import Workspace
from tests.stages.teacher.test_prediction_check import declare, fitted
from tests.support.recipes import CANVASES, CAPTIONS, adopting_recipe, shipped_recipe
from tests.support.tiny_pipelines import edit, tiny_pipeline

PROFILE = Profile(compute=ComputeConfig(workers=1))


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """A run directory that a refused recipe does not create."""
    yield tmp_path / "run"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "workers", "message"),
    [
        ("evaluation.num_samples=5", 1, r"evaluation\.num_samples: 5 "),
        ("data.num_samples=12", 1, r"data\.holdout: 0\.25 of 12 samples"),
        (
            "encoding={steps: [4, 2], updates: 2, batch_size: 129}",
            2,
            r"encoding\.batch_size: 129 .* 2 workers",
        ),
    ],
)
def test_sizes_that_cannot_work_are_rejected_first(
    override: str, workers: int, message: str, run_dir: Path
) -> None:
    profile = Profile(compute=ComputeConfig(workers=workers))
    with pytest.raises(ConfigError, match=message):
        check(shipped_recipe("gaussian", override), profile, run_dir, accept_changes=False)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation.w=[]", r"evaluation\.w"),
        ("teacher.prediction=epsilon", "prediction epsilon does not fit schedule cosine"),
    ],
)
def test_a_recipe_that_cannot_work_is_rejected(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shipped_recipe("digits", override)


@pytest.fixture
def gaussian_bundle(tmp_path: Path) -> tuple[Recipe, Path]:
    """The Gaussian recipe, and the bundle of its teacher."""
    work = Workspace(tmp_path, shipped_recipe("gaussian"))
    adopt(work, shard(work).value)
    return work.recipe, tmp_path / "teacher"


def test_a_teacher_that_contradicts_the_recipe_is_rejected(
    gaussian_bundle: tuple[Recipe, Path], run_dir: Path
) -> None:
    recipe, bundle = gaussian_bundle
    network = recipe.teacher.network.model_copy(update={"std": 0.7})
    teacher = recipe.teacher.model_copy(update={"bundle": str(bundle), "network": network})
    other = recipe.model_copy(update={"teacher": teacher})
    with pytest.raises(StepfoldError, match=r"teacher\.network: .*std=0\.7"):
        check(other, PROFILE, run_dir, accept_changes=False)


def test_a_bundle_whose_pipeline_is_missing_is_rejected(
    gaussian_bundle: tuple[Recipe, Path], run_dir: Path
) -> None:
    recipe, bundle = gaussian_bundle
    edit(bundle / "manifest.json", pipeline="StableDiffusionPipeline")
    teacher = recipe.teacher.model_copy(update={"bundle": str(bundle)})
    other = recipe.model_copy(update={"teacher": teacher})
    with pytest.raises(BundleError, match=r"stepfold export.* teacher\.pipeline"):
        check(other, PROFILE, run_dir, accept_changes=False)


def test_a_pipeline_whose_scheduler_contradicts_its_weights_is_rejected_first(
    tmp_path: Path, run_dir: Path
) -> None:
    folder = fitted("epsilon", tmp_path / "pipeline")
    check(adopting_recipe(tmp_path, folder), PROFILE, run_dir, accept_changes=False)
    declare("v_prediction", folder)
    with pytest.raises(BundleError, match="v_prediction"):
        check(adopting_recipe(tmp_path, folder), PROFILE, run_dir, accept_changes=False)


def test_a_pipeline_that_changed_since_the_recipe_was_read_is_rejected(
    tmp_path: Path, run_dir: Path
) -> None:
    folder = tiny_pipeline("sd", tmp_path / "pipeline")
    recipe = adopting_recipe(tmp_path, folder)
    declare("v_prediction", folder)
    with pytest.raises(ConfigError, match=r"teacher\.prediction: 'epsilon' "):
        check(recipe, PROFILE, run_dir, accept_changes=False)


@pytest.mark.parametrize(
    ("kind", "data", "w", "message"),
    [
        (
            "sd",
            CAPTIONS.replace("16", "32"),
            "{min: 0, max: 4}",
            r"data\.size: 32, but the pipeline .* of 16 x 16",
        ),
        ("dit", CANVASES, "{min: 2, max: 2, mass_at_min: 0}", r"data: 2 classes, .* 10"),
    ],
)
def test_data_that_do_not_fit_the_pipeline_are_rejected(
    kind: str, data: str, w: str, message: str, tmp_path: Path, run_dir: Path
) -> None:
    recipe = adopting_recipe(tmp_path, tiny_pipeline(kind, tmp_path / "pipeline"), data=data, w=w)
    with pytest.raises(ConfigError, match=message):
        check(recipe, PROFILE, run_dir, accept_changes=False)
