"""Incompatible parts of a recipe are refused with the reason, not ignored."""

import pytest

from pipeline.config import Recipe
from pipeline.documents import apply_override, build, read_yaml
from pipeline.errors import ConfigError
from pipeline.training.plan import plan_rounds
from stages.report.usage import sample_command
from tests.support.terminal import ROOT

UNCLASSED = "data={source: captioned_folder, path: x, size: 16}"
ENCODERS = "encoding={steps: [16, 8], updates: 2}"
CLIP = "evaluation.extractors=[{kind: clip, path: x}]"


def recipe(name: str, *changes: str) -> Recipe:
    tree = read_yaml(ROOT / "flows" / "recipes" / f"{name}.yaml")
    tree.pop("$schema", None)
    for change in changes:
        apply_override(tree, change)
    return build(Recipe, tree, name)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        (
            "digits",
            ["halving.on_policy_fraction=0.5", "halving.steps=[16, 1]", "halving.updates=5"],
            "on_policy_fraction: a one-step student",
        ),
        ("digits-jumps", [ENCODERS], "an encoder of 8 steps needs a deterministic student"),
        (
            "captions",
            [UNCLASSED, "gate={}", "halving.sampler=both"],
            "gate: .* need evaluation.extractors",
        ),
    ],
)
def test_what_would_have_no_effect_or_no_use_is_refused(
    name: str, changes: list[str], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        recipe(name, *changes)


def test_a_gate_with_features_or_classes_is_accepted() -> None:
    assert recipe("captions", UNCLASSED, "gate={}", "halving.sampler=both", CLIP).gate
    assert recipe("captions", UNCLASSED, "gate={}").gate
    assert recipe("captions", "gate={}", "halving.sampler=both").gate


def test_a_stochastic_jump_counts_steps_of_its_teacher() -> None:
    rounds = plan_rounds(recipe("digits-jumps", "halving.sampler=stochastic"))
    # of 16 deterministic steps the jump of 2/4 is 8; the jump of 1 is 2 of the teacher's of 2/4
    assert [plan.jump for plan in rounds] == [None, 8, 2]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("digits", "sample it --steps 2 --guidance-weight 1 --output samples.png --num 100"),
        ("gaussian", "sample it --steps 2 --guidance-weight 1 --output samples.npz"),
        (
            "captions",
            'sample it --steps 2 --guidance-weight 1 --prompt "..." --output samples.png',
        ),
        (
            "captions-inpaint",
            'inpaint it IMAGE MASK --guidance-weight 1 --prompt "..." --output samples.png',
        ),
    ],
)
def test_the_command_that_draws_has_all_that_it_needs(name: str, command: str) -> None:
    assert sample_command(recipe(name), "it", 2, 1.0) == f"stepfold {command}"
