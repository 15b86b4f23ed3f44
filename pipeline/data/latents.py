"""Encoded data: the latents of a data set, and what its captions or classes say to a network.

Computed once from images and captions. Each distinct caption is kept once, in half precision;
samples name theirs by row. Without captions, samples have their class.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pipeline.data.records import Column, RecordShards
from pipeline.data.samples import Batch, Samples
from pipeline.data.shards.dataset_info import SplitInfo, read_contents
from pipeline.documents import Document
from pipeline.durable import replace_durably
from pipeline.errors import DataError
from pipeline.tensors import Condition

LATENTS = "latents.json"
NULL = "null.safetensors"
_REMAKE = "encode the data again"


class LatentsInfo(Document):
    """What encoded data holds; `latents.json`.

    Attributes:
        pipeline: class of the stock pipeline whose autoencoder and text encoders made it.
        latent_shape: (channels, height, width) of a latent.
        num_classes: of samples that have classes and no captions; 0 for captions.
        num_conditions: distinct captions, and the null condition before them.
        conditions: the record tars that hold them, in order.
        splits: "train" and "heldout", as the images were split.
    """

    format_version: Literal[1] = 1
    pipeline: str
    latent_shape: tuple[int, int, int]
    num_classes: NonNegativeInt = 0
    num_conditions: NonNegativeInt
    conditions: tuple[str, ...]
    splits: dict[str, SplitInfo]

    @model_validator(mode="after")
    def _has_captions_or_classes(self) -> "LatentsInfo":
        if bool(self.num_classes) == bool(self.num_conditions):
            raise ValueError(
                f"{self.num_classes} classes and {self.num_conditions} conditions; samples have "
                "one or the other"
            )
        return self


def write_latents_info(folder: Path, info: LatentsInfo) -> None:
    """Write what makes record tars and a null condition encoded data."""
    (folder / LATENTS).write_text(info.model_dump_json(indent=1), encoding="utf-8")


def write_null(path: Path, null: Condition) -> None:
    """Write the null condition, one row per key, in float32."""
    rows = {name: tensor.float().cpu().contiguous() for name, tensor in null.items()}
    replace_durably(path, lambda temporary: save_file(rows, temporary))


def read_null(path: Path) -> Condition:
    """The null condition.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read ({error}); {_REMAKE}") from None


def read_latents_info(folder: Path) -> LatentsInfo:
    """What encoded data holds.

    Raises:
        DataError: the folder does not hold any.
    """
    return read_contents(folder / LATENTS, LatentsInfo, "encoded data", _REMAKE)


class LatentShards(Samples):
    """One split of encoded data by random access, with its conditions; all of it is mapped."""

    def __init__(self, folder: Path, split: str) -> None:
        """Open a split.

        Raises:
            DataError: the folder does not hold encoded data, or a file is missing, damaged, or
                does not hold what it should.
        """
        self.info = read_latents_info(folder)
        if split not in self.info.splits:
            raise DataError(f"{folder} has no split {split!r}, only {', '.join(self.info.splits)}")
        content = self.info.splits[split]
        self._where = folder / split
        self._samples = RecordShards([folder / shard.name for shard in content.shards])
        _check_count(self._where, len(self._samples), content.count)
        self._said = "label" if self.info.num_classes else "caption"
        self._check_columns()
        self._inline = [name for name in self._samples.columns if name not in ("x", self._said)]
        self._conditions: RecordShards | None = None
        self._null: Condition | None = None
        if self.info.num_conditions:
            self._conditions = RecordShards([folder / name for name in self.info.conditions])
            _check_count(folder / "conditions", len(self._conditions), self.info.num_conditions)
            self._null = read_null(folder / NULL)

    def __len__(self) -> int:
        """Samples in the split."""
        return len(self._samples)

    @property
    def null(self) -> Condition | None:
        """What the pipeline's network is told in place of a caption: one row, float32."""
        return None if self._null is None else dict(self._null)

    def read(self, rows: NDArray[np.int64]) -> Batch:
        """The latents at `rows`, in that order: x float32 `[b, c, h, w]` and their conditions.

        Raises:
            IndexError: a row is negative or past the end.
            DataError: a sample names no caption of the data.
        """
        return Batch(x=self._samples.read(rows, ["x"])["x"], condition=self.conditions(rows))

    def conditions(self, rows: NDArray[np.int64]) -> Condition:
        """What the captions at `rows` say to the network, float32, with sizes where it is told.

        The classes, int64, where there are no captions.

        Raises:
            IndexError: a row is negative or past the end.
            DataError: a sample names no caption or class of the data.
        """
        inline = self._samples.read(rows, [self._said, *self._inline])
        said = inline.pop(self._said)
        most = self.info.num_classes or self.info.num_conditions
        if len(said) and not 0 <= int(said.min()) <= int(said.max()) < most:
            raise DataError(
                f"{self._where} names {self._said}s {said.min()} .. {said.max()}, there are "
                f"{most}; {_REMAKE}"
            )
        if self._conditions is None:
            return {"label": said, **inline}
        told = self._conditions.read(said.numpy())
        return {name: tensor.float() for name, tensor in {**told, **inline}.items()}

    def _check_columns(self) -> None:
        expected = {
            "x": Column(dtype="float32", shape=self.info.latent_shape),
            self._said: Column(dtype="int64", shape=()),
        }
        found = {name: self._samples.columns.get(name) for name in expected}
        if found != expected:
            raise DataError(f"{self._where} has columns {found}, not {expected}; {_REMAKE}")


def _check_count(where: Path, count: int, expected: int) -> None:
    if count != expected:
        raise DataError(f"{where} holds {count} rows, {LATENTS} says {expected}; {_REMAKE}")
