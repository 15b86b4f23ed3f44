"""Errors that would otherwise appear after hours are found before any file is created."""

from pathlib import Path

import pytest

from flows.cli.request import read_request
from flows.preflight import check
from pipeline.config import Recipe
from pipeline.config.profile import ComputeConfig, Profile
from pipeline.documents import apply_override, build, read_yaml
from pipeline.errors import BundleError, ConfigError, StepfoldError
from stages.data.shard import shard
from stages.teacher.adopt import adopt
from stages.workspace import Workspace
from tests.stages.teacher.test_prediction_check import declare, fitted
from tests.support.tiny_pipelines import edit, tiny_pipeline

RECIPES = Path(__file__).resolve().parents[2] / "flows" / "recipes"
PROFILE = Profile(compute=ComputeConfig(workers=1))


def recipe(name: str, *overrides: str) -> Recipe:
    tree = read_yaml(RECIPES / f"{name}.yaml")
    for override in overrides:
        apply_override(tree, override)
    return build(Recipe, tree, name)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["evaluation.num_samples=5"], r"evaluation\.num_samples: 5 "),
        (["data.num_samples=12"], r"data\.holdout: 0\.25 of 12 samples"),
    ],
)
def test_an_evaluation_that_cannot_measure_is_rejected_first(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(ConfigError, match=message):
        check(recipe("gaussian", *overrides), PROFILE, run_dir, accept_changes=False)
    assert not run_dir.exists()


def test_an_encoders_batch_that_does_not_divide_is_rejected_first(tmp_path: Path) -> None:
    encoders = "encoding={steps: [4, 2], updates: 2, batch_size: 129}"
    two = Profile.model_validate({"compute": {"workers": 2}})
    with pytest.raises(ConfigError, match=r"encoding\.batch_size: 129 .* 2 workers"):
        check(recipe("gaussian", encoders), two, tmp_path / "run", accept_changes=False)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation.w=[]", r"evaluation\.w"),
        ("teacher.prediction=epsilon", "prediction epsilon does not fit schedule cosine"),
    ],
)
def test_a_recipe_that_cannot_work_is_rejected(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe("digits", override)


def test_a_teacher_that_contradicts_the_recipe_is_rejected(tmp_path: Path) -> None:
    gaussian = recipe("gaussian")
    adopt(Workspace(tmp_path, gaussian), shard(Workspace(tmp_path, gaussian)).value)
    teacher = gaussian.teacher.model_copy(
        update={
            "bundle": str(tmp_path / "teacher"),
            "network": gaussian.teacher.network.model_copy(update={"std": 0.7}),
        }
    )
    other = gaussian.model_copy(update={"teacher": teacher})
    with pytest.raises(StepfoldError, match=r"teacher\.network: .*std=0\.7"):
        check(other, PROFILE, tmp_path / "run", accept_changes=False)


def test_a_bundle_whose_pipeline_is_missing_is_rejected(tmp_path: Path) -> None:
    gaussian = recipe("gaussian")
    adopt(Workspace(tmp_path, gaussian), shard(Workspace(tmp_path, gaussian)).value)
    edit(tmp_path / "teacher" / "manifest.json", pipeline="StableDiffusionPipeline")
    teacher = gaussian.teacher.model_copy(update={"bundle": str(tmp_path / "teacher")})
    with pytest.raises(BundleError, match=r"stepfold export.* teacher\.pipeline"):
        check(
            gaussian.model_copy(update={"teacher": teacher}),
            PROFILE,
            tmp_path / "run",
            accept_changes=False,
        )
    assert not (tmp_path / "run").exists()


def pipeline_recipe(pipeline: Path, folder: Path, data: str, w: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(
        f"""
run: {{name: adopted}}
data: {data}
teacher: {{pipeline: {pipeline}, reference_steps: 8}}
guidance: {{w: {w}, updates: 2, conversion_updates: 2, batch_size: 4, learning_rate: 0.001}}
halving: {{steps: [4, 2], updates: 2, batch_size: 4}}
evaluation: {{num_samples: 40, w: [2], baseline_steps: [2]}}
"""
    )
    return read_request(path, None, None, []).recipe


def captioned(pipeline: Path, folder: Path, size: int = 16) -> Recipe:
    data = f"{{source: captioned_digits, size: {size}, count: 40, holdout_count: 8}}"
    return pipeline_recipe(pipeline, folder, data, "{min: 0, max: 4}")


def test_a_pipeline_whose_scheduler_contradicts_its_weights_is_rejected_first(
    tmp_path: Path,
) -> None:
    folder, run_dir = fitted("epsilon", tmp_path / "pipeline"), tmp_path / "run"
    check(captioned(folder, tmp_path), PROFILE, run_dir, accept_changes=False)
    declare("v_prediction", folder)
    with pytest.raises(BundleError, match="v_prediction"):
        check(captioned(folder, tmp_path), PROFILE, run_dir, accept_changes=False)
    assert not run_dir.exists()


def test_a_pipeline_that_changed_since_the_recipe_was_read_is_rejected(tmp_path: Path) -> None:
    folder = tiny_pipeline("sd", tmp_path / "pipeline")
    recipe = captioned(folder, tmp_path)
    declare("v_prediction", folder)
    with pytest.raises(ConfigError, match=r"teacher\.prediction: 'epsilon' "):
        check(recipe, PROFILE, tmp_path / "run", accept_changes=False)


def test_images_of_another_size_than_the_pipeline_draws_are_rejected(tmp_path: Path) -> None:
    recipe = captioned(tiny_pipeline("sd", tmp_path / "pipeline"), tmp_path, size=32)
    with pytest.raises(ConfigError, match=r"data\.size: 32, but the pipeline .* of 16 x 16"):
        check(recipe, PROFILE, tmp_path / "run", accept_changes=False)


def test_classes_that_are_not_the_networks_are_rejected(tmp_path: Path) -> None:
    recipe = pipeline_recipe(
        tiny_pipeline("dit", tmp_path / "pipeline"),
        tmp_path,
        "{source: digit_canvases, size: 16, numbers: [7, 18]}",
        "{min: 2, max: 2, mass_at_min: 0}",
    )
    with pytest.raises(ConfigError, match=r"data: 2 classes, .* 10"):
        check(recipe, PROFILE, tmp_path / "run", accept_changes=False)
