"""Draws depend on the position alone, not on chunks, ranks or storage."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.bundle import Manifest
from pipeline.config import Recipe
from pipeline.data.records import write_records
from pipeline.data.shards.reader import SampleShards
from pipeline.data.training_data import Order
from pipeline.errors import DataError
from pipeline.methods.method import Networks
from pipeline.models.assemble import family_of
from pipeline.models.denoiser import Denoiser
from pipeline.training.batches import (
    OnlineSource,
    TargetSource,
    from_columns,
    method_of,
    to_columns,
)
from pipeline.training.plan import plan_rounds

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def online(
    recipe: Recipe, manifest: Manifest, teacher: Denoiser, samples: SampleShards
) -> OnlineSource:
    plan = plan_rounds(recipe)[1]
    method = method_of(plan, family_of(manifest))
    return OnlineSource(
        method, Networks(teacher=teacher), teacher.schedule, samples, plan.stream, CPU
    )


def test_draws_depend_on_the_position_alone(online: OnlineSource) -> None:
    def drawn(*parts: tuple[int, int]) -> list[torch.Tensor]:
        found = [online.at(*part) for part in parts]
        each = [(d.z_t, d.t, d.w, d.condition["label"], target) for d, target in found]
        return [torch.cat(column) for column in zip(*each, strict=True)]

    whole = drawn((1000, 64))
    drawn((0, 16))  # reads in between change nothing
    for parts in ([(1000, 64)], [(1000, 32), (1032, 32)]):
        assert all(map(torch.equal, drawn(*parts), whole))


def test_stored_targets_are_the_targets_and_their_samples_conditions(
    recipe: Recipe, samples: SampleShards, online: OnlineSource, tmp_path: Path
) -> None:
    draws, target = online.at(0, 50)
    rows = Order(seed=recipe.run.seed, size=len(samples)).rows(0, 50)
    names = {"tuple": torch.arange(50), "sample": torch.from_numpy(rows)}
    tar = tmp_path / "targets.tar"
    assert write_records(tar, [{**names, **to_columns(draws, target, torch.float32)}]) == 50
    stored = TargetSource([tar], samples, (0, 1), CPU)
    read, read_target = stored.at(0, 50)
    order, original = (
        np.argsort(each.t.numpy() * 1e6 + each.z_t[:, 0, 0, 0].numpy(), kind="stable")
        for each in (read, draws)
    )
    assert torch.equal(read.z_t[order], draws.z_t[original])
    assert torch.equal(read_target[order], target.float()[original])
    assert torch.equal(read.condition["label"][order], draws.condition["label"][original])
    assert online.state(50) == {}  # of what is computed on the spot nothing grows old
    state = stored.state(125)
    assert (0 <= state["targets/age_s"] < 60, state["targets/times_used"]) == (True, 2.5)
    an_hour_ago = tar.stat().st_mtime - 3600
    os.utime(tar, (an_hour_ago, an_hour_ago))
    older = TargetSource([tar], samples, (0, 1), CPU).state(0)
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
        TargetSource([tar], samples, (0, 1), CPU)
