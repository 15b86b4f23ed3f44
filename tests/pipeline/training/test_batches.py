"""Draws depend on the position alone: not on chunks or ranks, nor on being stored."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.bundle import Lineage
from pipeline.config import GaussianConfig, Recipe
from pipeline.data.records import write_records
from pipeline.data.shards.reader import SampleShards
from pipeline.data.training_data import Order
from pipeline.documents import build, read_yaml
from pipeline.errors import DataError
from pipeline.methods.method import NoisedBatch
from pipeline.models.assemble import denoiser_of, family_of, fresh_manifest
from pipeline.models.denoiser import Denoiser
from pipeline.tensors import Latent
from pipeline.training.batches import OnlineSource, TargetSource, from_columns, to_columns
from pipeline.training.build_method import method_of
from pipeline.training.plan import plan_rounds
from stages.data.shard import shard
from stages.workspace import Workspace

RECIPES = Path(__file__).resolve().parents[3] / "flows" / "recipes"


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return build(Recipe, read_yaml(RECIPES / "gaussian.yaml"), "gaussian.yaml")


@pytest.fixture(scope="module")
def teacher(recipe: Recipe) -> Denoiser:
    assert isinstance(recipe.teacher.network, GaussianConfig)
    lineage = Lineage(run="test", round=None, parent=None)
    manifest = fresh_manifest(recipe.teacher, 3, (2, 1, 1), lineage)
    return denoiser_of(manifest, family_of(manifest).build())


@pytest.fixture(scope="module")
def samples(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> SampleShards:
    run_dir = tmp_path_factory.mktemp("run")
    return SampleShards(run_dir / shard(Workspace(run_dir, recipe)).value.path, "train")


@pytest.fixture(scope="module")
def online(recipe: Recipe, teacher: Denoiser, samples: SampleShards) -> OnlineSource:
    plan = plan_rounds(recipe)[1]
    lineage = Lineage(run="test", round=None, parent=None)
    family = family_of(fresh_manifest(recipe.teacher, 3, (2, 1, 1), lineage))
    return OnlineSource(
        method_of(plan, family),
        teacher,
        teacher,
        samples,
        plan.stream,
        torch.device("cpu"),
    )


def joined(parts: list[tuple[NoisedBatch, Latent]]) -> tuple[torch.Tensor, ...]:
    draws = [part[0] for part in parts]
    return (
        torch.cat([d.z_t for d in draws]),
        torch.cat([d.t for d in draws]),
        torch.cat([d.w for d in draws]),
        torch.cat([d.condition["label"] for d in draws]),
    )


def test_two_ranks_together_draw_what_one_draws(online: OnlineSource) -> None:
    whole = joined([online.at(1000, 64)])
    halves = joined([online.at(1000, 32), online.at(1032, 32)])
    assert all(torch.equal(a, b) for a, b in zip(whole, halves, strict=True))


def test_a_position_is_drawn_the_same_whenever_it_is_asked(online: OnlineSource) -> None:
    first = online.at(5000, 16)
    online.at(0, 16)
    again = online.at(5000, 16)
    assert torch.equal(first[0].z_t, again[0].z_t)
    assert torch.equal(first[1], again[1])


def test_stored_targets_are_the_targets_and_their_samples_conditions(
    recipe: Recipe, samples: SampleShards, online: OnlineSource, tmp_path: Path
) -> None:
    draws, target = online.at(0, 50)
    rows = Order(seed=recipe.run.seed, size=len(samples)).rows(0, 50)
    names = {"tuple": torch.arange(50), "sample": torch.from_numpy(rows)}
    tar = tmp_path / "targets.tar"
    assert write_records(tar, [{**names, **to_columns(draws, target, torch.float32)}]) == 50
    stored = TargetSource([tar], samples, (0, 1), torch.device("cpu"))
    read, read_target = stored.at(0, 50)
    order = np.argsort(read.t.numpy() * 1e6 + read.z_t[:, 0, 0, 0].numpy(), kind="stable")
    original = np.argsort(draws.t.numpy() * 1e6 + draws.z_t[:, 0, 0, 0].numpy(), kind="stable")
    assert torch.equal(read.z_t[order], draws.z_t[original])
    assert torch.equal(read_target[order], target.float()[original])
    assert torch.equal(read.condition["label"][order], draws.condition["label"][original])
    assert online.state(50) == {}  # of what is computed on the spot nothing grows old
    state = stored.state(125)
    assert (0 <= state["targets/age_s"] < 60, state["targets/times_used"]) == (True, 2.5)
    an_hour_ago = tar.stat().st_mtime - 3600
    os.utime(tar, (an_hour_ago, an_hour_ago))
    older = TargetSource([tar], samples, (0, 1), torch.device("cpu")).state(0)
    assert 3600 <= older["targets/age_s"] < 3660


def test_half_precision_columns_keep_times_and_weights_exact(online: OnlineSource) -> None:
    draws, target = online.at(0, 20)
    back, back_target = from_columns(to_columns(draws, target, torch.float16), draws.condition)
    assert torch.equal(back.t, draws.t)
    assert torch.equal(back.w, draws.w)
    # float16 keeps 11 bits: relative error at most 2^-11 of numbers of order 1..10
    assert torch.allclose(back_target, target.float(), rtol=2**-11, atol=1e-6)


def test_records_that_lack_what_training_reads_are_refused_at_once(
    samples: SampleShards, tmp_path: Path
) -> None:
    tar = tmp_path / "targets.tar"
    write_records(tar, [{"t": torch.zeros(4), "w": torch.zeros(4), "sample": torch.arange(4)}])
    with pytest.raises(DataError, match=r"targets\.tar has no column z_t_and_velocity"):
        TargetSource([tar], samples, (0, 1), torch.device("cpu"))
