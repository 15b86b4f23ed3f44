"""Evaluating again: with how many samples, and where the report goes."""

from pathlib import Path

import pytest

from flows.cli.evaluate import asked_for, evaluate_again
from pipeline.config import Recipe
from pipeline.documents import build, read_yaml
from pipeline.errors import StepfoldError

RECIPE = Path(__file__).resolve().parents[3] / "flows" / "recipes" / "digits.yaml"


def recipe() -> Recipe:
    return build(Recipe, read_yaml(RECIPE), str(RECIPE))


@pytest.mark.parametrize("num_samples", [None, 500])
def test_the_recipes_own_number_renews_the_runs_report(num_samples: int | None) -> None:
    assert asked_for(recipe(), num_samples) == (recipe(), "report")


def test_another_number_leaves_the_runs_report_alone() -> None:
    found, folder = asked_for(recipe(), 5000)
    assert folder == "report-5000"
    assert found.evaluation.num_samples == 5000
    assert found.model_copy(update={"evaluation": recipe().evaluation}) == recipe()


def test_what_is_no_run_is_not_evaluated(tmp_path: Path) -> None:
    with pytest.raises(StepfoldError, match="no run"):
        evaluate_again(tmp_path, None, 5000)
    assert list(tmp_path.iterdir()) == []
