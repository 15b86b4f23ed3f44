"""Variants that `tests.benchmarks.ablations` compares: a run's recipe with a few changed values."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from pipeline.config import Recipe
from pipeline.documents import apply_override, build

LADDER = "halving.steps=[16, 8, 4, 2, 1]"
_SHARED = (
    "encoding=null",  # the base run may have encoders, which would be judged as students
    "evaluation.edits=[]",  # reported with encoders
    "gate=null",
    *("halving.first_substeps=1", "targets.draws_per_tuple=4", "targets.keep=all"),
    *("halving.sampler=deterministic", "halving.on_policy_fraction=0", "targets.mode=pregenerated"),
)


_STAGE_ONE = {
    "squared": ("guidance.loss_kind=squared", "guidance.on_policy_fraction=0"),
    "pseudo-Huber": ("guidance.loss_kind=pseudo_huber", "guidance.on_policy_fraction=0"),
    "on-policy quarter": ("guidance.loss_kind=pseudo_huber", "guidance.on_policy_fraction=0.25"),
}


@dataclass(frozen=True)
class Variant:
    """A recipe that differs in a few values, and the measurements.

    Attributes:
        name: of the variant, `group/name`.
        overrides: as for `--set`.
        w: guidance weights its students are judged at.
        stage_one: judge the stage-1 student, in 16 steps, and train no other.
    """

    name: str
    overrides: tuple[str, ...]
    w: tuple[float, ...]
    stage_one: bool = False

    @property
    def folder(self) -> str:
        """Folder in the output directory."""
        return self.name.replace("/", "-").replace(" ", "-")

    def recipe(self, base: Mapping[str, Any]) -> Recipe:
        """Return the base run's recipe with the variant's values."""
        tree = deepcopy(dict(base))
        for override in (*_SHARED, f"evaluation.w={list(self.w)}", *self.overrides):
            apply_override(tree, override)
        return build(Recipe, tree, self.name)


def variants(updates: int, base: Recipe) -> list[Variant]:
    """Return all variants, `group/name`; within a group all have the same number of updates.

    Args:
        updates: of a whole ladder, which are divided among its rounds in the demo's proportions;
            a stage-1 student has five sixths as many, in the group `stage one` a third.
        base: of the run, whose least, middle and largest w are looked at.
    """
    weights = base.evaluation.ends_and_middle
    first = f"guidance.updates={updates * 5 // 6}"
    found = [Variant(name, values, weights) for name, values in _ladders(updates).items()]
    for w in weights:
        only = (first, f"guidance.w={{values: [{w:g}]}}")
        found.append(Variant(f"laws of w/{w:g} alone", only, (w,), stage_one=True))
    few = ", ".join(f"{w:g}" for w in weights)
    laws = {"of the run": (), "few": (f"guidance.w={{values: [{few}]}}",)}
    for name, values in laws.items():
        found.append(Variant(f"laws of w/{name}", (first, *values), weights, stage_one=True))
    for name, values in _STAGE_ONE.items():
        fewer = f"guidance.updates={updates // 3}"
        found.append(Variant(f"stage one/{name}", (fewer, *values), weights, stage_one=True))
    return found


def _ladders(updates: int) -> dict[str, tuple[str, ...]]:
    part = [updates * share // 18 for share in (3, 3, 4, 8)]
    early = [part[0] + part[1], part[2], part[3]]
    whole = (LADDER, f"halving.updates={part}")
    return {
        "jumps/16-8-4-2-1": whole,
        "sampler/stochastic": (*whole, "halving.sampler=stochastic"),
        "states/own quarter": (*whole, "halving.on_policy_fraction=0.25"),
        "jumps/16-1": _steps([16, 1], [sum(part)]),
        "jumps/16-4-1": _steps([16, 4, 1], [early[0], part[2] + part[3]]),
        "jumps/16-4-2-1": _steps([16, 4, 2, 1], early),
    }


def _steps(steps: list[int], updates: list[int]) -> tuple[str, ...]:
    return (f"halving.steps={steps}", f"halving.updates={updates}")
