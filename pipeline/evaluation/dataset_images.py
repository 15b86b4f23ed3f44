"""The real images of a sharded data set as arrays, and what a report makes of them alone."""

from pathlib import Path

import numpy as np

from pipeline.data.samples import Batch
from pipeline.data.shards.reader import SampleShards
from pipeline.sampling.sampler import Images, LabelArray


def real_images(data: Path, split: str) -> tuple[Images, LabelArray]:
    """All real images of a split, `[n, h, w, c]`, and their labels."""
    shards = SampleShards(data, split)
    batch = shards.read(np.arange(len(shards)))
    return _channels_last(batch), batch.condition["label"].numpy()


def images_at(data: Path, split: str, rows: LabelArray) -> Images:
    """Those rows of a split, `[n, h, w, c]`, in that order; they need no classes."""
    return _channels_last(SampleShards(data, split).read(rows))


def labels_of(data: Path, split: str) -> LabelArray:
    """The class of every image of a split, int64 `[n]`."""
    shards = SampleShards(data, split)
    labels: LabelArray = shards.conditions(np.arange(len(shards)))["label"].numpy()
    return labels


def rows_like(asked: LabelArray, labels: LabelArray) -> LabelArray:
    """The first rows of each class: as many as are asked of it, or as there are."""
    wanted = np.bincount(asked)
    return np.concatenate(
        [np.flatnonzero(labels == label)[:count] for label, count in enumerate(wanted)]
    )


def class_means(images: Images, labels: LabelArray) -> Images:
    """The mean image of every class `[classes, h, w, c]`; classes are 0, 1, ... without a gap."""
    return np.stack([images[labels == label].mean(0) for label in np.unique(labels)])


def _channels_last(batch: Batch) -> Images:
    images: Images = batch.x.permute(0, 2, 3, 1).contiguous().numpy()
    return images
