"""The samples that the students' gate looks at: whose, in how many steps, from which noise."""

import functools

from pipeline.bundle import read_manifest
from pipeline.config import Recipe
from pipeline.evaluation.protocol import YARDSTICK_SEED_OFFSET, Cell, Role
from pipeline.evaluation.samplers import own_sampler
from pipeline.ledger import Artifact, Ledger
from pipeline.training.round_plan import RoundPlan

SEED_OFFSET = 1000
"""From the evaluation's seed to the gate's."""


class GateCell(Cell):
    """A set of samples that the gate looks at; its name says whose content it is."""

    @property
    def file(self) -> str:
        """A name that no other set of an evaluation of this size has."""
        w = str(self.w).removesuffix(".0")
        return f"gate-{self.digest[:16]}-{self.sampler}-{self.steps}-w{w}-seed{self.seed}.npy"


def seed_of(recipe: Recipe) -> int:
    """The seed of the noise that the gate's samples start from."""
    return recipe.evaluation.seed + SEED_OFFSET


def is_from_other_noise(path: str, seed: int) -> bool:
    """Whether this set of a gate of that seed is the second of a teacher; students have one."""
    return path.endswith(f"-seed{seed + YARDSTICK_SEED_OFFSET}.npy")


def gate_cells(
    ledger: Ledger, recipe: Recipe, plan: RoundPlan, teacher: Artifact, student: Artifact
) -> list[Cell]:
    """At each guidance weight: the teacher from other noise, the teacher, the student."""
    seed = seed_of(recipe)
    of = functools.partial(_cell, ledger, recipe, plan)
    return [
        cell
        for w in recipe.gate_weights
        for cell in (
            of("yardstick", teacher, w, seed + YARDSTICK_SEED_OFFSET),
            of("teacher", teacher, w, seed),
            of("student", student, w, seed),
        )
    ]


def _cell(
    ledger: Ledger,
    recipe: Recipe,
    plan: RoundPlan,
    role: Role,
    bundle: Artifact,
    w: float,
    seed: int,
) -> Cell:
    manifest = read_manifest(ledger.locate(bundle))
    # the stage-1 student is good at any time: it is sampled in the steps round 1 takes of it
    steps = recipe.halving.first_steps
    if manifest.role == "student" and manifest.steps is not None:
        (steps,) = manifest.steps
    return GateCell(
        role=role,
        bundle=bundle.path,
        digest=bundle.digest,
        round=plan.index if role == "student" else manifest.lineage.round,
        sampler=own_sampler(manifest),
        steps=steps,
        w=w,
        seed=seed,
        ladder=manifest.sampler,
    )
