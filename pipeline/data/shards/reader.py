"""Read data shards: the samples of one split in any order, or those of one shard in order."""

import logging
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data.shards.dataset_info import ShardInfo, read_info
from pipeline.data.shards.sample_encoding import (
    DTYPES,
    REMAKE,
    StoredSample,
    decode_samples,
    sample_key,
    to_unit_range,
)
from pipeline.data.shards.tar_index import Member, TarIndex, open_tar
from pipeline.data.sources.captions import Caption
from pipeline.data.sources.loaded_source import Sample
from pipeline.data.sources.plain_tar import stream_tar
from pipeline.data.training_data import Batch, Samples
from pipeline.errors import DataError
from pipeline.tensors import Condition

CACHE_BYTES = 512 * 1024**2
_UNREAD = -1

_log = logging.getLogger(__name__)


class SampleShards(Samples):
    """One split of a data set with its conditions, by random access.

    A split whose decoded size is small is cached in memory; samples are decoded on first access.
    """

    def __init__(self, folder: Path, split: str, *, cache_bytes: int = CACHE_BYTES) -> None:
        """Open a split.

        Args:
            folder: a sharded data set.
            split: "train" or "heldout".
            cache_bytes: maximum decoded size of a cached split.

        Raises:
            DataError: the folder is not a sharded data set, or a shard is missing, truncated, or
                has another number of samples than recorded.
        """
        self.info = read_info(folder)
        if split not in self.info.splits:
            known = ", ".join(self.info.splits)
            raise DataError(f"{folder} has no split {split!r}; use one of {known}")
        content = self.info.splits[split]
        self._places = {name: place for place, name in enumerate(self.info.extensions)}
        self._shards = content.shards
        self._firsts = np.array([shard.first for shard in content.shards], np.int64)
        self._tars = [folder / shard.name for shard in content.shards]
        self._views: list[memoryview] = []
        self._members: list[Member] = []
        for shard, tar in zip(content.shards, self._tars, strict=True):
            index, view = open_tar(tar, TarIndex)
            self._check_shard(tar, shard, index)
            self._views.append(view)
            self._members += index.members
        self._cache = self._make_cache(split, content.count, cache_bytes)
        self._is_decoded = np.zeros(content.count, bool)
        self._labels = np.full(content.count, _UNREAD, np.int64)

    def __len__(self) -> int:
        """Return the number of samples in the split."""
        return len(self._labels)

    @property
    def null(self) -> Condition | None:
        """None: the null condition is the class index after the last class."""
        return None

    def read(self, rows: NDArray[np.int64]) -> Batch:
        """Read the samples at `rows`, in that order: x float32 `[b, *latent]`, and conditions.

        8-bit images are scaled to [-1, 1].

        Raises:
            IndexError: a row is negative or past the end.
            DataError: a sample does not match the data set's description, or the data set has
                captions only.
        """
        condition = self.conditions(rows)
        if self._cache is None:
            samples = self._decode(rows)
        else:
            new = np.unique(rows[~self._is_decoded[rows]])
            self._cache[new] = self._decode(new)
            self._is_decoded[new] = True
            samples = self._cache[rows]
        return Batch(x=torch.from_numpy(to_unit_range(samples)), condition=condition)

    def conditions(self, rows: NDArray[np.int64]) -> Condition:
        """Read the classes at `rows`, int64, if the data has classes; each is read once.

        Raises:
            IndexError: a row is negative or past the end.
            DataError: the class of a sample is out of range.
        """
        self._check_rows(rows)
        if not self.info.num_classes:
            return {}
        for row in np.unique(rows[self._labels[rows] == _UNREAD]).tolist():
            self._labels[row] = self._sample(row).label()
        return {"label": torch.from_numpy(self._labels[rows])}

    def captions(self, rows: NDArray[np.int64]) -> list[Caption]:
        """Read the captions at `rows`, in that order.

        Raises:
            IndexError: a row is negative or past the end.
            DataError: the data set has no captions, or one is damaged.
        """
        self._check_rows(rows)
        if not self.info.captioned:
            raise DataError(f"data from {self.info.source} has no captions; use a captioned source")
        return [self._sample(row).caption() for row in rows.tolist()]

    def _check_rows(self, rows: NDArray[np.int64]) -> None:
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(
                f"rows {rows.min()} .. {rows.max()} are not all in 0 .. {len(self) - 1}"
            )

    def _check_shard(self, tar: Path, shard: ShardInfo, index: TarIndex) -> None:
        expected = [
            f"{sample_key(position)}.{extension}"
            for position in range(shard.first, shard.first + shard.count)
            for extension in self.info.extensions
        ]
        if index.count != shard.count or [member.name for member in index.members] != expected:
            raise DataError(
                f"{tar}: expected {shard.count} samples ({len(expected)} members) from "
                f"{sample_key(shard.first)} on, its index has {index.count} ({len(index.members)} "
                f"members); {REMAKE}"
            )

    def _make_cache(self, split: str, count: int, cache_bytes: int) -> Sample | None:
        if self.info.encoding is None:
            return None
        shape = (count, *self.info.latent_shape)
        dtype = DTYPES[self.info.encoding]
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        fits = size <= cache_bytes
        _log.debug(
            "split %s: %d samples %s, decoded size %d bytes, limit %d bytes",
            split,
            count,
            "cached in memory" if fits else "decoded at every read",
            size,
            cache_bytes,
        )
        return np.empty(shape, dtype) if fits else None

    def _decode(self, rows: NDArray[np.int64]) -> Sample:
        return decode_samples(self.info, [self._sample(row) for row in rows.tolist()])

    def _sample(self, row: int) -> StoredSample:
        shard = int(np.searchsorted(self._firsts, row, side="right")) - 1
        content = partial(self._content, shard, row)
        return StoredSample(self.info, _sample_name(self._tars[shard], row), content)

    def _content(self, shard: int, row: int, extension: str) -> bytes:
        member = self._members[len(self._places) * row + self._places[extension]]
        return bytes(self._views[shard][member.offset : member.offset + member.size])


def stream_shard(folder: Path, shard: ShardInfo) -> Iterator[StoredSample]:
    """Read the samples of one shard in order, by webdataset.

    Args:
        folder: a sharded data set.
        shard: one of its shards.

    Raises:
        DataError: the shard is missing, truncated, or has other samples than recorded.
    """
    info, tar = read_info(folder), folder / shard.name
    try:
        with tar.open("rb") as file:
            samples = stream_tar(file)
            for position in range(shard.first, shard.first + shard.count):
                name = _sample_name(tar, position)
                parts = next(samples, {})
                if parts.get("__key__") != sample_key(position) or parts.keys() - {
                    "__key__",
                    "__url__",
                } != set(info.extensions):
                    raise DataError(
                        f"{name} is missing or has other members than "
                        f"{', '.join(info.extensions)}; {REMAKE}"
                    )
                yield StoredSample(info, name, parts.__getitem__)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(f"{tar} cannot be read ({error}); {REMAKE}") from None


def _sample_name(tar: Path, position: int) -> str:
    return f"{tar}, sample {sample_key(position)}"
