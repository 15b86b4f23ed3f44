"""Where a round's draws and targets come from: read from disk, or computed on the spot.

Both are functions of a position on the training clock alone, so that resuming means knowing one
number and the number of workers changes nothing. Only on-policy states of the
student also depend on its current weights, which a checkpoint holds.
"""

import time
from abc import ABC, abstractmethod
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import Tensor

from pipeline.data.order import Order
from pipeline.data.records import RecordShards
from pipeline.data.samples import Samples
from pipeline.errors import DataError
from pipeline.methods.method import DistillationMethod, Draws
from pipeline.models.denoiser import Denoiser
from pipeline.randomness import RowRandom
from pipeline.tensors import Condition, Latent

_PAIR = "z_t_and_velocity"

READ = (_PAIR, "t", "w", "sample")
"""The columns of a target record that training reads."""


class DrawSource(ABC):
    """Draws with their targets, by position."""

    @abstractmethod
    def at(self, first: int, count: int) -> tuple[Draws, Latent]:
        """The draws and velocity targets of `count` positions from `first`, on the device."""

    def state(self, samples_seen: int) -> dict[str, float]:  # noqa: ARG002 (what is computed on the spot has no age)
        """Numbers to watch: how old the targets are, how often each has been used; {} if fresh."""
        return {}


class OnlineSource(DrawSource):
    """Targets computed when they are asked for; the teacher sits in the training process.

    Asking may evaluate the student too, equally often on every worker.
    """

    def __init__(
        self,
        method: DistillationMethod,
        student: Denoiser,
        teacher: Denoiser | None,
        samples: Samples,
        stream: tuple[int, ...],
        device: torch.device,
    ) -> None:
        self._method = method
        self._student = student
        self._teacher = teacher
        self._samples = samples
        self._stream = stream
        self._order = Order(seed=stream[0], size=len(samples))
        self._device = device

    def at(self, first: int, count: int) -> tuple[Draws, Latent]:
        """Draw by position, then ask the teacher."""
        batch = self._samples.read(self._order.rows(first, count))
        random = RowRandom(self._stream, first, count)
        draws = on_device(self._method.draw(self._student.schedule, batch, random), self._device)
        with torch.no_grad():
            draws = self._method.settle(self._teacher, draws, random, self._student)
            return draws, self._method.target(self._teacher, draws)


class TargetSource(DrawSource):
    """Targets that were computed ahead of time, in a shuffled order.

    Args:
        tars: target shards in order.
        samples: the split they were made from, which holds their conditions.
        stream: of the round.
        device: where draws and targets go.

    Raises:
        DataError: a tar is missing or damaged, or has not what training reads.
    """

    def __init__(
        self, tars: list[Path], samples: Samples, stream: tuple[int, ...], device: torch.device
    ) -> None:
        self._records = RecordShards(tars)
        missing = [name for name in READ if name not in self._records.columns]
        if missing:
            raise DataError(
                f"{tars[0]} has no column {missing[0]}; remove the shard and generate the targets "
                "again"
            )
        self._samples = samples
        self._order = Order(seed=stream[0] * 65536 + stream[1], size=len(self._records))
        self._device = device
        self._made = sum(tar.stat().st_mtime for tar in tars) / len(tars)

    def state(self, samples_seen: int) -> dict[str, float]:
        """Seconds since the targets were made, on average, and how often each was used."""
        return {
            "targets/age_s": max(0.0, time.time() - self._made),
            "targets/times_used": samples_seen / len(self._records),
        }

    def at(self, first: int, count: int) -> tuple[Draws, Latent]:
        """Read by position."""
        columns = self._records.read(self._order.rows(first, count), READ)
        condition = self._samples.conditions(columns.pop("sample").numpy())
        return from_columns(
            {name: column.to(self._device) for name, column in columns.items()},
            {name: value.to(self._device) for name, value in condition.items()},
        )


def to_columns(draws: Draws, target: Latent, dtype: torch.dtype) -> dict[str, Tensor]:
    """What a target record stores of a batch; z_t and the target in `dtype`, the rest exactly.

    Conditions are not in it: a text embedding is larger than all the rest, and the data set holds
    it once for all tuples of a sample.

    z_t and target, which are always read together, lie side by side in one column
    `[b, 2, *latent]`: one piece of memory to find for each row.
    """
    return {
        _PAIR: torch.stack([draws.z_t.to(dtype), target.to(dtype)], dim=1),
        "t": draws.t,
        "w": draws.w,
    }


def from_columns(columns: dict[str, Tensor], condition: Condition) -> tuple[Draws, Latent]:
    """The inverse of `to_columns`, in float32; `condition` is that of the records' samples."""
    z_t, velocity = columns[_PAIR].float().unbind(1)
    return Draws(z_t=z_t, t=columns["t"], w=columns["w"], condition=condition), velocity


def on_device(draws: Draws, device: torch.device) -> Draws:
    """The same draws on a device."""
    moved = {
        field.name: value.to(device)
        for field in fields(draws)
        if isinstance(value := getattr(draws, field.name), Tensor)
    }
    condition = {key: value.to(device) for key, value in draws.condition.items()}
    return replace(draws, **moved, condition=condition)
