"""Conditions of an evaluation: classes, or the captions of held-out images."""

import heapq
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.shards.dataset_info import read_info
from pipeline.data.shards.reader import SampleShards
from pipeline.errors import ConfigError
from pipeline.models.unet.inpainting import draw_masks
from pipeline.randomness import RowRandom
from pipeline.sampling.sampler import Images, LabelArray, channels_last


@dataclass(frozen=True)
class Conditions:
    """The conditions of an evaluation, the same for all compared networks.

    Attributes:
        labels: class of each sample, int64 `[n]`; all 0 for data without classes.
        prompts: caption of each sample; None for class-conditional data.
        rows: held-out image of each caption, int64 `[n]`, for inpainting; None without captions.
    """

    labels: LabelArray
    prompts: tuple[str, ...] | None
    rows: NDArray[np.int64] | None = None

    @property
    def network_inputs(self) -> LabelArray | tuple[str, ...]:
        """The condition inputs for a network: labels or prompts."""
        return self.labels if self.prompts is None else self.prompts


def choose_conditions(data: Path, num: int, *, is_balanced: bool = False) -> Conditions:
    """Choose `num` conditions from a sharded data set, in order of class.

    Classes have the shares of the held-out images, with which samples are compared; with
    `is_balanced` all have equal shares. The k-th condition of a class is the caption of its k-th
    held-out image, cyclically. Held-out images are not used for training.
    """
    info, heldout = read_info(data), SampleShards(data, "heldout")
    found = heldout.conditions(np.arange(len(heldout))).get("label")
    counts = np.ones(1, np.int64)
    if found is not None and is_balanced:
        counts = np.ones(info.num_classes, np.int64)
    elif found is not None:
        counts = np.bincount(found.numpy(), minlength=info.num_classes)
    labels = labels_in_shares(num, counts)
    if not info.captioned:
        return Conditions(labels, None)
    chosen = heldout_rows(heldout, labels)
    return Conditions(labels, tuple(caption.text for caption in heldout.captions(chosen)), chosen)


def labels_in_shares(num: int, counts: NDArray[np.int64]) -> LabelArray:
    """Return `num` labels in the shares of the classes' counts, in order of class.

    Divisor method of Webster (Sainte-Lague): the next label is that of the class with the largest
    count / (2 labels + 1). So more labels only add to those of fewer, and equal counts give equal
    classes.
    """
    given = np.zeros(len(counts), np.int64)
    queue = [(-float(count), label) for label, count in enumerate(counts)]
    heapq.heapify(queue)
    for _ in range(num):
        _, label = queue[0]
        given[label] += 1
        heapq.heapreplace(queue, (-counts[label] / (2 * given[label] + 1), label))
    found: LabelArray = np.repeat(np.arange(len(counts)), given)
    return found


def heldout_rows(heldout: SampleShards, labels: LabelArray) -> NDArray[np.int64]:
    """Choose for the k-th occurrence of a label its k-th held-out image, cyclically."""
    rows = np.arange(len(heldout))
    found = heldout.conditions(rows).get("label")
    classes = np.zeros_like(rows) if found is None else found.numpy()
    chosen = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        (members,) = np.nonzero(classes == label)
        (places,) = np.nonzero(labels == label)
        chosen[places] = members[np.arange(len(places)) % len(members)]
    return chosen


def condition_images(data: Path, conditions: Conditions, first: int, count: int) -> Images:
    """Load the images of conditions `first` to `first + count`, `[count, h, w, c]`.

    Raises:
        ConfigError: the data have no captions.
    """
    if conditions.rows is None:
        raise ConfigError(
            f"{data} has no captions; inpainting networks are evaluated on captioned images, so "
            "use captioned data"
        )
    x = SampleShards(data, "heldout").read(conditions.rows[first : first + count]).x
    return channels_last(x)


def masked_images(data: Path, conditions: Conditions, seed: int) -> Images:
    """Load the images of all conditions with the evaluation's masks in grey, `[n, h, w, c]`.

    Raises:
        ConfigError: the data have no captions.
    """
    pictures = condition_images(data, conditions, 0, len(conditions.labels))
    masks = draw_masks(RowRandom((seed,), 0, len(pictures)), *pictures.shape[1:3])
    masked: Images = pictures * (1 - masks.permute(0, 2, 3, 1).numpy())
    return masked
