"""What a sharded data set says of itself: its splits, their shards, and what a sample has."""

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import NonNegativeInt, PositiveInt, ValidationError, model_validator

from pipeline.data.shards.tar_index import first_problem
from pipeline.data.sources.loaded_source import Encoding
from pipeline.documents import Document
from pipeline.errors import DataError

_INFO = "dataset.json"

D = TypeVar("D", bound=Document)


class ShardInfo(Document):
    """One tar: its path below the data set, its first row in the split, its number of rows."""

    name: str
    first: NonNegativeInt
    count: PositiveInt


class SplitInfo(Document):
    """One side of the held-out split, in shards."""

    count: PositiveInt
    shards: tuple[ShardInfo, ...]

    @model_validator(mode="after")
    def _shards_follow_each_other(self) -> "SplitInfo":
        reached = 0
        for shard in self.shards:
            if shard.first != reached:
                raise ValueError(f"{shard.name} starts at row {shard.first}, expected {reached}")
            reached += shard.count
        if reached != self.count:
            raise ValueError(f"the shards hold {reached} samples, expected {self.count}")
        return self


class DatasetInfo(Document):
    """What a sharded data set holds; `dataset.json`.

    Attributes:
        source: the recipe's name of where it comes from.
        class_names: in the order of the labels, kept exactly; empty if samples have no class.
        latent_shape: (channels, height, width) of a sample.
        encoding: how samples are stored; None if there are only their captions.
        splits: "train" and "heldout".
        captioned: whether samples have captions.
    """

    format_version: Literal[1] = 1
    source: str
    class_names: tuple[str, ...]
    latent_shape: tuple[int, int, int]
    encoding: Encoding | None
    splits: dict[str, SplitInfo]
    captioned: bool = False

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 if samples have none."""
        return len(self.class_names)

    @property
    def extensions(self) -> tuple[str, ...]:
        """The members of every sample, in the order they lie in a tar."""
        told = {"cls": self.num_classes > 0, "json": self.captioned}
        has_content = [self.encoding] if self.encoding else []
        return tuple(sorted([*has_content, *(name for name, has in told.items() if has)]))


def write_info(folder: Path, info: DatasetInfo) -> None:
    """Write what a sharded data set holds.

    What older readers do not know is left out where it says nothing.
    """
    silent = None if info.captioned else {"captioned"}
    text = info.model_dump_json(indent=1, exclude=silent)
    (folder / _INFO).write_text(text, encoding="utf-8")


def read_info(folder: Path) -> DatasetInfo:
    """What a sharded data set holds.

    Raises:
        DataError: the folder is not one.
    """
    return read_contents(folder / _INFO, DatasetInfo, "a sharded data set", "make the data anew")


def read_contents(path: Path, kind: type[D], what: str, remedy: str) -> D:
    """A table of contents: the document in `path`, which says what its folder holds.

    Args:
        path: of the file.
        kind: of the document.
        what: the folder should be.
        remedy: what helps if the file is damaged.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{path.parent} is not {what}: {path.name} cannot be read ({error.strerror})"
        ) from None
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is damaged: {first_problem(error)}; {remedy}") from None
