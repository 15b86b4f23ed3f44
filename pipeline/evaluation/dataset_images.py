"""Real images of a sharded data set as arrays, and class statistics of them."""

from pathlib import Path

import numpy as np

from pipeline.data.shards.reader import SampleShards
from pipeline.data.training_data import Batch
from pipeline.sampling.sampler import Images, LabelArray


def real_images(data: Path, split: str) -> tuple[Images, LabelArray]:
    """Load all real images of a split, `[n, h, w, c]`, and their labels."""
    shards = SampleShards(data, split)
    batch = shards.read(np.arange(len(shards)))
    return _channels_last(batch), batch.condition["label"].numpy()


def images_at(data: Path, split: str, rows: LabelArray) -> Images:
    """Load the given rows of a split, `[n, h, w, c]`, in the given order; needs no classes."""
    return _channels_last(SampleShards(data, split).read(rows))


def labels_of(data: Path, split: str) -> LabelArray:
    """Load the class of every image of a split, int64 `[n]`."""
    shards = SampleShards(data, split)
    labels: LabelArray = shards.conditions(np.arange(len(shards)))["label"].numpy()
    return labels


def rows_with_class_counts(requested: LabelArray, labels: LabelArray) -> LabelArray:
    """Return rows of `labels` with the class counts of `requested`.

    Takes the first rows of each class, and all of them where a class has fewer than requested.
    """
    counts = np.bincount(requested)
    return np.concatenate(
        [np.flatnonzero(labels == label)[:count] for label, count in enumerate(counts)]
    )


def class_means(images: Images, labels: LabelArray) -> Images:
    """Compute the mean image of each class, `[classes, h, w, c]`; labels are 0, 1, ... gapless."""
    return np.stack([images[labels == label].mean(0) for label in np.unique(labels)])


def _channels_last(batch: Batch) -> Images:
    images: Images = batch.x.permute(0, 2, 3, 1).contiguous().numpy()
    return images
