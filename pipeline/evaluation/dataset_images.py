"""Real images of a sharded data set as arrays, and class statistics of them."""

from pathlib import Path

import numpy as np

from pipeline.data.shards.reader import SampleShards
from pipeline.sampling.sampler import Images, LabelArray, channels_last


def real_images(data: Path, split: str) -> tuple[Images, LabelArray]:
    """Load all real images of a split, `[n, *axes, c]`, and their labels."""
    shards = SampleShards(data, split)
    batch = shards.read(np.arange(len(shards)))
    return channels_last(batch.x), batch.condition["label"].numpy()


def images_at(data: Path, split: str, rows: LabelArray) -> Images:
    """Load the given rows of a split, `[n, *axes, c]`, in the given order; needs no classes."""
    return channels_last(SampleShards(data, split).read(rows).x)


def labels_of(data: Path, split: str) -> LabelArray:
    """Load the class of every image of a split, int64 `[n]`; all 0 for data without classes."""
    shards = SampleShards(data, split)
    rows = np.arange(len(shards))
    found = shards.conditions(rows).get("label")
    return np.zeros_like(rows) if found is None else found.numpy()


def rows_with_class_counts(requested: LabelArray, labels: LabelArray) -> LabelArray:
    """Return rows of `labels` with the class counts of `requested`.

    Takes the first rows of each class, and all of them where a class has fewer than requested.
    """
    counts = np.bincount(requested)
    return np.concatenate(
        [np.flatnonzero(labels == label)[:count] for label, count in enumerate(counts)]
    )


def class_means(images: Images, labels: LabelArray) -> Images:
    """Compute the mean image of each class, `[classes, *axes, c]`; labels are 0, 1, ... gapless."""
    return np.stack([images[labels == label].mean(0) for label in np.unique(labels)])
