"""What an evaluation asks every network for: classes, or the captions of held-out images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.shards.dataset_info import read_info
from pipeline.data.shards.reader import SampleShards
from pipeline.errors import ConfigError
from pipeline.models.unet.inpainting import draw_masks
from pipeline.randomness import RowRandom
from pipeline.sampling.sampler import Images, LabelArray, balanced_labels


@dataclass(frozen=True)
class Asked:
    """The questions of an evaluation, the same for all that are compared.

    Attributes:
        labels: the class of each sample, int64 `[n]`, all 0 where images have none.
        prompts: the caption of each sample; None where a class is all there is to say.
        rows: the held-out images that have these captions, of which inpainting hides a part.
    """

    labels: LabelArray
    prompts: tuple[str, ...] | None
    rows: NDArray[np.int64] | None = None

    @property
    def by_network(self) -> LabelArray | tuple[str, ...]:
        """What a network is told."""
        return self.labels if self.prompts is None else self.prompts


def asked_of(data: Path, num: int) -> Asked:
    """`num` questions on a sharded data set, classes balanced and in order.

    The k-th question of a class is the caption of its k-th held-out image, from the first again
    when they are used up; nothing held out was trained on.
    """
    info = read_info(data)
    labels = balanced_labels(num, max(1, info.num_classes))
    if not info.captioned:
        return Asked(labels, None)
    heldout = SampleShards(data, "heldout")
    chosen = rows_of(heldout, labels)
    return Asked(labels, tuple(caption.text for caption in heldout.captions(chosen)), chosen)


def rows_of(heldout: SampleShards, labels: LabelArray) -> NDArray[np.int64]:
    """For the k-th of each label its k-th held-out image, from the first again at the end."""
    rows = np.arange(len(heldout))
    found = heldout.conditions(rows).get("label")
    classes = np.zeros_like(rows) if found is None else found.numpy()
    chosen = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        (members,) = np.nonzero(classes == label)
        (places,) = np.nonzero(labels == label)
        chosen[places] = members[np.arange(len(places)) % len(members)]
    return chosen


def asked_pictures(data: Path, asked: Asked, first: int, count: int) -> Images:
    """The images whose captions questions `first` to `first + count` are, `[count, h, w, c]`.

    Raises:
        ConfigError: the data have no captions, so that no question is about an image.
    """
    if asked.rows is None:
        raise ConfigError("an inpainting network is judged on captioned images; give it such data")
    x = SampleShards(data, "heldout").read(asked.rows[first : first + count]).x
    pictures: Images = x.permute(0, 2, 3, 1).contiguous().numpy()
    return pictures


def hidden_pictures(data: Path, asked: Asked, seed: int) -> Images:
    """The images of all questions with what an evaluation hides of them in grey, `[n, h, w, c]`.

    Raises:
        ConfigError: the data have no captions.
    """
    pictures = asked_pictures(data, asked, 0, len(asked.labels))
    masks = draw_masks(RowRandom((seed,), 0, len(pictures)), *pictures.shape[1:3])
    seen: Images = pictures * (1 - masks.permute(0, 2, 3, 1).numpy())
    return seen
