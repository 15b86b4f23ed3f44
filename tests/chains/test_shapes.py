"""Samples of one, two and three axes through every stage: no formula depends on the axes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flows.preflight import check
from pipeline.bundle import read_manifest
from pipeline.config import Recipe
from pipeline.data.records import RecordShards
from pipeline.data.shards.reader import SampleShards
from pipeline.diffusion.ddim import sample
from pipeline.documents import build
from pipeline.errors import ConfigError
from pipeline.evaluation.documents import read_report
from pipeline.ledger import Artifact
from pipeline.models.assemble import load_denoiser, load_module
from pipeline.randomness import RowRandom
from pipeline.run_dir.layout import TARGETS_TAR
from pipeline.sampling.sampler import BundleSampler
from pipeline.training.plan import plan_rounds, plan_teacher
from stages.data.shard import shard
from stages.evaluation.evaluate import evaluate
from stages.plan.disk import estimate
from stages.plan.plan import plan_run
from stages.plan.sizes import sample_shape
from stages.workspace import Workspace
from tests.support.family_chain import ask_here, train_here
from tests.support.newcomers import TOYS, install
from tests.support.recipes import INLINE

pytestmark = pytest.mark.slow

SIGNAL, IMAGE, CLIP = (8,), (4, 2), (2, 2, 2)
"""Axes with equally many places, so that the same numbers are drawn for each."""

POINTS = {"family": "points", "width": 8}


def recipe_of(axes: tuple[int, ...], **changes: Any) -> Recipe:
    tree: dict[str, Any] = {
        "run": {"name": "shapes"},
        "data": {"source": "rings", "points": 48, "axes": list(axes)},
        "teacher": {
            "network": POINTS,
            "schedule": {"kind": "cosine", "num_train_timesteps": 8},
            "train": {"updates": 3, "batch_size": 8},
            "reference_steps": 8,
        },
        "guidance": {"updates": 3, "batch_size": 8},
        "halving": {"steps": [4, 2], "updates": 3, "batch_size": 8},
        "evaluation": {"num_samples": 8, "w": [0], "baseline_steps": [2]},
    }
    return build(Recipe, {**tree, **changes}, "shapes")


@dataclass(frozen=True)
class Made:
    """Results of a run."""

    work: Workspace
    data: Artifact
    bundles: tuple[Artifact, ...]
    targets: tuple[Artifact, ...]

    def records(self, index: int) -> dict[str, torch.Tensor]:
        shards = RecordShards([self.work.run_dir / self.targets[index].path / TARGETS_TAR])
        return shards.read(np.arange(len(shards)))

    def weights(self) -> list[dict[str, torch.Tensor]]:
        places = [self.work.run_dir / bundle.path for bundle in self.bundles]
        return [load_module(place, read_manifest(place)).state_dict() for place in places]


def run(root: Path, axes: tuple[int, ...]) -> Made:
    """Data, teacher, stored targets and students, on the engine in plain torch."""
    recipe, run_dir = recipe_of(axes), root / "x".join(map(str, axes))
    work = Workspace(run_dir, recipe, INLINE)
    data, first = shard(work).value, plan_teacher(recipe)
    assert first is not None
    bundles, targets = [train_here(run_dir, recipe, first, data, None, None)], []
    for plan in plan_rounds(recipe):
        targets.append(ask_here(run_dir, plan, data, bundles[-1]))
        bundles.append(train_here(run_dir, recipe, plan, data, bundles[-1], [targets[-1]]))
    return Made(work, data, tuple(bundles), tuple(targets))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[int, ...], Made]]:
    with pytest.MonkeyPatch.context() as patch:
        install(TOYS, patch)
        root = tmp_path_factory.mktemp("shapes")
        yield {axes: run(root, axes) for axes in (SIGNAL, IMAGE, CLIP)}


@pytest.mark.parametrize("axes", [SIGNAL, CLIP])
def test_data_targets_and_bundles_have_the_axes_of_the_source(
    axes: tuple[int, ...], runs: dict[tuple[int, ...], Made]
) -> None:
    made, shape = runs[axes], (2, *axes)
    x = SampleShards(made.work.run_dir / made.data.path, "train").read(np.arange(3)).x
    assert x.shape == (3, *shape)
    for index in range(len(made.targets)):
        shapes = {column.shape[1:] for column in made.records(index).values()}
        assert shapes == {(), (2, *shape)}  # z_t and target are stored as a pair
    manifests = [read_manifest(made.work.run_dir / bundle.path) for bundle in made.bundles]
    assert [each.latent_shape for each in manifests] == [shape] * 3


@pytest.mark.parametrize("axes", [SIGNAL, CLIP])
def test_the_same_numbers_as_an_image_give_the_same_targets_and_weights(
    axes: tuple[int, ...], runs: dict[tuple[int, ...], Made]
) -> None:
    made, image = runs[axes], runs[IMAGE]
    for index in range(len(image.targets)):
        for name, column in image.records(index).items():
            assert torch.equal(made.records(index)[name].reshape(column.shape), column), name
    for found, expected in zip(made.weights(), image.weights(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("axes", [SIGNAL, CLIP])
@pytest.mark.parametrize("sampler", ["ddim", "stochastic"])
def test_samples_have_the_axes_and_then_the_channels(
    axes: tuple[int, ...], sampler: str, runs: dict[tuple[int, ...], Made]
) -> None:
    made = runs[axes]
    bundle = BundleSampler(made.work.run_dir / made.bundles[0].path, torch.device("cpu"))
    labels = np.array([0, 1, 1, 0, 1])

    def drawn(first: int, count: int) -> np.ndarray:
        chosen = labels[first : first + count]
        return bundle.sample(
            steps=4, w=1.0, conditions=chosen, seed=3, sampler=sampler, first=first, batch_size=2
        )

    whole = drawn(0, 5)
    assert (whole.shape, whole.dtype) == ((5, *axes, 2), np.float32)
    assert drawn(0, 0).shape == (0, *axes, 2)
    np.testing.assert_allclose(np.concatenate([drawn(0, 3), drawn(3, 2)]), whole, atol=1e-5)
    if sampler == "ddim":
        _, denoiser = load_denoiser(made.work.run_dir / made.bundles[0].path)
        given = {"label": torch.from_numpy(labels)}
        z_1, w = RowRandom((3,), 0, 5).normal("z_1", 2, *axes), torch.ones(5, dtype=torch.float64)
        with torch.no_grad():
            x = sample(z_1, denoiser.schedule, 4, lambda z, at: denoiser(z, at, given, w))
        np.testing.assert_allclose(whole, np.moveaxis(x.numpy(), 1, -1), atol=1e-5)


def test_the_report_leaves_out_what_needs_images(runs: dict[tuple[int, ...], Made]) -> None:
    made = runs[CLIP]  # one run only, because the evaluation trains a classifier
    teacher, *students = made.bundles
    done = evaluate(made.work, data=made.data, teacher=teacher, students=tuple(students)).value
    report = read_report(made.work.run_dir / done.path)
    assert {row.cell.role for row in report.rows} >= {"teacher", "student", "baseline"}
    for row in report.rows:
        if row.cell.role == "student":
            assert row.scores.psnr_to_teacher is not None
            assert row.scores.ssim_to_teacher is None
    assert not [name for name in report.pictures if name.startswith("grid")]


@pytest.mark.parametrize("axes", [(5,), (3, 2, 4)])
def test_the_plan_counts_the_values_of_all_axes(
    axes: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(TOYS, monkeypatch)
    recipe, values = recipe_of(axes), 2 * math.prod(axes)
    rows = [row for row in plan_run(Workspace(tmp_path, recipe)) if row.bytes]
    assert rows
    assert {row.bytes - row.tuples * 32 for row in rows} == {rows[0].tuples * 2 * values * 4}
    needed = estimate(recipe)
    assert needed.data == 48 * (values * 4 + 3 * 1024)
    assert needed.samples % (8 * values * 4) == 0


def test_networks_of_images_are_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(TOYS, monkeypatch)
    recipe = recipe_of((4, 8, 8), teacher={"network": {"family": "unet"}, "train": {"updates": 2}})
    message = r"source: rings: .*\(2, 4, 8, 8\).*needed by teacher\.network\.family: unet; use"
    with pytest.raises(ConfigError, match=message):
        check(recipe, INLINE, tmp_path / "run", accept_changes=False)
    with pytest.raises(ConfigError, match=message):
        plan_run(Workspace(tmp_path / "run", recipe))
    assert not (tmp_path / "run").exists()


def test_clips_in_a_format_of_images_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(TOYS, monkeypatch)
    recipe = recipe_of((4, 8, 8))
    monkeypatch.setattr(type(recipe.data), "encoding", "png")
    with pytest.raises(ConfigError, match=r"needed by encoding png of the source; use"):
        sample_shape(recipe)
