"""The description of a sharded data set: splits, shards and content of samples."""

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import NonNegativeInt, PositiveInt, ValidationError, model_validator

from pipeline.data.shards.tar_index import first_problem
from pipeline.data.sources.loaded_source import Encoding
from pipeline.documents import Document
from pipeline.errors import DataError
from pipeline.shapes import LatentShape

_INFO = "dataset.json"

D = TypeVar("D", bound=Document)


class ShardInfo(Document):
    """One tar: path relative to the data set, first row in the split, number of rows."""

    name: str
    first: NonNegativeInt
    count: PositiveInt


class SplitInfo(Document):
    """One split ("train" or "heldout") in shards."""

    count: PositiveInt
    shards: tuple[ShardInfo, ...]

    def repeated(self, times: int) -> "SplitInfo":
        """Return the split with `times` samples in place of each, one after another."""
        shards = (
            ShardInfo(name=each.name, first=times * each.first, count=times * each.count)
            for each in self.shards
        )
        return SplitInfo(count=times * self.count, shards=tuple(shards))

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
    """Description of a sharded data set; `dataset.json`.

    Attributes:
        source: name of the data source in the recipe.
        class_names: exact class names in the order of the labels; empty without classes.
        latent_shape: (channels, axis, ...) of a sample.
        encoding: storage format of samples; None for captions only.
        splits: "train" and "heldout".
        captioned: whether samples have captions.
    """

    format_version: Literal[1] = 1
    source: str
    class_names: tuple[str, ...]
    latent_shape: LatentShape
    encoding: Encoding | None
    splits: dict[str, SplitInfo]
    captioned: bool = False

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 if samples have none."""
        return len(self.class_names)

    @property
    def extensions(self) -> tuple[str, ...]:
        """Extensions of every sample's members, in the order of a tar."""
        conditions = {"cls": self.num_classes > 0, "json": self.captioned}
        content = [self.encoding] if self.encoding else []
        return tuple(sorted([*content, *(name for name, has in conditions.items() if has)]))


def write_info(folder: Path, info: DatasetInfo) -> None:
    """Write the description of a sharded data set.

    Keys that older readers do not support are omitted at their default.
    """
    omitted = None if info.captioned else {"captioned"}
    text = info.model_dump_json(indent=1, exclude=omitted)
    (folder / _INFO).write_text(text, encoding="utf-8")


def read_info(folder: Path) -> DatasetInfo:
    """Read the description of a sharded data set.

    Raises:
        DataError: the folder is not a sharded data set, or its description is damaged.
    """
    remedy = "delete the data set and run again to rebuild it"
    return read_description(folder / _INFO, DatasetInfo, "a sharded data set", remedy)


def read_description(path: Path, kind: type[D], what: str, remedy: str) -> D:
    """Read the document that describes a folder.

    Args:
        path: path of the document.
        kind: class of the document.
        what: expected type of the folder, for messages.
        remedy: advice for a damaged file, for messages.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{path.parent} is not {what}: {path.name} cannot be read ({error.strerror}); check "
            "the path"
        ) from None
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is damaged: {first_problem(error)}; {remedy}") from None
