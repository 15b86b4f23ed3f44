"""Sizes of the measured networks and records: the demo's, and about fifty million parameters.

Weights and samples are random: what an update costs does not depend on what is learnt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.bundle import Lineage, Manifest
from pipeline.config import (
    DigitsData,
    GuidanceConfig,
    ProgressiveConfig,
    TeacherConfig,
    TrainingConfig,
    UNetConfig,
    WDistribution,
)
from pipeline.data.records import write_records
from pipeline.data.shards.reader import SampleShards
from pipeline.data.shards.writer import write_dataset
from pipeline.data.sources.loaded_source import LoadedSource, stratified_split
from pipeline.methods.method import NoisedBatch
from pipeline.models.assemble import family_of, fresh_manifest, save_bundle
from pipeline.training.batches import to_columns
from pipeline.training.round_plan import RoundPlan

CLASSES = 10
W_DIM = 64
LAW = WDistribution(min=0, max=4, mass_at_min=0.1)


@dataclass(frozen=True)
class Size:
    """A network, the shape of its samples, and its batch size."""

    name: str
    block_channels: tuple[int, ...]
    latent_shape: tuple[int, int, int]
    batch: int

    def manifest(self, role: str = "student") -> Manifest:
        """The manifest of a teacher, or of an 8-step student."""
        network = UNetConfig(family="unet", block_channels=self.block_channels)
        config = TeacherConfig(network=network, bundle="made for a benchmark")
        lineage = Lineage(run="benchmark", round=None, parent=None)
        teacher = fresh_manifest(config, CLASSES, self.latent_shape, lineage)
        if role == "teacher":
            return teacher
        return teacher.model_copy(update={"role": "student", "w": LAW})

    def module(self, role: str = "student") -> nn.Module:
        """Build its network with random weights, always the same."""
        torch.manual_seed(0)
        family = family_of(self.manifest("teacher"))
        module = family.build()
        return module if role == "teacher" else family.student_of(module, (LAW.min, LAW.max))

    def plan(self, *, guidance: bool = False, updates: int = 1) -> RoundPlan:
        """Stage 1, or the round that halves 16 steps to 8."""
        training = TrainingConfig(updates=updates, batch_size=self.batch, learning_rate=1e-4)
        if guidance:
            return RoundPlan(
                index=0,
                name="guidance",
                parent=-1,
                method="guidance",
                config=GuidanceConfig(w=LAW),
                training=training,
                sampling_steps=16,
                seed=0,
            )
        return RoundPlan(
            index=1,
            name="16-to-8",
            parent=0,
            method="progressive",
            config=ProgressiveConfig(w=LAW, steps=8, teacher_steps=16),
            training=training,
            sampling_steps=8,
            seed=0,
        )


DEMO = Size("demo", (32, 64), (1, 8, 8), 128)
LARGE = Size("50M", (160, 320, 608), (4, 16, 16), 32)
SIZES = {size.name: size for size in (DEMO, LARGE)}


def num_parameters(module: nn.Module) -> int:
    """Parameters of a network."""
    return sum(parameter.numel() for parameter in module.parameters())


def random_draws(shape: Sequence[int], count: int, *, seed: int = 0) -> tuple[NoisedBatch, Tensor]:
    """Draws of a halving round and their targets, their contents random."""
    random = torch.Generator().manual_seed(seed)

    def uniform() -> Tensor:
        return torch.rand(count, generator=random, dtype=torch.float64)

    draws = NoisedBatch(
        z_t=torch.randn(count, *shape, generator=random),
        t=(uniform() * 8).floor() / 8 + 1 / 8,
        w=4 * uniform(),
        condition={"label": torch.randint(CLASSES, (count,), generator=random)},
    )
    return draws, torch.randn(count, *shape, generator=random)


@dataclass(frozen=True)
class Targets:
    """Target shards, and the data set that they refer to."""

    tars: list[Path]
    data: Path

    def samples(self) -> SampleShards:
        """The split whose conditions the targets have."""
        return SampleShards(self.data, "train")


def write_targets(
    folder: Path,
    shape: Sequence[int],
    *,
    tars: int,
    members: int,
    rows: int,
    dtype: torch.dtype = torch.float32,
) -> Targets:
    """Write target shards of random records: number of tars, members per tar, rows per member."""
    folder.mkdir(parents=True, exist_ok=True)
    channels, height, width = shape
    data = write_samples(folder / "data", (channels, height, width), 4 * CLASSES)
    samples = len(SampleShards(data, "train"))
    paths = [folder / f"{number:05d}.tar" for number in range(tars)]

    def chunk(number: int) -> dict[str, Tensor]:
        tuples = torch.arange(number * rows, (number + 1) * rows)
        columns = to_columns(*random_draws(shape, rows, seed=number), dtype)
        return {"tuple": tuples, "sample": tuples % samples, **columns}

    for number, path in enumerate(paths):
        write_records(path, (chunk(number * members + member) for member in range(members)))
    return Targets(paths, data)


def write_samples(folder: Path, shape: tuple[int, int, int], count: int) -> Path:
    """A sharded data set of random samples, the shards as large as the demo's."""
    labels = np.arange(count, dtype=np.int64) % CLASSES
    names = tuple(str(label) for label in range(CLASSES))
    random = np.random.default_rng(0)
    samples = random.standard_normal((count, *shape), np.float32)
    source = LoadedSource(
        name="random",
        class_names=names,
        latent_shape=shape,
        encoding="npy",
        labels=labels,
        read=samples.__getitem__,
        splits=stratified_split(labels, names, 0.1, 0),
    )
    write_dataset(folder, source, DigitsData(source="digits"))
    return folder


def write_bundle(folder: Path, size: Size, role: str) -> Path:
    """A bundle of that size."""
    save_bundle(folder, size.manifest(role), size.module(role).eval())
    return folder


def target_spec(run_dir: Path, plan: RoundPlan, data: Path, teacher: Path) -> dict[str, Any]:
    """The specification that a worker of stage `pregenerate` is started with."""
    return {
        "run_dir": str(run_dir),
        "plan": plan.model_dump(mode="json"),
        "data": str(data),
        "teacher": str(teacher),
        "parents": [],
        "dtype": "float32",
    }
