"""Write a data source as webdataset tars; unusable samples are quarantined."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np

from pipeline.config import Data
from pipeline.data.shards.dataset_info import DatasetInfo, ShardInfo, SplitInfo, write_info
from pipeline.data.shards.sample_encoding import encode, sample_key
from pipeline.data.shards.tar_index import IndexedTarWriter, Member, TarIndex, write_index
from pipeline.data.sources.loaded_source import MIN_HELDOUT, LoadedSource
from pipeline.data.sources.quarantine import Quarantine
from pipeline.errors import DataError, SampleError


def write_dataset(folder: Path, samples: LoadedSource, config: Data) -> DatasetInfo:
    """Write every split of a source in shards of `config.shard_size`, deterministically.

    A sample is stored as `000000012.png` (or `.npy`), numbered within the split, with its class in
    `000000012.cls` and its caption in `000000012.json`, if any. Samples that do not decode are
    quarantined, listed in `set-aside.json`, and leave no gap in the numbers.

    Raises:
        DataError: a source cannot be read, more samples are unusable than allowed, or a split or
            one of its classes becomes empty.
        InfraError: a tar is incomplete or cannot be written.
    """
    quarantine = samples.quarantine.copy()
    written = {
        split: _write_split(folder, split, samples, config.shard_size, quarantine)
        for split in samples.splits
    }
    info = DatasetInfo(
        source=samples.name,
        class_names=samples.class_names,
        latent_shape=samples.latent_shape,
        encoding=samples.encoding,
        splits=written,
        captioned=samples.caption is not None,
    )
    write_info(folder, info)
    quarantine.write(folder)
    return info


def _write_split(
    folder: Path, split: str, samples: LoadedSource, size: int, quarantine: Quarantine
) -> SplitInfo:
    (folder / split).mkdir(parents=True, exist_ok=True)
    good = _usable(samples, split, quarantine)
    shards: list[ShardInfo] = []
    first = 0
    # start a shard only with a usable sample: all remaining samples may be unusable
    while (sample := next(good, None)) is not None:
        name = f"{split}/shard-{len(shards):05d}.tar"
        count = _write_shard(folder / name, first, chain([sample], islice(good, size - 1)))
        shards.append(ShardInfo(name=name, first=first, count=count))
        first += count
    return SplitInfo(count=first, shards=tuple(shards))


def _usable(
    samples: LoadedSource, split: str, quarantine: Quarantine
) -> Iterator[dict[str, bytes]]:
    """Iterate over the members of every usable sample of a split."""
    kept: set[int] = set()
    for row in samples.splits[split].tolist():
        before = len(quarantine)
        with quarantine.catching():
            parts = _parts(samples, row)
        if len(quarantine) > before:
            quarantine.check(samples.total)
            continue
        kept.add(row)
        yield parts
    _check_kept(samples, split, kept)


def _check_kept(samples: LoadedSource, split: str, kept: set[int]) -> None:
    """Check that enough samples remain in a split and in each of its classes."""
    if len(kept) == len(samples.splits[split]):
        return
    if samples.labels is None:
        fewest = MIN_HELDOUT if split == "heldout" else 1
        if len(kept) < fewest:
            raise DataError(
                f"{split}: {len(kept)} samples are usable, {fewest} are needed; add samples"
            )
        return
    there = {int(samples.labels[row]) for row in kept}
    for row in samples.splits[split].tolist():
        label = int(samples.labels[row])
        if label not in there:
            raise DataError(
                f"class {samples.class_names[label]!r} has no usable sample in {split}; add "
                "samples or remove the class"
            )


def _write_shard(tar: Path, first: int, samples: Iterable[dict[str, bytes]]) -> int:
    members: list[Member] = []
    count = 0
    with IndexedTarWriter(tar) as writer:
        for count, parts in enumerate(samples, start=1):
            members += writer.add(sample_key(first + count - 1), parts)
    write_index(tar, TarIndex(size=writer.size, count=count, members=tuple(members)))
    return count


def _parts(samples: LoadedSource, row: int) -> dict[str, bytes]:
    """Build the members of one sample by extension."""
    parts: dict[str, bytes] = {}
    if samples.encoding is not None and samples.read is not None:
        sample = samples.read(row)
        if not np.isfinite(sample).all():
            raise SampleError(f"sample {row} of {samples.name}", ": contains NaN or infinity")
        parts[samples.encoding] = encode(sample, samples.encoding)
    if samples.labels is not None:
        parts["cls"] = str(int(samples.labels[row])).encode()
    if samples.caption is not None:
        parts["json"] = samples.caption(row).to_json()
    return parts
