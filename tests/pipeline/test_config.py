"""The recipe: every invalid combination is refused before a run, with advice."""

from copy import deepcopy
from typing import Any

import pytest

from pipeline.config import Recipe
from pipeline.documents import apply_override, build, read_yaml
from pipeline.errors import ConfigError
from pipeline.training.plan import plan_rounds
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


def test_a_step_list_may_jump_by_any_divisor() -> None:
    recipe = accepted("halving.steps=[128, 32, 16, 2, 1]", "halving.updates=10")
    assert recipe.halving.steps == (128, 32, 16, 2, 1)
    thirds = ("teacher.schedule.num_train_timesteps=768", "halving.steps=[12, 4, 1]")
    thirds += ("halving.updates=10", "halving.first_substeps=1")
    assert accepted(*thirds).halving.steps == (12, 4, 1)
    assert "12 steps do not divide" in refusal(*thirds[1:])


@pytest.mark.parametrize(
    ("law", "allowed", "refused"),
    [
        ("{values: [4, 0, 2]}", (0, 2, 4), (1, 3.999, 5)),
        ("{values: [2]}", (2,), (1.999, 3)),
        ("{min: 1, max: 3}", (1, 2.5, 3), (0, 3.1)),
    ],
)
def test_a_distribution_of_w_states_which_w_it_allows(
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


def test_distributions_of_time_are_validated() -> None:
    law = accepted("guidance.time={distribution: logit_normal, mean: -0.5, std: 2}").guidance.time
    assert (law.mean, law.std, law.shift) == (-0.5, 2, 1)
    flow = ("teacher.schedule={kind: rectified_flow, num_train_timesteps: 1024}",)
    flow += ("teacher.prediction=flow_prediction", "guidance.time={shift: 3}")
    assert accepted(*flow).guidance.time.shift == 3


@pytest.mark.parametrize(
    ("assignment", "old", "new"),
    [
        ("guidance.time={law: logit_normal}", "guidance.time.law", "guidance.time.distribution"),
        ("halving.own_states=0.25", "halving.own_states", "halving.on_policy_fraction"),
        ("gate.then=[extend, ask]", "gate.then", "gate.on_fail"),
        ("gate.rounds={'3': {then: ask}}", "gate.rounds.3.then", "gate.rounds.3.on_fail"),
    ],
)
def test_a_renamed_key_is_refused_with_its_new_name(assignment: str, old: str, new: str) -> None:
    assert refusal(assignment) == f"r.yaml: {old}: renamed to {new}"


@pytest.mark.parametrize(
    ("assignment", "key", "new"),
    [
        ("gate.distance=2", "gate.distance", "relative_distance: 1.5 in place of distance: 2"),
        ("gate.w_consistency=true", "gate.w_consistency", "effective_w: 0.25 in place of true"),
        ("gate.follows_w=true", "gate.follows_w", "effective_w: 0.25 in place of true"),
        (
            "gate.rounds={halving: {distance: off}}",
            "gate.rounds.halving.distance",
            "relative_distance: 1.5 in place of distance: 2, and off in place of off",
        ),
    ],
)
def test_an_old_bound_is_refused_with_its_equivalent(assignment: str, key: str, new: str) -> None:
    found = refusal(assignment)
    assert found.startswith(f"r.yaml: {key}: was replaced; ")
    assert new in found


def test_updates_are_one_number_or_one_for_every_round() -> None:
    recipe = accepted("halving.updates=[1, 2, 3, 4]", "halving.learning_rate=0.5")
    training = [each.training for each in recipe.round_configs[1:]]
    assert [each.updates for each in training] == [1, 2, 3, 4]
    assert training[2].learning_rate == 0.5
    assert accepted("halving.updates=7").round_configs[4].training.updates == 7


def test_a_canvas_names_its_classes() -> None:
    assert accepted("data={source: digit_canvases, digits: 3}").data.shard_size == 1000
    assert accepted("data={source: digit_canvases, numbers: [7, 17]}").data.classes == (7, 17)


ORIGINS = "`pipeline: DIRECTORY`, `bundle: DIRECTORY` and `train: {updates: ...}`"
TO_2 = ("evaluation.w=[2]",)
TEN = ("halving.updates=10",)
REFUSED: list[tuple[str, str, tuple[str, ...]]] = [
    ("halving.steps=[48, 32, 16]", "steps cannot go from 48 to 32", TEN),
    ("halving.steps=[16, 8, 3]", "steps cannot go from 8 to 3", TEN),
    ("halving.steps=[16, 8, 3]", "use [8, 4, 2, 1]", TEN),
    ("halving.steps=[45, 2]", "use [45, 15, 5, 1]", TEN),
    ("halving.steps=[16, 16, 8]", "steps cannot go from 16 to 16", TEN),
    ("halving.steps=[4, 8]", "steps cannot go from 4 to 8", TEN),
    ("halving.steps=[12, 4, 1]", "halving.steps: 12 steps do not divide", TEN),
    ("halving.steps=[4]", "halving: steps", TEN),
    ("halving.updates=[1, 2]", "halving: updates has 2 entries for 4 rounds", ()),
    ("guidance.w={values: [0, 2], max: 4}", "w has values and max", TO_2),
    ("guidance.w={values: [0, 2], mass_at_min: 0.5}", "w has values and mass_at_min", TO_2),
    ("guidance.w={values: [2, 2]}", "guidance.w: ", TO_2),
    ("guidance.w={values: []}", "guidance.w.values", TO_2),
    ("guidance.w={values: [-1, 2]}", "guidance.w.values", TO_2),
    ("guidance.w={values: two}", "guidance.w.values", TO_2),
    ("guidance.w={min: 3, max: 1}", "guidance.w: ", ()),
    ("guidance.w={values: [0, 2, 4]}", "evaluation.w: [1.0]", ("evaluation.w=[0, 1]",)),
    ("guidance.w={min: 1, max: 4}", "evaluation.w: [0.0]", ("evaluation.w=[0, 1]",)),
    ("evaluation.w=[0, 5]", "evaluation.w: [5.0] is outside guidance.w [0.0, 4.0]", ()),
    ("guidance.time={std: 2}", "guidance.time: ", ()),
    ("guidance.time={distribution: logit_normal, std: 0}", "guidance.time.std", ()),
    ("guidance.time={shift: 3}", "guidance.time.shift: 3 needs a rectified_flow", ()),
    ("teacher.reference_steps=100", "teacher.reference_steps: 100 steps do not divide", ()),
    ("evaluation.baseline_steps=[1, 3]", "evaluation.baseline_steps: 3 steps do not divide", ()),
    ("teacher.schedule.num_train_timesteps=1000", "halving.steps: 16 steps do not divide", ()),
    ("teacher.train=", f"give exactly one of {ORIGINS}", ()),
    ("teacher.bundle=somewhere", f"give exactly one of {ORIGINS}", ()),
    ("data={source: prompts, path: p.txt, size: 16}", "data.source: prompts has no classes", ()),
    ("data={source: prompts, path: p.txt, size: 16, w: -1}", "data.w: ", ()),
    ("teacher.prediction=flow_prediction", "flow_prediction does not fit schedule cosine", ()),
    ("teacher.schedule.kind=rectified_flow", "does not fit schedule rectified_flow", ()),
    ("data={source: gaussian}", "gaussian need each other; set both or neither", ()),
    ("data={source: digit_canvases, digits: 3, size: 16}", "use size: 32 or digits: 2", ()),
    ("data={source: digit_canvases, numbers: [7, 107]}", "numbers: ", ()),
    ("data={source: digit_canvases, numbers: [7, 7]}", "numbers: ", ()),
    ("teacher.network.block_channels=[32, 60]", "block_channels 60: use multiples of 8", ()),
    ("guidance.w.mass_at_mid=0.1", "guidance.w.mass_at_mid: unknown key", ()),
    ("guidance.w.mass_at_mid=0.1", "did you mean 'mass_at_min'?", ()),
    ("teacher.network.block_chanels=[8]", "did you mean 'block_channels'?", ()),
]


@pytest.mark.parametrize(("assignment", "message", "others"), REFUSED)
def test_what_cannot_run_is_refused_with_its_key_and_a_way_out(
    assignment: str, message: str, others: tuple[str, ...]
) -> None:
    assert message in refusal(assignment, *others)


@pytest.mark.parametrize(
    ("recipe", "assignment", "message"),
    [
        ("captions", "data={source: prompts, path: p.txt, size: 16}", "data.source: prompts"),
        ("gaussian", "teacher.bundle=somewhere", "a gaussian teacher has no weights"),
        ("gaussian", "data={source: digits}", "gaussian need each other"),
        ("gaussian", "teacher.schedule.kind=scaled_linear", "('scaled_linear', 'v_prediction')"),
        ("gaussian", "teacher.prediction=epsilon", "('cosine', 'epsilon')"),
        ("gaussian", "teacher.network.means=[]", "teacher.network: means: "),
        ("gaussian", "teacher.network.means=[[]]", "teacher.network: means: "),
        ("gaussian", "teacher.network.means=[[1.0], [1.0, 2.0]]", "teacher.network: means: "),
    ],
)
def test_what_a_kind_of_teacher_cannot_do_is_refused(
    recipe: str, assignment: str, message: str
) -> None:
    assert message in refusal(assignment, recipe=recipe)


@pytest.mark.parametrize(
    "assignment",
    [
        *("run.name=../escape", "run.name='two words'", "run.seed=-1"),
        *("guidance.updates=0", "guidance.batch_size=0", "guidance.learning_rate=0"),
        *("guidance.w.mass_at_min=1", "guidance.w.min=-1", "guidance.loss_weight=snr"),
        *("data.holdout=0", "data.holdout=1"),
        *("teacher.train.label_dropout=1", "teacher.train.ema_decay=1"),
        *("targets.mode=both", "targets.draws_per_tuple=0"),
        *("evaluation.w=[-1]", "halving.steps=[2, 1, 0]"),
        *("teacher.network.block_channels=[]", "teacher.network.w_embedding_dim=2"),
        "teacher.network.w_embedding_dim=7",
    ],
)
def test_values_out_of_range_are_refused_with_their_path(assignment: str) -> None:
    assert assignment.partition("=")[0] in refusal(assignment)


def test_passes_keep_every_tuple_from_being_drawn_too_often() -> None:
    recipe = accepted("guidance.updates=100", "guidance.batch_size=10", "targets.draws_per_tuple=2")
    plan = plan_rounds(recipe)[0]
    assert [plan.passes(count) for count in (500, 499, 10_000)] == [1, 2, 1]


IDLE = {
    "teacher.schedule.shift=3": "shift: 3 has no effect on a cosine schedule; remove it, or set "
    "teacher.schedule.kind: rectified_flow",
    "teacher.schedule.beta_start=0.001": "beta_start: 0.001 has no effect on a cosine schedule",
    "teacher.schedule.beta_end=0.02": "set teacher.schedule.kind: linear or scaled_linear",
    "teacher.network.attention_heads=2": "class-conditional network, which has no attention",
    "guidance.w={min: 2, max: 2, mass_at_min: 0.3}": "guidance.w.mass_at_min: 0.3 has no effect",
    "targets={mode: online, draws_per_tuple: 4}": "targets.draws_per_tuple: 4 has no effect on",
    "targets={mode: online, dtype: float16}": "targets.dtype: float16 has no effect on online",
    "targets={mode: online, keep: all}": "targets.keep: all has no effect on online targets",
    "gate={ask_hours: 2}": "gate.ask_hours: 2 has no effect unless on_fail lists ask",
    "gate={extend: {share: 1}}": "gate.extend.share: 1 has no effect unless on_fail lists",
    "gate={rounds: {halving: {retry: {times: 2}}}}": "gate.rounds.halving.retry.times: 2 has no",
    "evaluation={baseline_steps: [], samplers: [ddim], w: [2]}": "evaluation.samplers: ['ddim']",
}


@pytest.mark.parametrize("assignment", IDLE)
def test_a_key_without_effect_is_refused_with_the_reason(assignment: str) -> None:
    more = ("evaluation.w=[2]",) if "mass_at_min" in assignment else ()
    assert IDLE[assignment] in refusal(assignment, *more)


def test_all_keys_without_effect_are_named_at_once() -> None:
    message = refusal("teacher.schedule.shift=3", "teacher.network.attention_heads=2")
    assert "teacher.schedule.shift: 3" in message
    assert "teacher.network.attention_heads: 2" in message


def test_updates_of_a_conversion_that_is_not_wanted_are_refused() -> None:
    message = refusal("guidance.prediction=keep", recipe="captions")
    assert (
        "guidance.conversion_updates: 300 has no effect with guidance.prediction: keep" in message
    )


def test_a_reaction_of_some_rounds_gives_its_settings_an_effect() -> None:
    gate = "gate={retry: {times: 2}, rounds: {halving: {on_fail: [retry]}}}"
    assert accepted(gate).gate.retry.times == 2


@pytest.mark.parametrize("recipe", ["digits", "captions"])
def test_guidance_needs_a_teacher_that_drops_labels(recipe: str) -> None:
    message = refusal("teacher.train.label_dropout=0", recipe=recipe)
    assert "teacher.train.label_dropout: 0 trains no unconditional network" in message
    assert "use 0.1 to 0.2, or guidance.w: {min: 0, max: 0, mass_at_min: 0}" in message


def test_a_teacher_that_is_never_guided_may_keep_every_label() -> None:
    unguided = ("guidance.w={min: 0, max: 0, mass_at_min: 0}", "evaluation.w=[0]")
    assert accepted("teacher.train.label_dropout=0", *unguided).w.max == 0
