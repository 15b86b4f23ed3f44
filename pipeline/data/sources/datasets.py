"""The data of a recipe: identity, number of samples, and the opened source."""

from typing import Any

from pipeline.config import DataConfig, NetworkConfig, Recipe
from pipeline.data.sources.loaded_source import LoadedSource
from pipeline.data.sources.source import SOURCES, DataSource


def source_of(config: DataConfig, network: NetworkConfig) -> DataSource[Any]:
    """Return the data source of a recipe.

    Args:
        config: the recipe's data section.
        network: the teacher's network, which defines the distribution of Gaussian data.
    """
    return SOURCES.get(config.source)(config, network)


def identify(config: DataConfig, network: NetworkConfig) -> dict[str, Any]:
    """Compute the identity of a source, except its seed, as JSON for fingerprints.

    Files are identified by content, so the identity changes if they are edited, not if moved.

    Raises:
        DataError: the source cannot be used.
    """
    keys = config.model_dump(mode="json", exclude={"path", "masks_per_image"})
    return {**keys, **source_of(config, network).identity()}


def load_source(config: DataConfig, seed: int, network: NetworkConfig) -> LoadedSource:
    """Open the data source of a recipe.

    Args:
        config: the recipe's data section.
        seed: seed of the held-out split, the order, and of samples that are drawn.
        network: the teacher's network, which defines the distribution of Gaussian data.

    Raises:
        DataError: the source is missing, or does not match the recipe.
    """
    return source_of(config, network).open(seed)


def count_source(recipe: Recipe) -> tuple[int, int]:
    """Count the samples and classes of the recipe's data before sharding.

    Data without classes has 0 classes.

    Raises:
        DataError: captions are missing or cannot be read.
    """
    return source_of(recipe.data, recipe.teacher.network).count()
