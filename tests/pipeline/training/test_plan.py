"""Rounds are planned before a run; fingerprints contain only what determines the result."""

import pytest

from pipeline.config import Recipe
from pipeline.diffusion.grid import Grid
from pipeline.documents import apply_override, build, read_yaml
from pipeline.ledger import Artifact, FileRecord
from pipeline.training.plan import plan_rounds, plan_teacher, round_key
from tests.support.cases import RECIPES, read_recipe
from tests.support.terminal import DIGITS


def digits(*overrides: str) -> Recipe:
    tree = read_yaml(DIGITS)
    for override in overrides:
        apply_override(tree, override)
    return build(Recipe, tree, "digits.yaml")


def artifact(content: str) -> Artifact:
    files = {".": FileRecord(size=1, sha256=content)}
    return Artifact(kind="data", fingerprint="f", path="data", files=files)


def key(recipe: Recipe, index: int = 1, precision: str = "float32", data: str = "d") -> str:
    plan = plan_rounds(recipe)[index]
    return round_key(plan, recipe, precision, artifact(data), artifact("t"))


def test_each_arrow_of_the_steps_is_a_round_after_the_guidance_round() -> None:
    rounds = plan_rounds(digits())
    assert [plan.folder for plan in rounds] == [
        "rounds/00-guidance",
        "rounds/01-16-to-8",
        "rounds/02-8-to-4",
        "rounds/03-4-to-2",
        "rounds/04-2-to-1",
    ]
    assert [plan.parent for plan in rounds] == [-1, 0, 1, 2, 3]
    assert [plan.jump for plan in rounds] == [None, 2, 2, 2, 2]


def test_a_round_names_its_grid_and_its_teachers() -> None:
    rounds = plan_rounds(digits("halving.first_substeps=4"))
    assert [plan.grid for plan in rounds] == [None, Grid(8), Grid(4), Grid(2), Grid(1)]
    assert [plan.config.teacher_grid for plan in rounds] == [
        None,
        Grid(64),
        Grid(8),
        Grid(4),
        Grid(2),
    ]
    assert [plan.sampling_target for plan in rounds[:2]] == ["any-steps", "8-steps"]
    assert rounds[1].title == "round 1: 16 -> 8 steps"
    # a quarter of on-policy states in stage 1; only the first has substeps
    assert [plan.config.evaluations_per_target for plan in rounds] == [3, 8, 2, 2, 2]


def test_a_stochastic_ladder_follows_stochastic_steps_after_the_first() -> None:
    rounds = plan_rounds(digits("halving.sampler=stochastic"))[1:]
    assert [plan.config.teacher_grid.sampling for plan in rounds] == ["deterministic"] + [
        "stochastic"
    ] * 3
    assert [plan.folder for plan in rounds[:2]] == [
        "rounds/01-16-to-8-stochastic",
        "rounds/02-8-to-4-stochastic",
    ]
    assert rounds[1].title == "round 2: 8 -> 4 steps, stochastic"
    assert rounds[1].sampling_target == "4-steps-stochastic"
    # the jump of 2/8 is 16 of the 64 DDIM steps; then two of the teacher's own steps, and one
    assert [plan.config.evaluations_per_target for plan in rounds] == [16, 2, 2, 1]
    assert [plan.exported_steps for plan in rounds] == [None] * 4


def test_two_ladders_start_from_the_same_student() -> None:
    rounds = plan_rounds(digits("halving.sampler=both"))
    assert [plan.index for plan in rounds] == list(range(9))
    assert [plan.parent for plan in rounds] == [-1, 0, 1, 2, 3, 0, 5, 6, 7]
    assert len({plan.folder for plan in rounds}) == 9
    alone = digits()
    both = digits("halving.sampler=both")
    assert [key(both, index) for index in range(5)] == [key(alone, index) for index in range(5)]
    assert [plan.exported_steps for plan in rounds] == [None, 8, 4, 2, 1] + [None] * 4


