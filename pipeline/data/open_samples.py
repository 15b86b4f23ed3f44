"""Open training data: images, or encoded latents."""

from pathlib import Path

from pipeline.data.latents import LATENTS, LatentShards, LatentsInfo, read_latents_info
from pipeline.data.shards.dataset_info import DatasetInfo, read_info
from pipeline.data.shards.reader import SampleShards
from pipeline.data.training_data import Samples


def open_samples(folder: Path, split: str) -> Samples:
    """Open one split of a folder written by stage `shard` or stage `encode`.

    Raises:
        DataError: the folder is neither, has no such split, or is damaged.
    """
    return (LatentShards if _is_encoded(folder) else SampleShards)(folder, split)


def read_data_info(folder: Path) -> DatasetInfo | LatentsInfo:
    """Read the description of such a folder: splits, sample shape and classes.

    Raises:
        DataError: the folder is neither, or is damaged.
    """
    return read_latents_info(folder) if _is_encoded(folder) else read_info(folder)


def _is_encoded(folder: Path) -> bool:
    return (folder / LATENTS).is_file()
