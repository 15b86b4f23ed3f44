"""What a data source is once it is open: samples, what is known of them, which are held out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.data.sources.captions import Caption
from pipeline.data.sources.quarantine import Quarantine
from pipeline.errors import DataError

FEWEST_HELDOUT = 4
"""Samples that are held out at least: the report looks at third neighbours among them."""

Encoding: TypeAlias = Literal["png", "npy"]
Sample: TypeAlias = NDArray[Any]
"""One sample `[c, h, w]`: uint8 if its encoding is png, float32 if it is npy."""


@dataclass(frozen=True)
class LoadedSource:
    """Samples with a class, a caption or both, read one at a time.

    Attributes:
        name: of the source, as the recipe says it.
        class_names: in the order of the labels; empty if there are none.
        latent_shape: (channels, height, width) of every sample.
        encoding: how a sample is stored, which also says its type; None if there are only captions.
        labels: int64 `[n]`, the class of each sample; None if they have none.
        read: the sample at an index; None if there are only captions.
        splits: for "train" and "heldout", indices in the order in which they are written.
        caption: the caption of the sample at an index; None if they have none.
        quarantine: samples that were set aside at a look, and are in no split. `read` and `caption`
            raise SampleError for what only decoding shows to be of no use.
    """

    name: str
    class_names: tuple[str, ...]
    latent_shape: tuple[int, int, int]
    encoding: Encoding | None
    labels: NDArray[np.int64] | None
    read: Callable[[int], Sample] | None
    splits: dict[str, NDArray[np.int64]]
    caption: Callable[[int], Caption] | None = None
    quarantine: Quarantine = field(default_factory=Quarantine)

    @property
    def total(self) -> int:
        """Samples of the source, those set aside included."""
        return sum(map(len, self.splits.values())) + len(self.quarantine)


def stratified_split(
    labels: NDArray[np.int64], class_names: tuple[str, ...], holdout: float, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Set a share of every class apart; a function of labels, share and seed alone.

    Each class gives round(holdout * its size) samples, but at least one to either side. Both
    sides come shuffled, so that consecutive samples are of mixed classes.

    Raises:
        DataError: a class has fewer than two samples.
    """
    generator = np.random.default_rng([seed, 0])
    train, heldout = [], []
    for label, name in enumerate(class_names):
        members = generator.permutation(np.flatnonzero(labels == label))
        if len(members) < 2:
            raise DataError(
                f"class {name!r} has {len(members)} sample(s); one to train on and one to hold out "
                "are needed, so add samples or remove the class"
            )
        share = min(max(1, int(holdout * len(members) + 0.5)), len(members) - 1)
        heldout.append(members[:share])
        train.append(members[share:])
    return {
        "train": generator.permutation(np.concatenate(train)),
        "heldout": generator.permutation(np.concatenate(heldout)),
    }


def unlabelled_split(
    total: int, holdout: float, seed: int, place: str
) -> dict[str, NDArray[np.int64]]:
    """Set a share of samples without classes apart; a function of number, share and seed alone.

    round(holdout * total) are held out, but at least `FEWEST_HELDOUT`, and at least one is not.
    Both sides come shuffled. Errors name `place`.

    Raises:
        DataError: there are too few samples.
    """
    if total <= FEWEST_HELDOUT:
        raise DataError(
            f"{place} holds {total} sample(s); one to train on and {FEWEST_HELDOUT} to hold out "
            "are needed, so add some"
        )
    shuffled = np.random.default_rng([seed, 0]).permutation(total)
    share = min(max(FEWEST_HELDOUT, int(holdout * total + 0.5)), total - 1)
    return {"train": shuffled[share:], "heldout": shuffled[:share]}
