"""A teacher that takes w as an input gives round 0: the first halving folds its own steps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel

from flows.cli.request import read_request
from pipeline.bundle import read_manifest
from pipeline.config import Recipe, WDistribution
from pipeline.data.latents import LatentShards
from pipeline.data.records import RecordShards
from pipeline.diffusion.ddim import ddim_step, jump
from pipeline.documents import dump_yaml, read_yaml
from pipeline.errors import BundleError, ConfigError
from pipeline.models.assemble import load_denoiser
from pipeline.models.denoiser import NetworkDenoiser
from pipeline.run_dir.layout import TARGETS_TAR
from pipeline.training.batches import from_columns
from pipeline.training.plan import plan_rounds
from stages.data.shard import shard
from stages.plan.plan import plan_notes, plan_run
from stages.rounds.promote import check_promotable
from stages.rounds.targets import check_teacher
from stages.teacher.adopt import adopt, adopt_components
from stages.workspace import Workspace, data_notes
from tests.support.family_chain import ask_here, encode_here, resolve, train_here
from tests.support.tiny_pipelines import tiny_pipeline

W = WDistribution(min=1, max=5, mass_at_min=0.1)


def pipeline_of(folder: Path) -> None:
    """A tiny Flux whose network has the input for guidance that Flux.1-dev has."""
    tiny_pipeline("flux", folder)
    plain = FluxTransformer2DModel.from_pretrained(folder / "transformer")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        told = FluxTransformer2DModel.from_config({**plain.config, "guidance_embeds": True})
    told.save_pretrained(folder / "transformer", safe_serialization=True)


def recipe_of(root: Path, **changes: Any) -> Recipe:
    if not (root / "pipeline").exists():
        pipeline_of(root / "pipeline")
    resolve("flux", root)
    tree = read_yaml(root / "recipe.yaml")
    del tree["guidance"]
    tree["teacher"]["w"] = {"min": 1, "max": 5}
    tree["halving"]["steps"] = [4, 2, 1]
    for key, value in changes.items():
        tree[key] = {**tree.get(key, {}), **value} if isinstance(value, dict) else value
    (root / "recipe.yaml").write_text(dump_yaml(tree))
    return read_request(root / "recipe.yaml", None, None, []).recipe


def test_rounds_keep_their_numbers_and_the_recipe_with_rounds_is_the_same(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, gate={"rounds": {"2": {"rms": "off"}}})
    plans = plan_rounds(recipe)
    assert [(plan.index, plan.parent, plan.folder) for plan in plans] == [
        (1, -1, "rounds/01-4-to-2"),
        (2, 1, "rounds/02-2-to-1"),
    ]
    assert {plan.w for plan in plans} == {W}
    assert plan_rounds(recipe.with_rounds()) == plans


def test_the_first_halving_folds_the_teachers_steps_at_the_rows_w(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    work = Workspace(tmp_path / "run", recipe)
    images, components = shard(work).value, adopt_components(work).value
    samples = encode_here(work, images, components)
    teacher = adopt(work, samples).value
    manifest = read_manifest(work.run_dir / teacher.path)
    assert (manifest.role, manifest.w) == ("teacher", W)
    with pytest.raises(BundleError, match="outside the trained weights"):
        manifest.check_use(4, 6.0)
    [note] = data_notes(work.layout)
    assert note.startswith("Round 0 is given by the teacher, which takes w as an input, from 1 to")
    rows = plan_run(work)
    assert note in plan_notes(work, rows)
    (targets,) = (row for row in rows if row.step.id == "rounds/01-4-to-2/targets")
    assert targets.teacher_evaluations == 2 * targets.tuples  # one for each of the folded steps
    assert not any(row.step.id.startswith("rounds/00") for row in rows)

    (plan, *_) = plan_rounds(recipe)
    check_teacher(work.run_dir, plan, teacher)
    made = ask_here(work.run_dir, plan, samples, teacher)
    student = train_here(work.run_dir, recipe, plan, samples, teacher, [made])
    check_promotable(work.run_dir, plan, student, teacher)
    told = read_manifest(work.run_dir / student.path)
    assert (told.w, told.steps, told.lineage.round) == (W, (2,), 1)
    assert told.lineage.parent == teacher.digest

    _, denoiser = load_denoiser(work.run_dir / teacher.path)
    assert isinstance(denoiser, NetworkDenoiser)  # one evaluation, without a null condition
    records = RecordShards([work.run_dir / made.path / TARGETS_TAR])
    stored = records.read(np.arange(len(records)))
    row = int((stored["t"] == 1).nonzero()[0])
    draws, target = from_columns({name: each[row : row + 1] for name, each in stored.items()}, {})
    w, z_1 = draws.w, draws.z_t
    assert W.allows(float(w))
    batch = LatentShards(work.run_dir / samples.path, "train").read(np.array([row]))
    one, half, most = (
        denoiser.schedule.at(torch.full((1,), t, dtype=torch.float64)) for t in (1.0, 0.5, 0.75)
    )
    with torch.no_grad():
        middle = ddim_step(denoiser(z_1, one, batch.condition, w), most)
        end = ddim_step(denoiser(middle, most, batch.condition, w), half)
        other = ddim_step(denoiser(z_1, one, batch.condition, w + 1), most)
    step = jump(one, half, denoiser.schedule.velocity)
    torch.testing.assert_close(step(z_1, target), end, rtol=1e-4, atol=1e-4)
    assert (middle - other).abs().max() > 1e-3  # it hears w


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guidance": {"updates": 9}}, "guidance: has no effect, because the teacher takes"),
        ({"halving": None}, "halving: missing"),
        ({"evaluation": {"w": [7]}}, r"evaluation\.w: .* is outside teacher\.w \[1\.0, 5\.0\]"),
        ({"gate": {"rounds": {"0": {"rms": 1}}}}, "unknown round '0'; use 1 to 2"),
    ],
)
def test_what_contradicts_a_given_round_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe_of(tmp_path, **changes)


def test_a_network_without_the_input_is_refused(tmp_path: Path) -> None:
    tiny_pipeline("flux", tmp_path / "pipeline")
    with pytest.raises(ConfigError, match=r"teacher.*w: this mmdit has no input for guidance"):
        recipe_of(tmp_path)
