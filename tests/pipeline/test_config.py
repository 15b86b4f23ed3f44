"""The recipe: every combination that cannot run is refused before anything does, with advice."""

from copy import deepcopy
from typing import Any

import pytest

from pipeline.config import Recipe
from pipeline.documents import apply_override, build, read_yaml
from pipeline.errors import ConfigError
from tests.support.cases import RECIPES

TREES = {path.stem: read_yaml(path) for path in RECIPES}


def with_changes(*assignments: str, recipe: str = "digits") -> dict[str, Any]:
    tree = deepcopy(TREES[recipe])
    for assignment in assignments:
        apply_override(tree, assignment)
    return tree


def refusal(*assignments: str, recipe: str = "digits") -> str:
    with pytest.raises(ConfigError) as caught:
        build(Recipe, with_changes(*assignments, recipe=recipe), "r.yaml")
    return str(caught.value)


def accepted(*assignments: str, recipe: str = "digits") -> Recipe:
    return build(Recipe, with_changes(*assignments, recipe=recipe), "r.yaml")


GOES_ON_IN = {"digits-stylize": "digits"}
"""Recipes that are for the run of another."""


@pytest.mark.parametrize("name", TREES)
def test_a_shipped_recipe_is_valid(name: str) -> None:
    assert build(Recipe, TREES[name], name).run.name == GOES_ON_IN.get(name, name)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("[48, 32, 16]", "steps cannot go from 48 to 32"),
        ("[16, 8, 3]", "steps cannot go from 8 to 3"),
        ("[16, 16, 8]", "steps cannot go from 16 to 16"),
        ("[4, 8]", "steps cannot go from 4 to 8"),
        ("[12, 5]", "steps cannot go from 12 to 5"),
    ],
)
def test_a_step_list_that_cannot_halve_is_refused(steps: str, message: str) -> None:
    assert message in refusal(f"halving.steps={steps}", "halving.updates=10")


def test_the_refusal_of_a_step_list_shows_one_that_halves() -> None:
    assert "use [8, 4, 2, 1]" in refusal("halving.steps=[16, 8, 3]", "halving.updates=10")


def test_a_step_list_may_jump_by_any_divisor() -> None:
    recipe = accepted("halving.steps=[128, 32, 16, 2, 1]", "halving.updates=10")
    assert recipe.halving.steps == (128, 32, 16, 2, 1)
    thirds = ("teacher.schedule.num_train_timesteps=768", "halving.steps=[12, 4, 1]")
    thirds += ("halving.updates=10", "halving.first_substeps=1")
    assert accepted(*thirds).halving.steps == (12, 4, 1)
    assert "12 steps do not divide" in refusal(*thirds[1:])


def test_a_ladder_that_is_advised_ends_in_one_step() -> None:
    assert "use [45, 15, 5, 1]" in refusal("halving.steps=[45, 2]", "halving.updates=10")


@pytest.mark.parametrize(
    ("law", "allowed", "refused"),
    [
        ("{values: [4, 0, 2]}", (0, 2, 4), (1, 3.999, 5)),
        ("{values: [2]}", (2,), (1.999, 3)),
        ("{min: 1, max: 3}", (1, 2.5, 3), (0, 3.1)),
    ],
)
def test_a_law_of_w_says_what_it_allows(
    law: str, allowed: tuple[float, ...], refused: tuple[float, ...]
) -> None:
    found = accepted(f"guidance.w={law}", "evaluation.w=[2]").guidance.w
    assert all(found.allows(float(w)) for w in allowed)
    assert not any(found.allows(float(w)) for w in refused)
    assert found.allows(found.middle)
    again = build(type(found), found.model_dump(mode="json"), "again")
    assert again == found


def test_one_value_of_w_is_a_range_of_one() -> None:
    one = accepted("guidance.w={values: [2]}", "evaluation.w=[2]").guidance.w
    assert one.model_dump() == {"min": 2, "max": 2, "mass_at_min": 0}


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ("{values: [0, 2], max: 4}", "w has values and max"),
        ("{values: [0, 2], mass_at_min: 0.5}", "w has values and mass_at_min"),
        ("{values: [2, 2]}", "a value twice"),
        ("{values: []}", "guidance.w.values"),
        ("{values: [-1, 2]}", "guidance.w.values"),
        ("{values: two}", "guidance.w.values"),
    ],
)
def test_values_of_w_that_contradict_are_refused(law: str, message: str) -> None:
    assert message in refusal(f"guidance.w={law}", "evaluation.w=[2]")


