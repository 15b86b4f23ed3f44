"""Encoded data: the latents of a data set, with text embeddings or classes.

Computed once from images and captions. The embedding of each distinct caption is stored once, in
half precision; samples refer to it by row. Without captions, samples have a class.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pipeline.data.records import Column, RecordShards
from pipeline.data.shards.dataset_info import DatasetInfo, SplitInfo, read_description, read_info
from pipeline.data.shards.reader import SampleShards
from pipeline.data.training_data import Batch, Samples
from pipeline.documents import Document
from pipeline.durable import replace_durably
from pipeline.errors import DataError
from pipeline.shapes import LatentShape
from pipeline.tensors import Condition

LATENTS = "latents.json"
NULL = "null.safetensors"
_REMAKE = "delete the encoded data and run again to encode it"


class LatentsInfo(Document):
    """Description of encoded data; `latents.json`.

    Attributes:
        pipeline: class of the stock pipeline whose autoencoder and text encoders were used.
        latent_shape: (channels, axis, ...) of a latent.
        num_classes: number of classes for class-conditional data; 0 for captioned data.
        num_conditions: number of distinct captions plus the null condition, which comes first.
        conditions: the record tars of the conditions, in order.
        splits: "train" and "heldout", split as the images.
    """

    format_version: Literal[1] = 1
    pipeline: str
    latent_shape: LatentShape
    num_classes: NonNegativeInt = 0
    num_conditions: NonNegativeInt
    conditions: tuple[str, ...]
    splits: dict[str, SplitInfo]

    @model_validator(mode="after")
    def _has_captions_or_classes(self) -> "LatentsInfo":
        if bool(self.num_classes) == bool(self.num_conditions):
            raise ValueError(
                f"num_classes is {self.num_classes} and num_conditions is {self.num_conditions}; "
                "exactly one of them must be 0"
            )
        return self


def write_latents_info(folder: Path, info: LatentsInfo) -> None:
    """Write the description of encoded data."""
    (folder / LATENTS).write_text(info.model_dump_json(indent=1), encoding="utf-8")


def write_null(path: Path, null: Condition) -> None:
    """Write the null condition, one row per key, in float32."""
    rows = {name: tensor.float().cpu().contiguous() for name, tensor in null.items()}
    replace_durably(path, lambda temporary: save_file(rows, temporary))


def read_null(path: Path) -> Condition:
    """Read the null condition, one row per key, float32.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read ({error}); {_REMAKE}") from None


def read_latents_info(folder: Path) -> LatentsInfo:
    """Read the description of encoded data.

    Raises:
        DataError: the folder holds no encoded data, or the description is damaged.
    """
    return read_description(folder / LATENTS, LatentsInfo, "encoded data", _REMAKE)


class LatentShards(Samples):
    """One split of encoded data with its conditions, memory-mapped, by random access."""

    def __init__(self, folder: Path, split: str) -> None:
        """Open a split.

        Raises:
            DataError: the folder does not hold encoded data, or a file is missing, damaged, or
                does not match the description.
        """
        self.info = read_latents_info(folder)
        if split not in self.info.splits:
            known = ", ".join(self.info.splits)
            raise DataError(f"{folder} has no split {split!r}; use one of {known}")
        content = self.info.splits[split]
        self._where = folder / split
        self._samples = RecordShards([folder / shard.name for shard in content.shards])
        _check_count(self._where, len(self._samples), content.count)
        self._condition_column = "label" if self.info.num_classes else "caption"
        self._check_columns()
        self._inline = [
            name for name in self._samples.columns if name not in ("x", self._condition_column)
        ]
        self._conditions: RecordShards | None = None
        self._null: Condition | None = None
        if self.info.num_conditions:
            self._conditions = RecordShards([folder / name for name in self.info.conditions])
            _check_count(folder / "conditions", len(self._conditions), self.info.num_conditions)
            self._null = read_null(folder / NULL)

    def __len__(self) -> int:
        """Return the number of samples in the split."""
        return len(self._samples)

    @property
    def null(self) -> Condition | None:
        """The null condition, one row, float32; None for class-conditional data."""
        return None if self._null is None else dict(self._null)

    def read(self, rows: NDArray[np.int64]) -> Batch:
        """Read the latents at `rows`, in that order: x float32 `[b, *latent]`, and conditions.

        Raises:
            IndexError: a row is negative or past the end.
            DataError: a sample refers to a caption or class that does not exist.
        """
        return Batch(x=self._samples.read(rows, ["x"])["x"], condition=self.conditions(rows))

    def conditions(self, rows: NDArray[np.int64]) -> Condition:
        """Read the conditions at `rows`: text embeddings, float32, with sizes if stored.

        Without captions: the classes, int64.

        Raises:
            IndexError: a row is negative or past the end.
            DataError: a sample refers to a caption or class that does not exist.
        """
        inline = self._samples.read(rows, [self._condition_column, *self._inline])
        index = inline.pop(self._condition_column)
        count = self.info.num_classes or self.info.num_conditions
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < count:
            raise DataError(
                f"{self._where}: {self._condition_column} {index.min()} .. {index.max()} is out of "
                f"range, there are {count}; {_REMAKE}"
            )
        if self._conditions is None:
            return {"label": index, **inline}
        embeddings = self._conditions.read(index.numpy())
        return {name: tensor.float() for name, tensor in {**embeddings, **inline}.items()}

    def _check_columns(self) -> None:
        expected = {
            "x": Column(dtype="float32", shape=self.info.latent_shape),
            self._condition_column: Column(dtype="int64", shape=()),
        }
        found = {name: self._samples.columns.get(name) for name in expected}
        if found != expected:
            raise DataError(f"{self._where} has columns {found}, expected {expected}; {_REMAKE}")


def _check_count(where: Path, count: int, expected: int) -> None:
    if count != expected:
        raise DataError(f"{where} holds {count} rows, {LATENTS} has {expected}; {_REMAKE}")


def open_samples(folder: Path, split: str) -> Samples:
    """Open one split of a folder written by stage `shard` or stage `encode`.

    Raises:
        DataError: the folder is neither, has no such split, or is damaged.
    """
    return (LatentShards if (folder / LATENTS).is_file() else SampleShards)(folder, split)


def read_data_info(folder: Path) -> DatasetInfo | LatentsInfo:
    """Read the description of such a folder: splits, sample shape and classes.

    Raises:
        DataError: the folder is neither, or is damaged.
    """
    return read_latents_info(folder) if (folder / LATENTS).is_file() else read_info(folder)
