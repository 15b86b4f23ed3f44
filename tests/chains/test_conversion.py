"""Stage 1 converts an epsilon teacher to a v student; otherwise it starts as the teacher."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.bundle import Lineage, Manifest
from pipeline.config import Recipe
from pipeline.data.latents import open_samples
from pipeline.data.training_data import Batch
from pipeline.diffusion.schedule import diffuse
from pipeline.documents import build
from pipeline.ledger import Artifact
from pipeline.models.assemble import (
    family_of,
    fresh_manifest,
    load_denoiser,
    load_module,
    network_denoiser,
    save_bundle,
)
from pipeline.models.denoiser import Denoiser
from pipeline.training.plan import plan_rounds
from stages.data.shard import shard
from stages.rounds.train import round_job
from stages.teacher.adopt import adopt
from stages.workspace import Workspace
from tests.stages.teacher.test_prediction_check import fit_convolution
from tests.support.cases import normal
from tests.support.family_chain import train_here

pytestmark = pytest.mark.slow

COUNT = 256
UPDATES = 160

# Relative to the variance of the student's target. An uninformed output has 1 or more. The
# student starts as the network of epsilon, read as a velocity, which is no better than a half; what
# it learns must explain four fifths.
START, END = 0.5, 0.2


@dataclass(frozen=True)
class Given:
    """A fitted epsilon teacher, and its training data."""

    run_dir: Path
    tree: dict[str, Any]
    data: Artifact
    teacher: Artifact

    def recipe(self, prediction: str) -> Recipe:
        guidance = {**self.tree["guidance"], "prediction": prediction}
        if prediction == "keep":
            del guidance["conversion_updates"]
        return build(Recipe, {**self.tree, "guidance": guidance}, "test")

    @property
    def bundle(self) -> Path:
        return self.run_dir / self.teacher.path

    def manifest(self, recipe: Recipe) -> Manifest:
        """The artifact that stage `train` returns for the stage-1 student."""
        job = round_job(
            Workspace(self.run_dir, recipe),
            plan_rounds(recipe)[0],
            data=self.data,
            teacher=self.teacher,
            targets=None,
        )
        return Manifest.model_validate(job["manifest"])

    def beginner(self, recipe: Recipe) -> Denoiser:
        """The student before its first update."""
        manifest = self.manifest(recipe)
        teacher, _ = load_denoiser(self.bundle)
        law = recipe.guidance.w
        module = family_of(manifest).student_of(
            load_module(self.bundle, teacher), (law.min, law.max)
        )
        return network_denoiser(manifest, module)

    def batch(self) -> Batch:
        samples = open_samples(self.run_dir / self.data.path, "heldout")
        return samples.read(np.arange(COUNT))


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    root = tmp_path_factory.mktemp("conversion")
    tree: dict[str, Any] = {
        "run": {"name": "conversion"},
        "data": {"source": "digits"},
        "teacher": {
            "network": {"family": "unet", "block_channels": [32]},
            # ends at an alpha of .6, so that dividing by it enlarges no error of the fit
            "schedule": {
                "kind": "linear",
                "num_train_timesteps": 1000,
                "beta_start": 0.0001,
                "beta_end": 0.002,
            },
            "prediction": "epsilon",
            "bundle": str(root / "teacher"),
        },
        "guidance": {
            "w": {"min": 0, "max": 1, "mass_at_min": 0.5},
            "updates": 20,
            "conversion_updates": UPDATES - 20,
            "batch_size": 32,
            "learning_rate": 5e-3,
            "loss_weight": "snr_plus_one",
        },
        "halving": {"steps": [2, 1], "updates": 1},
        "evaluation": {"w": [0]},
    }
    recipe = build(Recipe, tree, "test")
    # sharded before there is a bundle, whose class names it would read
    trained = {**tree["teacher"], "bundle": None, "train": {"updates": 1}}
    first = build(Recipe, {**tree, "teacher": trained}, "test")
    data = shard(Workspace(root / "run", first)).value
    fit_teacher(recipe, root / "run" / data.path)
    return Given(root / "run", tree, data, adopt(Workspace(root / "run", recipe), data).value)


def fit_teacher(recipe: Recipe, data: Path) -> None:
    """Fit the last convolution of a random network, and write its bundle."""
    torch.manual_seed(0)
    batch = open_samples(data, "train").read(np.arange(COUNT))
    lineage = Lineage(run="fitted", round=None, parent=None)
    manifest = fresh_manifest(recipe.teacher, 10, (1, 8, 8), lineage)
    module = family_of(manifest).build()
    seen: list[Tensor] = []
    handle = module.conv_out.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    eps, denoiser = noise(), network_denoiser(manifest, module)
    level = denoiser.schedule.at(times())
    with torch.no_grad():
        denoiser(diffuse(batch.x, eps, level), level, batch.condition, torch.zeros_like(level.t))
        fit_convolution(module.conv_out, seen[0], eps)
    handle.remove()
    save_bundle(Path(str(recipe.teacher.bundle)), manifest, module)


def times() -> Tensor:
    return torch.arange(1, COUNT + 1).double() / COUNT


def noise() -> Tensor:
    return normal(COUNT, 1, 8, 8).float()


@torch.no_grad()
def error(given: Given, student: Denoiser) -> float:
    """Mean squared error of the unguided velocity over the variance of the teacher's."""
    _, teacher = load_denoiser(given.bundle)
    batch, level = given.batch(), teacher.schedule.at(times())
    z_t = diffuse(batch.x, noise(), level)
    theirs, ours = (
        denoiser.velocity(z_t, level, batch.condition, torch.zeros_like(level.t))
        for denoiser in (teacher, student)
    )
    return float((ours - theirs).square().mean() / theirs.var())


def test_the_students_velocity_comes_to_be_the_teachers(given: Given) -> None:
    recipe = given.recipe("v")
    plan = plan_rounds(recipe)[0]
    assert plan.training.updates == UPDATES
    assert given.manifest(recipe).prediction_type == "v_prediction"
    assert error(given, given.beginner(recipe)) > START
    student = train_here(given.run_dir, recipe, plan, given.data, given.teacher, None)
    manifest, trained = load_denoiser(given.run_dir / student.path)
    assert manifest == given.manifest(recipe)
    assert error(given, trained) < END


def test_a_student_that_keeps_the_prediction_starts_as_its_teacher(given: Given) -> None:
    recipe = given.recipe("keep")
    assert plan_rounds(recipe)[0].training.updates == 20
    assert given.manifest(recipe).prediction_type == "epsilon"
    # the same sums in another order, at most: float32 rounds at 1e-7, and this is a square
    assert error(given, given.beginner(recipe)) < 1e-12