@pytest.mark.parametrize(
    ("mode", "source", "per_target", "per_sample"),
    [
        ("pregenerated", "teacher", (2 + 14 / 4, 2 + 6 / 4, 2 + 2 / 4, 2), (1, 1, 1, 1)),
        # where targets are computed beside the student, states are its own
        ("online", "student", (2, 2, 2, 2), (1 + 7 / 4, 1 + 3 / 4, 1 + 1 / 4, 1)),
    ],
)
def test_on_policy_states_cost_evaluations_where_there_is_more_than_one_step(
    mode: str, source: str, per_target: tuple[float, ...], per_sample: tuple[float, ...]
) -> None:
    changes = (f"targets.mode={mode}", "halving.first_substeps=1")
    rounds = plan_rounds(digits(*changes, "halving.on_policy_fraction=0.25"))[1:]
    assert [plan.config.on_policy_fraction for plan in rounds] == [0.25, 0.25, 0.25, 0.0]
    assert [plan.config.on_policy_source for plan in rounds] == [source] * 3 + ["teacher"]
    assert tuple(plan.config.evaluations_per_target for plan in rounds) == per_target
    assert tuple(plan.config.evaluations_per_sample for plan in rounds) == per_sample


@pytest.mark.parametrize(
    ("mode", "source", "per_target", "per_sample"),
    [("pregenerated", "teacher", 1 + 8 / 4, 1), ("online", "student", 1, 1 + 8 / 4)],
)
def test_on_policy_states_of_stage_1_cost_half_a_trajectory(
    mode: str, source: str, per_target: float, per_sample: float
) -> None:
    recipe = digits(f"targets.mode={mode}", "guidance.on_policy_fraction=0.25")
    config = plan_rounds(recipe)[0].config
    assert config.on_policy_source == source
    assert config.evaluations_per_target == pytest.approx(per_target)
    assert config.evaluations_per_sample == pytest.approx(per_sample)
    assert plan_rounds(digits("guidance.on_policy_fraction=0"))[0].config.on_policy_fraction == 0


def test_students_have_the_loss_of_their_section_and_a_teacher_the_squared_one() -> None:
    encoders = "encoding={steps: [4, 2], updates: 5, loss_kind: squared}"
    recipe = digits("guidance.loss_kind=squared", encoders)
    kinds = [plan.loss.kind for plan in plan_rounds(recipe)]
    assert kinds == ["squared", *["pseudo_huber"] * 4, "squared"]
    teacher = plan_teacher(recipe)
    assert teacher is not None
    assert teacher.loss.kind == "squared"


def test_each_kind_of_round_has_a_recipe_that_ships() -> None:
    found = {path.stem: plan_rounds(read_recipe(path)) for path in RECIPES}
    samplers = [plan.sampler for plan in found["digits-stochastic"][1:]]
    assert samplers == ["deterministic"] * 2 + ["stochastic"] * 2
    assert [plan.jump for plan in found["digits-jumps"]] == [None, 4, 4]
    assert {plan.w and plan.w.as_text for plan in found["digits-fixed-w"]} == {"{0, 2, 4}"}
    own = [
        (plan.config.on_policy_fraction, plan.config.on_policy_source)
        for plan in found["digits-on-policy"][1:]
    ]
    assert own == [(0.25, "student")] * 2 + [(0.0, "teacher")]
    time = found["flow-times"][0].config.time
    assert time is not None
    assert (time.distribution, time.shift) == ("logit_normal", 2.0)


def test_every_round_has_a_stream_and_updates_of_its_own() -> None:
    recipe = digits("halving.updates=[5, 6, 7, 8]")
    plans = [plan_teacher(recipe), *plan_rounds(recipe)]
    assert len({plan.stream for plan in plans}) == len(plans)
    assert [plan.training.updates for plan in plans[2:]] == [5, 6, 7, 8]


@pytest.mark.parametrize(
    "change",
    [
        *("run.seed=1", "halving.updates=[301, 300, 400, 600]", "halving.learning_rate=0.002"),
        *("guidance.w.max=5", "guidance.w={values: [0, 1, 2, 4]}", "halving.sampler=stochastic"),
        *("targets.mode=online", "targets.dtype=float16", "halving.on_policy_fraction=0.25"),
        "halving.loss_kind=squared",
        "teacher.network.block_channels=[32, 32]",
    ],
)
def test_what_determines_the_student_changes_its_key(change: str) -> None:
    assert key(digits(change)) != key(digits())


@pytest.mark.parametrize(
    "change",
    [
        *("run.name=other", "halving.updates=[300, 300, 400, 601]"),
        *("evaluation.num_samples=7", "targets.keep=none"),
        *("guidance.time={distribution: uniform, shift: 1}", "teacher.reference_steps=32"),
    ],
)
def test_what_does_not_determine_the_student_leaves_its_key(change: str) -> None:
    assert key(digits(change)) == key(digits())


def test_precision_and_data_are_part_of_the_key() -> None:
    recipe = digits()
    assert len({key(recipe), key(recipe, precision="bfloat16"), key(recipe, data="e")}) == 3