def test_evaluation_asks_at_the_values_there_are() -> None:
    message = refusal("guidance.w={values: [0, 2, 4]}", "evaluation.w=[0, 1]")
    assert "evaluation.w: [1.0] is outside guidance.w {0, 2, 4}" in message


def test_laws_of_time_are_typed() -> None:
    law = accepted("guidance.time={distribution: logit_normal, mean: -0.5, std: 2}").guidance.time
    assert (law.mean, law.std, law.shift) == (-0.5, 2, 1)
    assert "need distribution: logit_normal" in refusal("guidance.time={std: 2}")
    assert "guidance.time.std" in refusal("guidance.time={distribution: logit_normal, std: 0}")
    shifted = "guidance.time={shift: 3}"
    assert "guidance.time.shift: 3 needs a rectified_flow" in refusal(shifted)
    flow = ("teacher.schedule={kind: rectified_flow, num_train_timesteps: 1024}",)
    flow += ("teacher.prediction=flow_prediction", shifted)
    assert accepted(*flow).guidance.time.shift == 3


@pytest.mark.parametrize(
    ("assignment", "old", "new"),
    [
        ("guidance.time={law: logit_normal}", "guidance.time.law", "guidance.time.distribution"),
        ("halving.own_states=0.25", "halving.own_states", "halving.on_policy_fraction"),
        ("gate.follows_w=true", "gate.follows_w", "gate.w_consistency"),
        ("gate.then=[extend, ask]", "gate.then", "gate.on_fail"),
        ("gate.rounds={'3': {then: ask}}", "gate.rounds.3.then", "gate.rounds.3.on_fail"),
        (
            "gate.rounds={halving: {follows_w: off}}",
            "gate.rounds.halving.follows_w",
            "gate.rounds.halving.w_consistency",
        ),
    ],
)
def test_a_renamed_key_is_refused_with_its_new_name(assignment: str, old: str, new: str) -> None:
    assert refusal(assignment) == f"r.yaml: {old}: renamed to {new}"


def test_a_step_list_needs_an_arrow() -> None:
    assert "steps needs at least two entries" in refusal("halving.steps=[4]", "halving.updates=10")


def test_updates_must_be_one_number_or_one_an_arrow() -> None:
    message = refusal("halving.updates=[1, 2]")
    assert "updates has 2 entries for 4 rounds" in message
    recipe = accepted("halving.updates=[1, 2, 3, 4]", "halving.learning_rate=0.5")
    assert [recipe.halving.training(arrow).updates for arrow in range(4)] == [1, 2, 3, 4]
    assert recipe.halving.training(2).learning_rate == 0.5
    assert accepted("halving.updates=7").halving.training(3).updates == 7


def test_a_reversed_range_of_w_is_refused() -> None:
    message = refusal("guidance.w={min: 3, max: 1}")
    assert message == "r.yaml: guidance.w: w range is reversed: min 3.0 is above max 1.0"


def test_evaluation_outside_the_trained_range_of_w_is_refused() -> None:
    message = refusal("evaluation.w=[0, 5]")
    assert "evaluation.w: [5.0] is outside guidance.w [0.0, 4.0]" in message
    assert "evaluation.w: [0.0] is outside" in refusal(
        "guidance.w={min: 1, max: 4}", "evaluation.w=[0, 1]"
    )


@pytest.mark.parametrize(
    ("assignment", "key"),
    [
        ("teacher.reference_steps=100", "teacher.reference_steps: 100"),
        ("evaluation.baseline_steps=[1, 3]", "evaluation.baseline_steps: 3"),
        ("teacher.schedule.num_train_timesteps=1000", "halving.steps: 16"),
    ],
)
def test_grids_between_the_schedules_timesteps_are_refused(assignment: str, key: str) -> None:
    message = refusal(assignment)
    assert f"{key} steps do not divide the schedule's" in message
    assert "use a divisor" in message


def test_a_teacher_has_exactly_one_origin() -> None:
    wanted = (
        "give exactly one of `pipeline: DIRECTORY`, `bundle: DIRECTORY` and `train: {updates: ...}`"
    )
    assert wanted in refusal("teacher.train=")
    assert wanted in refusal("teacher.bundle=somewhere")
    assert "a gaussian teacher has no weights" in refusal(
        "teacher.bundle=somewhere", recipe="gaussian"
    )


