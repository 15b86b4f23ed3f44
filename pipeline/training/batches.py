"""The method of a round, and its noised batches and targets: read from disk or computed online.

Both sources are functions of the position on the training clock alone, so a resume needs one
number, and the number of workers does not matter. Only online on-policy states also depend on the
current student, which is part of a checkpoint.
"""

import time
from abc import ABC, abstractmethod
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import Tensor

from pipeline.data.records import RecordShards
from pipeline.data.training_data import Order, Samples
from pipeline.diffusion.schedule import NoiseSchedule
from pipeline.errors import DataError
from pipeline.methods.method import METHODS, DistillationMethod, Networks, NoisedBatch
from pipeline.models.family import ModelFamily
from pipeline.randomness import RowRandom
from pipeline.tensors import Condition, Latent
from pipeline.training.round_plan import RoundPlan

_PAIR = "z_t_and_velocity"

READ = (_PAIR, "t", "w", "sample")
"""Columns of a target record that training needs."""


def method_of(plan: RoundPlan, family: ModelFamily) -> DistillationMethod:
    """Build the distillation method of a round.

    Raises:
        TypeError: the plan lacks a value that its method needs.
    """
    return METHODS.get(plan.method).build(plan.config, plan.loss, family.null_row)


class BatchSource(ABC):
    """Noised batches with their targets, by position."""

    @abstractmethod
    def at(self, first: int, count: int) -> tuple[NoisedBatch, Latent | None]:
        """Return the batch of `count` positions from `first`, and its targets or None."""

    def state(self, samples_seen: int) -> dict[str, float]:  # noqa: ARG002 (online targets have no age)
        """Return metrics of the targets: their age and use count; {} for online targets."""
        return {}


class OnlineSource(BatchSource):
    """Targets computed online, with the teacher in the training process.

    On-policy states may also evaluate the student, equally often on every worker.
    """

    def __init__(
        self,
        method: DistillationMethod,
        networks: Networks,
        schedule: NoiseSchedule,
        samples: Samples,
        stream: tuple[int, ...],
        device: torch.device,
    ) -> None:
        self._method = method
        self._networks = networks
        self._schedule = schedule
        self._samples = samples
        self._stream = stream
        self._order = Order(seed=stream[0], size=len(samples))
        self._device = device

    def at(self, first: int, count: int) -> tuple[NoisedBatch, Latent | None]:
        """Draw the batch by position and compute its targets with the teacher."""
        batch = self._samples.read(self._order.rows(first, count))
        random = RowRandom(self._stream, first, count)
        draws = self._method.draw(self._schedule, batch, random)
        return self._method.prepare(self._networks, on_device(draws, self._device), random)


class TargetSource(BatchSource):
    """Precomputed targets, in a shuffled order.

    Args:
        tars: target shards in order.
        samples: the data split of the targets, which holds their conditions.
        stream: key of the round's random stream.
        device: device of batches and targets.

    Raises:
        DataError: a tar is missing or damaged, or lacks a needed column.
    """

    def __init__(
        self, tars: list[Path], samples: Samples, stream: tuple[int, ...], device: torch.device
    ) -> None:
        self._records = RecordShards(tars)
        missing = [name for name in READ if name not in self._records.columns]
        if missing:
            raise DataError(
                f"{tars[0]} has no column {missing[0]}; delete the shard and run again to "
                "regenerate the targets"
            )
        self._samples = samples
        self._order = Order(seed=stream[0] * 65536 + stream[1], size=len(self._records))
        self._device = device
        self._made = sum(tar.stat().st_mtime for tar in tars) / len(tars)

    def state(self, samples_seen: int) -> dict[str, float]:
        """Return the targets' mean age in seconds and their mean use count."""
        return {
            "targets/age_s": max(0.0, time.time() - self._made),
            "targets/times_used": samples_seen / len(self._records),
        }

    def at(self, first: int, count: int) -> tuple[NoisedBatch, Latent]:
        """Read batch and targets by position."""
        columns = self._records.read(self._order.rows(first, count), READ)
        condition = self._samples.conditions(columns.pop("sample").numpy())
        return from_columns(
            {name: column.to(self._device) for name, column in columns.items()},
            {name: value.to(self._device) for name, value in condition.items()},
        )


def to_columns(draws: NoisedBatch, target: Latent, dtype: torch.dtype) -> dict[str, Tensor]:
    """Convert a batch to columns of target records: z_t and target in `dtype`, the rest exactly.

    Conditions are not stored: a text embedding is larger than all the rest, and the data set holds
    it once for all tuples of a sample.

    z_t and target are always read together, so they share one column `[b, 2, *latent]`, which takes
    one memory access per row.
    """
    return {
        _PAIR: torch.stack([draws.z_t.to(dtype), target.to(dtype)], dim=1),
        "t": draws.t,
        "w": draws.w,
    }


def from_columns(columns: dict[str, Tensor], condition: Condition) -> tuple[NoisedBatch, Latent]:
    """Convert columns to a batch and targets in float32; `condition` is that of their samples."""
    z_t, velocity = columns[_PAIR].float().unbind(1)
    return NoisedBatch(z_t=z_t, t=columns["t"], w=columns["w"], condition=condition), velocity


def on_device(draws: NoisedBatch, device: torch.device) -> NoisedBatch:
    """Move a batch to a device."""
    moved = {
        field.name: value.to(device)
        for field in fields(draws)
        if isinstance(value := getattr(draws, field.name), Tensor)
    }
    condition = {key: value.to(device) for key, value in draws.condition.items()}
    return replace(draws, **moved, condition=condition)
