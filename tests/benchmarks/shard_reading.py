"""Reading data shards by index and by webdataset: `python -m tests.benchmarks.shard_reading`.

Prints samples per second of CPU time, decoded from png; the best of three runs of each.
"""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pipeline.config import DigitsData
from pipeline.data.shards.reader import SampleShards, stream_shard
from pipeline.data.shards.writer import write_dataset
from pipeline.data.sources.loaded_source import LoadedSource, unlabelled_split

COUNT, SIDE = 4000, 64


def main() -> None:
    """Write random images, then read them in order and shuffled."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (COUNT, 3, SIDE, SIDE), np.uint8)
    source = LoadedSource(
        name="random",
        class_names=(),
        latent_shape=(3, SIDE, SIDE),
        encoding="png",
        labels=None,
        read=images.__getitem__,
        splits=unlabelled_split(COUNT, 0.1, 0, "here"),
    )
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_dataset(folder, source, DigitsData(source="digits", shard_size=500))
        shards = SampleShards(folder, "train", cache_bytes=0)
        rows = np.arange(len(shards))

        def by_index(order: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> None:
            for chunk in np.array_split(order, 20):
                shards.read(chunk)

        def by_webdataset() -> None:
            for shard in shards.info.splits["train"].shards:
                for sample in stream_shard(folder, shard):
                    sample.x()

        arms: dict[str, Callable[[], None]] = {
            "index, shuffled": lambda: by_index(random.permutation(rows)),
            "index, in order": lambda: by_index(rows),
            "webdataset, in order": by_webdataset,
        }
        for name, read in arms.items():
            print(f"{name:22} {len(rows) / min(_seconds(read) for _ in range(3)):8.0f}")  # noqa: T201


def _seconds(read: Callable[[], None]) -> float:
    start = time.process_time()
    read()
    return time.process_time() - start


if __name__ == "__main__":
    main()
