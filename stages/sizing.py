"""How large one sample is where a run trains on it, known before anything is written."""

from math import prod
from pathlib import Path

from pipeline.config import (
    CaptionedDigitsData,
    CaptionedFolderData,
    CaptionedTarsData,
    DigitCanvasesData,
    DigitsData,
    GaussianConfig,
    ImageFolderData,
    Recipe,
)
from pipeline.models.pipeline_directory import read_pipeline


def pixels_per_sample(recipe: Recipe) -> int:
    """Numbers in one sample of the data set as it is given."""
    match recipe.data:
        case DigitsData():
            return 64
        case ImageFolderData(channels=channels, size=size):
            return channels * size**2
        case (
            DigitCanvasesData(size=size)
            | CaptionedDigitsData(size=size)
            | CaptionedTarsData(size=size)
            | CaptionedFolderData(size=size)
        ):
            return 3 * size**2
        case _:
            network = recipe.teacher.network
            return len(network.means[0]) if isinstance(network, GaussianConfig) else 1


def values_per_sample(recipe: Recipe) -> int:
    """Numbers in one sample as the network sees it: its latents, where there is an autoencoder."""
    teacher = recipe.teacher
    if teacher.pipeline is not None:
        return prod(read_pipeline(Path(teacher.pipeline)).latent_shape)
    if teacher.components is not None:
        area = 4 ** (len(teacher.components.autoencoder_channels) - 1)
        return pixels_per_sample(recipe) // 3 * teacher.components.latent_channels // int(area)
    return pixels_per_sample(recipe)
