"""The data sources of recipes: digits, images with classes or captions, Gaussian data."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import (
    CaptionedDigitsData,
    CaptionedFolderData,
    CaptionedTarsData,
    Data,
    DigitCanvasesData,
    DigitsData,
    GaussianConfig,
    GaussianData,
    ImageFolderData,
    Network,
    PromptsData,
)
from pipeline.data.sources.captioned_folder import identify_captioned_folder, open_captioned_folder
from pipeline.data.sources.captioned_tars import identify_tars, open_tars
from pipeline.data.sources.demo.captioned_digits import open_captioned_digits
from pipeline.data.sources.demo.digit_canvases import open_canvases
from pipeline.data.sources.image_folder import identify_folder, open_folder
from pipeline.data.sources.loaded_source import LoadedSource, stratified_split
from pipeline.data.sources.prompts import identify_prompts, open_prompts
from pipeline.errors import ConfigError
from pipeline.randomness import RowRandom


def identify(config: Data, network: Network) -> dict[str, Any]:
    """Compute the identity of a source, except its seed, as JSON for fingerprints.

    Files are identified by content, so the identity changes if they are edited, not if moved.

    Raises:
        DataError: the source cannot be used.
    """
    identity = config.model_dump(mode="json", exclude={"path"})
    match config:
        case ImageFolderData():
            identity["content"] = identify_folder(config)
        case CaptionedTarsData():
            identity["content"] = identify_tars(config)
        case CaptionedFolderData():
            identity["content"] = identify_captioned_folder(config)
        case PromptsData():
            identity["content"] = identify_prompts(config)
        case GaussianData():
            law = _gaussian(network)
            identity["law"] = {"means": law.means, "std": law.std}
    return identity


def load_source(config: Data, seed: int, network: Network) -> LoadedSource:
    """Open the data source of a recipe.

    Args:
        config: the recipe's data section.
        seed: seed of the held-out split, the order, and the samples of the Gaussian source.
        network: the teacher's network, which defines the distribution of Gaussian data.

    Raises:
        DataError: the source is missing, or does not match the recipe.
    """
    match config:
        case DigitsData():
            return _digits(config, seed)
        case DigitCanvasesData():
            return open_canvases(config, seed)
        case ImageFolderData():
            return open_folder(config, seed)
        case GaussianData():
            return _draws(config, seed, _gaussian(network))
        case CaptionedDigitsData():
            return open_captioned_digits(config, seed)
        case CaptionedTarsData():
            return open_tars(config, seed)
        case CaptionedFolderData():
            return open_captioned_folder(config, seed)
        case PromptsData():
            return open_prompts(config, seed)


def _digits(config: DigitsData, seed: int) -> LoadedSource:
    from sklearn.datasets import load_digits  # slow import (over 1 s), needed by this source only

    scans = load_digits()
    images = np.rint(scans.images * (255 / 16)).astype(np.uint8)[:, None]  # ink is 0..16
    labels = scans.target.astype(np.int64)
    names = tuple(str(digit) for digit in range(10))
    return LoadedSource(
        name=config.source,
        class_names=names,
        latent_shape=(1, 8, 8),
        encoding="png",
        labels=labels,
        read=images.__getitem__,
        splits=stratified_split(labels, names, config.holdout, seed),
    )


def _gaussian(network: Network) -> GaussianConfig:
    if not isinstance(network, GaussianConfig):
        raise ConfigError(
            "data.source: gaussian needs teacher.network.family: gaussian, got "
            f"{network.family!r}; change one of them"
        )
    return network


def _draws(config: GaussianData, seed: int, law: GaussianConfig) -> LoadedSource:
    means = np.array(law.means, np.float64)
    num_classes, size = means.shape
    labels = np.arange(config.num_samples, dtype=np.int64) % num_classes
    noise = RowRandom((seed,), 0, config.num_samples).normal("gaussian data", size).numpy()
    drawn: NDArray[np.float32] = (means[labels] + law.std * noise).astype(np.float32)
    samples = drawn.reshape(-1, size, 1, 1)
    names = tuple(str(label) for label in range(num_classes))
    return LoadedSource(
        name=config.source,
        class_names=names,
        latent_shape=(size, 1, 1),
        encoding="npy",
        labels=labels,
        read=samples.__getitem__,
        splits=stratified_split(labels, names, config.holdout, seed),
    )
