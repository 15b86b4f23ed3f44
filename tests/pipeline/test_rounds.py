"""`rounds` of a recipe: expansion of the short form, and refusals before a run."""

import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Recipe
from pipeline.documents import build, dump_yaml, parse_yaml, read_yaml
from pipeline.errors import ConfigError
from pipeline.training.ema_optimiser import OptimiserPlan
from pipeline.training.plan import plan_rounds, round_key
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan
from tests.pipeline.training.test_plan import artifact
from tests.support.terminal import ROOT

RECIPES = sorted((ROOT / "flows" / "recipes").glob("*.yaml"))
TRAINING = {"updates": 10, "batch_size": 16}
GUIDANCE = {"method": "guidance", "training": TRAINING}


def halving(**config: Any) -> dict[str, Any]:
    return {"method": "progressive", "config": config, "training": TRAINING}


def recipe(*rounds: dict[str, Any], **sections: Any) -> Recipe:
    tree = read_yaml(ROOT / "flows/recipes/digits.yaml")
    for key in ("guidance", "halving"):
        tree.pop(key)
    return build(Recipe, {**tree, "rounds": list(rounds), **sections}, "recipe")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_expansion_of_a_recipe_plans_the_same_rounds(path: Path) -> None:
    short = build(Recipe, read_yaml(path), path.name)
    tree = short.with_rounds().model_dump(mode="json", exclude_defaults=True)
    long = build(Recipe, parse_yaml(dump_yaml(tree), "expanded"), "expanded")
    assert not {"guidance", "halving", "encoding"} & set(tree)
    assert plan_rounds(long) == plan_rounds(short)
    assert (long.w, long.any_steps, long.step_counts) == (
        short.w,
        short.any_steps,
        short.step_counts,
    )


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_plan_survives_json(path: Path) -> None:
    for plan in plan_rounds(build(Recipe, read_yaml(path), path.name)):
        assert RoundPlan.model_validate(plan.model_dump(mode="json")) == plan


def test_a_round_takes_what_it_does_not_give_from_its_teacher() -> None:
    made = recipe(
        {**GUIDANCE, "config": {"w": {"min": 0, "max": 4}}},
        {**halving(steps=8, teacher_steps=16, substeps=4), "name": "eight"},
        halving(steps=1),
        {**halving(steps=2), "teacher": "eight", "targets": {"mode": "online"}},
    )
    plans = plan_rounds(made)
    assert [plan.name for plan in plans] == ["guidance", "eight", "8-to-1", "8-to-2"]
    assert [plan.parent for plan in plans] == [TEACHER_ROUND, 0, 1, 1]
    assert [plan.w for plan in plans] == [made.w] * 4
    assert [plan.targets.mode for plan in plans] == [*["pregenerated"] * 3, "online"]
    assert made.any_steps == 64  # the steps of the guidance student that round 1 folds
    assert [plan.folder for plan in plans][1:3] == ["rounds/01-eight", "rounds/02-8-to-1"]


def test_a_round_of_the_original_teacher_starts_from_a_student() -> None:
    made = recipe(
        {**GUIDANCE, "config": {"w": {"min": 0, "max": 4}}},
        {**halving(steps=1, teacher_steps=16), "teacher": "original", "init_from": "previous"},
        {**halving(steps=2, teacher_steps=4, w={"max": 1}), "teacher": "original"},
    )
    plans = plan_rounds(made)
    assert [plan.parent for plan in plans] == [TEACHER_ROUND] * 3
    assert [plan.init_from for plan in plans] == [None, 0, None]
    assert [plan.w and plan.w.max for plan in plans] == [4, 4, 1]
    # a network that starts from the original gets its input for w
    assert [plan.new_w_range for plan in plans] == [(0, 4), None, (0, 1)]


def test_halvings_of_the_original_teacher_fold_all_its_steps() -> None:
    tree = read_yaml(ROOT / "flows/recipes/digits.yaml")
    tree["halving"] |= {
        "steps": [8, 4, 1],
        "first_substeps": 2,
        "teacher": "original",
        "updates": 9,
    }
    short = build(Recipe, tree, "recipe")
    plans = plan_rounds(short)
    assert [plan.name for plan in plans] == ["guidance", "8-to-4", "8-to-1"]
    assert [(plan.parent, plan.init_from) for plan in plans] == [(-1, None), (-1, 0), (-1, 1)]
    assert [plan.config.evaluations_per_target for plan in plans] == [3, 4, 16]
    expanded = short.with_rounds().model_dump(mode="json", exclude_defaults=True)
    assert plan_rounds(build(Recipe, expanded, "expanded")) == plans


def test_the_first_weights_are_part_of_the_fingerprint_of_a_student_and_not_of_its_targets() -> (
    None
):
    made = recipe(
        GUIDANCE,
        {**halving(steps=1, teacher_steps=4), "teacher": "original", "init_from": "previous"},
    )
    plan = plan_rounds(made)[1]
    data, teacher, *students = (artifact(text) for text in ("data", "teacher", "one", "two"))
    started = [plan.starting_from(student) for student in students]
    assert [each.start for each in started] == [student.digest for student in students]
    for of, count in ((lambda each: each, 2), (lambda each: each.targets_of, 1)):
        keys = {round_key(of(each), made, "float32", data, teacher) for each in started}
        assert len(keys) == count


