"""What is compared is comparable: the same updates in a group, and recipes that can be run."""

import itertools

import pytest

from pipeline.config import Recipe
from pipeline.documents import read_yaml
from pipeline.training.plan import plan_rounds
from tests.benchmarks.variants import Variant, variants
from tests.support.cases import RECIPES, read_recipe

PATHS = {path.stem: path for path in RECIPES}
UPDATES = 1800


def found_in(stem: str) -> list[Variant]:
    return variants(UPDATES, read_recipe(PATHS[stem]))


def group_of(variant: Variant) -> str:
    return variant.name.partition("/")[0]


def updates_of(variant: Variant, recipe: Recipe) -> int:
    rounds = plan_rounds(recipe)
    return sum(plan.training.updates for plan in (rounds[:1] if variant.stage_one else rounds[1:]))


@pytest.mark.parametrize("stem", ["digits", "captions", "flow-times", "digits-on-policy"])
def test_every_variant_of_a_group_is_a_recipe_of_as_many_updates(stem: str) -> None:
    tree, found = read_yaml(PATHS[stem]), found_in(stem)
    assert len({variant.folder for variant in found}) == len(found)
    for _, group in itertools.groupby(found, group_of):
        assert len({updates_of(each, each.recipe(tree)) for each in group}) == 1
    assert tree == read_yaml(PATHS[stem])


def test_a_variant_changes_what_its_name_says_and_nothing_else() -> None:
    tree = read_yaml(PATHS["digits"])
    recipes = {each.name: each.recipe(tree) for each in found_in("digits")}
    plain = recipes["jumps/16-8-4-2-1"]
    assert recipes["sampler/stochastic"].halving.samplers == ("stochastic",)
    assert plan_rounds(recipes["states/own quarter"])[1].on_policy_source == "teacher"
    assert plan_rounds(recipes["states online/own quarter"])[1].on_policy_source == "student"
    for name in ("sampler/stochastic", "states/own quarter", "states online/none"):
        other = recipes[name]
        assert other.halving.updates == plain.halving.updates
        assert (other.teacher, other.guidance) == (plain.teacher, plain.guidance)


def test_weights_are_those_of_the_run() -> None:
    digits, captions = (
        {w for each in found_in(stem) for w in each.w} for stem in ("digits", "captions")
    )
    assert digits == {0, 2, 4}
    assert captions == set(read_recipe(PATHS["captions"]).evaluation.ends_and_middle)
    alone = {each.name: each.w for each in found_in("digits") if each.name.endswith("alone")}
    assert alone == {f"laws of w/{w} alone": (w,) for w in (0, 2, 4)}


def test_times_are_shifted_on_a_flow_only() -> None:
    digits, flow = (
        [each.name for each in found_in(stem) if group_of(each) == "times"]
        for stem in ("digits", "flow-times")
    )
    assert digits == ["times/uniform", "times/logit-normal"]
    assert flow == [*digits, "times/shifted", "times/logit-normal, shifted"]
