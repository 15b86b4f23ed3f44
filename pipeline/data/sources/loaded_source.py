"""An opened data source: samples, their metadata, the held-out split, and unusable samples."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.data.sources.captions import Caption
from pipeline.data.sources.findings import Findings
from pipeline.data.sources.quarantine import Quarantine
from pipeline.errors import DataError
from pipeline.shapes import LatentShape, check_image_shape, check_shape

MIN_HELDOUT = 4
"""Minimum number of held-out samples: the report uses third-nearest neighbours among them."""


Encoding: TypeAlias = Literal["png", "npy"]
Sample: TypeAlias = NDArray[Any]
"""One sample `[c, *axes]`: uint8 `[c, h, w]` if its encoding is png, float32 if it is npy."""


@dataclass(frozen=True)
class LoadedSource:
    """Samples with a class, a caption or both, read one at a time.

    Attributes:
        name: name of the source in the recipe.
        class_names: class names in the order of the labels; empty without classes.
        latent_shape: (channels, axis, ...) of every sample; an image's for encoding png.
        encoding: storage format of samples, which implies their dtype; None for captions only.
        labels: class of each sample, int64 `[n]`; None without classes.
        read: function from index to sample; None for captions only.
        splits: indices of "train" and "heldout" in the order of writing.
        caption: function from index to caption; None without captions.
        texts: text of each caption, for checks before images are decoded; None without captions,
            or if they are drawn.
        quarantine: samples found unusable when listed; they are in no split. `read` and `caption`
            raise SampleError for samples found unusable when decoded.
        findings: notes on the usable samples.
    """

    name: str
    class_names: tuple[str, ...]
    latent_shape: LatentShape
    encoding: Encoding | None
    labels: NDArray[np.int64] | None
    read: Callable[[int], Sample] | None
    splits: dict[str, NDArray[np.int64]]
    caption: Callable[[int], Caption] | None = None
    texts: Sequence[str] | None = None
    quarantine: Quarantine = field(default_factory=Quarantine)
    findings: Findings = field(default_factory=Findings)

    def __post_init__(self) -> None:
        """Validate the shape.

        Raises:
            ConfigError: it is not a shape, or not that of an image although samples are png.
        """
        origin = f"data.source: {self.name}"
        check_shape(self.latent_shape, origin)
        if self.encoding == "png":
            check_image_shape(self.latent_shape, origin, "encoding png")

    @property
    def total(self) -> int:
        """Number of samples of the source, including quarantined ones."""
        return sum(map(len, self.splits.values())) + len(self.quarantine)


def stratified_split(
    labels: NDArray[np.int64],
    class_names: tuple[str, ...],
    holdout: float,
    seed: int,
    contents: Sequence[Hashable] | None = None,
) -> dict[str, NDArray[np.int64]]:
    """Hold out a fraction of every class; a function of the arguments alone.

    Of each class round(holdout * its size) samples are held out, with at least one sample in each
    split. Both splits are shuffled, so that consecutive samples have mixed classes.

    Args:
        labels: class of each sample, int64 `[n]`.
        class_names: names of the classes.
        holdout: fraction to hold out.
        seed: seed of the split.
        contents: content of each sample, such as a digest; copies are in one split, and content of
            several classes is trained on. None if all differ.

    Raises:
        DataError: a class has fewer than two samples, or only copies.
    """
    copies = _rows_by_content(contents)
    generator = np.random.default_rng([seed, 0])
    train, heldout = [], []
    for label, name in enumerate(class_names):
        members = generator.permutation(np.flatnonzero(labels == label))
        if len(members) < 2:
            raise DataError(
                f"class {name!r} has {len(members)} sample(s), but needs one for training and one "
                "held out; add samples or remove the class"
            )
        share = min(max(1, int(holdout * len(members) + 0.5)), len(members) - 1)
        held = _held_out(members, share, 1, contents, copies)
        if not held.any():
            raise DataError(
                f"class {name!r}: its {len(members)} samples are copies of one another or of other "
                "classes, so that none can be held out unseen; add samples or remove the class"
            )
        heldout.append(members[held])
        train.append(members[~held])
    return {
        "train": generator.permutation(np.concatenate(train)),
        "heldout": generator.permutation(np.concatenate(heldout)),
    }


def unlabelled_split(
    total: int,
    holdout: float,
    seed: int,
    place: str,
    contents: Sequence[Hashable] | None = None,
) -> dict[str, NDArray[np.int64]]:
    """Hold out a fraction of samples without classes; a function of the arguments alone.

    round(holdout * total) samples are held out, at least `MIN_HELDOUT`, and at least one is
    kept for training. Both splits are shuffled. Error messages begin with `place`; `contents` are
    those of `stratified_split`.

    Raises:
        DataError: there are too few samples, or too few without copies.
    """
    if total <= MIN_HELDOUT:
        raise DataError(
            f"{place} holds {total} sample(s), but needs one for training and {MIN_HELDOUT} "
            "held out; add samples"
        )
    shuffled = np.random.default_rng([seed, 0]).permutation(total)
    share = min(max(MIN_HELDOUT, int(holdout * total + 0.5)), total - 1)
    held = _held_out(shuffled, share, MIN_HELDOUT, contents, _rows_by_content(contents))
    if held.sum() < MIN_HELDOUT:
        raise DataError(
            f"{place} holds {total} samples, which are copies of one another, so that fewer than "
            f"{MIN_HELDOUT} can be held out unseen; add samples"
        )
    return {"train": shuffled[~held], "heldout": shuffled[held]}


def _rows_by_content(contents: Sequence[Hashable] | None) -> dict[Hashable, list[int]]:
    rows: dict[Hashable, list[int]] = defaultdict(list)
    for row, content in enumerate(contents or ()):
        rows[content].append(row)
    return rows


def _held_out(
    order: NDArray[np.int64],
    share: int,
    least: int,
    contents: Sequence[Hashable] | None,
    copies: Mapping[Hashable, list[int]],
) -> NDArray[np.bool_]:
    """Choose up to `share` of the samples in this order; copies are chosen together.

    Where that leaves fewer than `least`, those with the fewest copies follow.

    Returns:
        Whether each is held out, `[n]`. Without copies these are the first `share`.
    """
    if contents is None or len(copies) == len(contents):
        return np.arange(len(order)) < share
    available = set(order.tolist())
    chosen: set[int] = set()
    for row in order.tolist():
        group = copies[contents[row]]
        if row not in chosen and len(chosen) + len(group) <= share and available.issuperset(group):
            chosen.update(group)
    for row in sorted(order.tolist(), key=lambda row: len(copies[contents[row]])):
        group = copies[contents[row]]
        is_free = row not in chosen and available.issuperset(group)
        if len(chosen) < least and is_free and len(chosen) + len(group) < len(order):
            chosen.update(group)
    return np.isin(order, list(chosen))