def test_prompts_need_a_teacher_that_is_there_already() -> None:
    data = "data={source: prompts, path: p.txt, size: 16, steps: 50}"
    assert "data.source: prompts need an existing teacher" in refusal(data, recipe="captions")
    assert "data.source: prompts has no classes" in (refusal(data))
    assert "data.w: Input should be greater" in refusal(
        "data={source: prompts, path: p.txt, size: 16, w: -1}"
    )


def test_a_prediction_has_to_fit_its_schedule() -> None:
    message = refusal("teacher.prediction=flow_prediction")
    assert "prediction flow_prediction does not fit schedule cosine" in message
    message = refusal("teacher.schedule.kind=rectified_flow")
    assert "prediction v_prediction does not fit schedule rectified_flow" in message


def test_gaussian_data_and_gaussian_teachers_go_together() -> None:
    wanted = "data.source: gaussian needs teacher.network.family: gaussian"
    assert wanted in refusal("data={source: gaussian}")
    assert wanted in refusal("data={source: digits}", recipe="gaussian")


@pytest.mark.parametrize(
    ("assignment", "got"),
    [
        ("teacher.schedule.kind=scaled_linear", "('scaled_linear', 'v_prediction')"),
        ("teacher.prediction=epsilon", "('cosine', 'epsilon')"),
    ],
)
def test_a_gaussian_teacher_is_written_for_one_schedule_and_output(
    assignment: str, got: str
) -> None:
    message = refusal(assignment, recipe="gaussian")
    assert f"a gaussian teacher is cosine and v_prediction, not {got}" in message


def test_three_digits_need_room() -> None:
    message = refusal("data={source: digit_canvases, digits: 3, size: 16}")
    assert "three digits are illegible at 16 pixels; use size: 32 or digits: 2" in message
    assert accepted("data={source: digit_canvases, digits: 3}").data.shard_size == 1000


@pytest.mark.parametrize("numbers", ["[7, 107]", "[7, 7]"])
def test_numbers_are_different_and_have_the_digits(numbers: str) -> None:
    message = refusal(f"data={{source: digit_canvases, numbers: {numbers}}}")
    assert "numbers: " in message
    assert accepted("data={source: digit_canvases, numbers: [7, 17]}").data.classes == (7, 17)


def test_channels_have_to_fall_into_groups() -> None:
    message = refusal("teacher.network.block_channels=[32, 60]")
    assert "teacher.network: block_channels 60: use multiples of 8" in message


def test_means_have_to_be_a_table() -> None:
    wanted = "means: expected one or more lists of the same length"
    for means in ("[]", "[[]]", "[[1.0], [1.0, 2.0]]"):
        assert wanted in refusal(f"teacher.network.means={means}", recipe="gaussian")


@pytest.mark.parametrize(
    "assignment",
    [
        "run.name=../escape",
        "run.name='two words'",
        "run.seed=-1",
        "guidance.updates=0",
        "guidance.batch_size=0",
        "guidance.learning_rate=0",
        "guidance.w.mass_at_min=1",
        "guidance.w.min=-1",
        "data.holdout=0",
        "data.holdout=1",
        "teacher.train.label_dropout=1",
        "teacher.train.ema_decay=1",
        "targets.mode=both",
        "targets.draws_per_tuple=0",
        "evaluation.w=[-1]",
        "halving.steps=[2, 1, 0]",
        "guidance.loss_weight=snr",
        "teacher.network.block_channels=[]",
        "teacher.network.w_embedding_dim=2",
        "teacher.network.w_embedding_dim=7",
    ],
)
def test_values_out_of_range_are_refused_with_their_path(assignment: str) -> None:
    assert assignment.partition("=")[0] in refusal(assignment)


def test_misspelt_keys_are_refused_deep_inside() -> None:
    assert refusal("guidance.w.mass_at_mid=0.1") == (
        "r.yaml: guidance.w.mass_at_mid: unknown key; did you mean 'mass_at_min'?"
    )
    assert refusal("teacher.network.block_chanels=[8]") == (
        "r.yaml: teacher.network.block_chanels: unknown key; did you mean 'block_channels'?"
    )


def test_passes_keep_every_tuple_from_being_drawn_too_often() -> None:
    recipe = accepted("guidance.updates=100", "guidance.batch_size=10", "targets.draws_per_tuple=2")
    assert recipe.passes(recipe.guidance, 500) == 1
    assert recipe.passes(recipe.guidance, 499) == 2
    assert recipe.passes(recipe.guidance, 10_000) == 1
