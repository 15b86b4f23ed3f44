"""The interface of data sources, and their registry."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from pipeline.config import DataConfig, NetworkConfig
from pipeline.data.sources.loaded_source import LoadedSource
from pipeline.registry import Registry

C = TypeVar("C", bound=DataConfig)


@dataclass(frozen=True)
class DataSource(ABC, Generic[C]):
    """A data source of a recipe: how its samples are counted, identified and read.

    A source is one file: this class, its name, and its keys in a recipe as a subclass of
    `pipeline.config.DataConfig` of the same name.

    Attributes:
        config: the recipe's data section.
        network: the teacher's network, which defines the distribution of Gaussian data.
    """

    name: ClassVar[str]

    config: C
    network: NetworkConfig

    @abstractmethod
    def count(self) -> tuple[int, int]:
        """Count samples and classes without opening the source; 0 classes if it has none.

        Raises:
            DataError: the source cannot be read.
        """

    def identity(self) -> dict[str, Any]:
        """Return what determines the samples besides seed and keys, as JSON; by default nothing.

        A source of files returns a hash of their content.

        Raises:
            DataError: the source cannot be used.
        """
        return {}

    @abstractmethod
    def open(self, seed: int) -> LoadedSource:
        """Open the source.

        Args:
            seed: seed of the held-out split, the order, and of samples that are drawn.

        Raises:
            DataError: the source cannot be used.
        """


SOURCES: Registry[DataSource[Any]] = Registry(
    "pipeline.data.sources",
    DataSource,  # type: ignore[type-abstract]
    "data source",
    entry_points="stepfold.sources",
)