def test_a_changed_copy_of_a_recipe_has_its_own_rounds() -> None:
    made = build(Recipe, read_yaml(ROOT / "flows/recipes/digits.yaml"), "recipe")
    assert made.halving is not None
    assert len(made.round_configs) > 2
    shorter = made.model_copy(update={"halving": made.halving.model_copy(update={"steps": (2, 1)})})
    assert [each.name for each in shorter.round_configs] == ["guidance", "2-to-1"]
    assert made == build(Recipe, made.model_dump(mode="json"), "recipe")


def test_an_encoder_is_trained_without_guidance() -> None:
    encoder = {**halving(steps=2, teacher_steps=4, direction="encode"), "teacher": "guidance"}
    plans = plan_rounds(recipe(GUIDANCE, halving(steps=2, teacher_steps=4), encoder))
    assert [(plan.direction, plan.w.min, plan.w.max) for plan in plans if plan.w] == [
        ("decode", 0, 4),
        ("decode", 0, 4),
        ("encode", 0, 0),
    ]


@pytest.mark.parametrize(
    ("rounds", "problem"),
    [
        ([GUIDANCE, {**halving(steps=1, teacher_steps=2), "teacher": "x"}, {**halving(steps=1), "name": "x"}], "rounds.1.teacher: 'x' is not an earlier round"),  # noqa: E501
        ([GUIDANCE, {**halving(steps=1, teacher_steps=2), "teacher": "guidanc"}], "did you mean 'guidance'?"),  # noqa: E501
        ([{**GUIDANCE, "method": "guidence"}], "did you mean 'guidance'?"),
        ([GUIDANCE, halving(stepz=1)], "did you mean 'steps'?"),
        ([GUIDANCE, halving(steps=1)], "teacher_steps is missing"),
        ([GUIDANCE, halving(steps=3, teacher_steps=4)], "needs a multiple"),
        ([GUIDANCE, halving(steps=4, teacher_steps=8), halving(steps=1, teacher_steps=2)], "valid in 4 steps only"),  # noqa: E501
        ([GUIDANCE, GUIDANCE], "needs teacher: original"),
        ([GUIDANCE, {**GUIDANCE, "teacher": "original"}], "rounds.1.name: 'guidance' is taken"),
        ([{**GUIDANCE, "name": "previous"}], "is taken"),
        ([GUIDANCE, {**halving(steps=1, teacher_steps=2), "teacher": "original"}], "give w, or init_from"),  # noqa: E501
        ([GUIDANCE, {**halving(steps=1), "teacher": "original", "init_from": "guidance"}], "teacher_steps is missing"),  # noqa: E501
        ([GUIDANCE, {**halving(steps=1, teacher_steps=2), "init_from": "guidanc"}], "did you mean 'guidance'?"),  # noqa: E501
        ([{**GUIDANCE, "init_from": "2-to-1"}, halving(steps=1, teacher_steps=2)], "not an earlier round"),  # noqa: E501
        ([GUIDANCE, {**halving(steps=1, teacher_steps=2), "name": "teacher"}], "is taken"),
        ([{**GUIDANCE, "loss": {"weight": "snr"}}], "zero at pure noise"),
        ([{**GUIDANCE, "method": "denoising"}], "teacher.train"),
        ([{**GUIDANCE, "training": {**TRAINING, "warmup": 10}}], "warmup"),
        ([GUIDANCE, halving(steps=4, teacher_steps=8, sampler="stochastic"), halving(steps=2)], "deterministic student"),  # noqa: E501
        ([GUIDANCE, halving(steps=3, teacher_steps=6)], "do not divide the schedule"),
        ([{**GUIDANCE, "config": {"to_v": True}}], "needs an epsilon teacher"),
        ([GUIDANCE, halving(steps=1, teacher_steps=2, direction="encode", w={"max": 2})], "trained at w = 0"),  # noqa: E501
        ([], "rounds"),
    ],
)  # fmt: skip
def test_rounds_that_cannot_run_are_refused(rounds: list[dict[str, Any]], problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        recipe(*rounds)
    assert problem in str(refused.value)


def test_one_form_of_rounds_is_needed_and_one_is_enough() -> None:
    with pytest.raises(ConfigError, match="guidance and halving"):
        build(Recipe, {**read_yaml(ROOT / "flows/recipes/digits.yaml"), "halving": None}, "recipe")
    with pytest.raises(ConfigError, match="keep one form"):
        recipe(GUIDANCE, halving={"steps": [2, 1], "updates": 1})


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("linear", 0, [1.0, 0.75, 0.5, 0.25]),
        ("cosine", 0, [(1 + math.cos(math.pi * u / 4)) / 2 for u in range(4)]),
        ("constant", 0, [1.0] * 4),
        ("linear", 2, [1 / 3, 2 / 3, 1.0, 0.5]),
    ],
)
def test_the_learning_rate_follows_its_schedule(
    schedule: Any, warmup: int, expected: list[float]
) -> None:
    plan = OptimiserPlan(0.1, 4, clip_norm=1.0, schedule=schedule, warmup=warmup)
    assert [plan.factor(update) for update in range(4)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampling_steps": 4}, "rounds.1.sampling_steps: 4 has no effect on a student of 8 steps"),
        (
            {"config": {"steps": 8, "teacher_steps": 16, "on_policy_source": "teacher"}},
            "rounds.1.config.on_policy_source: teacher has no effect without on_policy_fraction",
        ),
        (
            {"targets": {"mode": "online", "draws_per_tuple": 3}},
            "rounds.1.targets.draws_per_tuple: 3 has no effect on online targets",
        ),
    ],
)
def test_a_key_of_a_round_without_effect_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe(GUIDANCE, {**halving(steps=8, teacher_steps=16), **change})
    assert message in str(caught.value)
