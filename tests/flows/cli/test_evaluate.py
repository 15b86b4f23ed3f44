"""`stepfold evaluate`: the number of samples, and the folder of the report."""

import re
from pathlib import Path

import pytest

from flows.cli.evaluate import evaluate_run, report_plan
from pipeline.config import Recipe
from pipeline.documents import build, read_yaml
from pipeline.errors import StepfoldError

RECIPE = Path(__file__).resolve().parents[3] / "flows" / "recipes" / "digits.yaml"


def recipe() -> Recipe:
    return build(Recipe, read_yaml(RECIPE), str(RECIPE))


@pytest.mark.parametrize("num_samples", [None, 500])
def test_the_recipes_number_replaces_the_report(num_samples: int | None) -> None:
    assert report_plan(recipe(), num_samples) == (recipe(), "report")


def test_another_number_keeps_the_report() -> None:
    found, folder = report_plan(recipe(), 5000)
    assert folder == "report-5000"
    assert found.evaluation.num_samples == 5000
    assert found.model_copy(update={"evaluation": recipe().evaluation}) == recipe()


def test_another_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StepfoldError, match=re.escape(str(tmp_path))):
        evaluate_run(tmp_path, None, 5000)
    assert list(tmp_path.iterdir()) == []
