"""Opens what a round trains on: images as they are, or encoded once as latents."""

from pathlib import Path

from pipeline.data.latents import LATENTS, LatentShards, LatentsInfo, read_latents_info
from pipeline.data.samples import Samples
from pipeline.data.shards.dataset_info import DatasetInfo, read_info
from pipeline.data.shards.reader import SampleShards


def open_samples(folder: Path, split: str) -> Samples:
    """One split of a folder that stage `shard` or stage `encode` wrote.

    Raises:
        DataError: it is neither, has no such split, or is damaged.
    """
    return (LatentShards if _is_encoded(folder) else SampleShards)(folder, split)


def read_content(folder: Path) -> DatasetInfo | LatentsInfo:
    """What such a folder holds; both kinds have splits, the shape of a sample and classes.

    Raises:
        DataError: it is neither, or damaged.
    """
    return read_latents_info(folder) if _is_encoded(folder) else read_info(folder)


def _is_encoded(folder: Path) -> bool:
    return (folder / LATENTS).is_file()
