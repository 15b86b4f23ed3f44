"""`stepfold sample` and `stepfold edit`: conditions from the options."""

import pytest

from flows.cli.sample import read_condition, read_conditions
from pipeline.errors import ConfigError


def test_conditions_are_a_number_classes_or_prompts() -> None:
    assert read_conditions(20, None, None) == 20
    assert read_conditions(20, "3,3,8", None) == (3, 3, 8)
    assert read_conditions(20, None, ["a red 3", "a blue 8"]) == ("a red 3", "a blue 8")


@pytest.mark.parametrize(
    ("labels", "prompts", "option"),
    [("3", ["a"], "--labels and --prompt"), ("3,x", None, "--labels"), (None, [" "], "--prompt")],
)
def test_wrong_conditions_are_refused(
    labels: str | None, prompts: list[str] | None, option: str
) -> None:
    with pytest.raises(ConfigError, match=option):
        read_conditions(20, labels, prompts)


def test_one_condition_is_a_class_or_a_prompt() -> None:
    assert read_condition(0, None) == 0
    assert read_condition(None, "a red 3") == "a red 3"


@pytest.mark.parametrize(("label", "prompt"), [(None, None), (3, "a red 3"), (None, " ")])
def test_a_wrong_condition_is_refused(label: int | None, prompt: str | None) -> None:
    with pytest.raises(ConfigError, match="--prompt"):
        read_condition(label, prompt)
