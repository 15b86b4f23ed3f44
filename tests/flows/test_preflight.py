"""What would only fail after hours of training is refused before anything is created."""

from pathlib import Path

import pytest

from flows.preflight import check
from infra.profile import ComputeConfig, Profile
from pipeline.config import Recipe
from pipeline.documents import apply_override, build, read_yaml
from pipeline.errors import ConfigError, StepfoldError
from stages.adopt import adopt
from stages.shard import shard

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
        (["evaluation.num_samples=5"], "fewer than two samples for each of 3 classes"),
        (["data.num_samples=12"], r"data\.holdout: 0\.25 of 12 samples leaves too few"),
    ],
)
def test_an_evaluation_that_cannot_measure_is_refused_first(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(ConfigError, match=message):
        check(recipe("gaussian", *overrides), PROFILE, run_dir, accept_changes=False)
    assert not run_dir.exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation.w=[]", r"evaluation\.w"),
        ("teacher.prediction=epsilon", "epsilon says nothing of x at the pure noise"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe("digits", override)


def test_a_teacher_that_is_not_what_the_recipe_says_is_refused(tmp_path: Path) -> None:
    gaussian = recipe("gaussian")
    adopt(tmp_path, gaussian, shard(gaussian, tmp_path))
    teacher = gaussian.teacher.model_copy(
        update={
            "bundle": str(tmp_path / "teacher"),
            "network": gaussian.teacher.network.model_copy(update={"std": 0.7}),
        }
    )
    other = gaussian.model_copy(update={"teacher": teacher})
    with pytest.raises(StepfoldError, match=r"teacher\.network: the recipe says .*std=0\.7"):
        check(other, PROFILE, tmp_path / "run", accept_changes=False)
