"""What shape one sample has, as it is given and as a run trains on it, known beforehand."""

from pathlib import Path
from typing import TypeAlias

from pipeline.config import (
    CaptionedDigitsData,
    CaptionedFolderData,
    CaptionedTarsData,
    DigitCanvasesData,
    DigitsData,
    GaussianConfig,
    ImageFolderData,
    PromptsData,
    Recipe,
)
from pipeline.models.pipeline_directory import read_pipeline

Shape: TypeAlias = tuple[int, int, int]
"""(channels, height, width)."""


def sample_shape(recipe: Recipe) -> Shape:
    """Of one sample of the data set as it is given."""
    match recipe.data:
        case DigitsData():
            return (1, 8, 8)
        case ImageFolderData(channels=channels, size=size):
            return (channels, size, size)
        case (
            DigitCanvasesData(size=size)
            | CaptionedDigitsData(size=size)
            | CaptionedTarsData(size=size)
            | CaptionedFolderData(size=size)
            | PromptsData(size=size)
        ):
            return (3, size, size)
        case _:
            network = recipe.teacher.network
            return (len(network.means[0]) if isinstance(network, GaussianConfig) else 1, 1, 1)


def trained_shape(recipe: Recipe) -> Shape:
    """Of one sample as the network sees it: its latents, where there is an autoencoder."""
    teacher = recipe.teacher
    if teacher.pipeline is not None:
        return read_pipeline(Path(teacher.pipeline)).latent_shape
    channels, height, width = sample_shape(recipe)
    if teacher.components is None:
        return (channels, height, width)
    smaller = 2 ** (len(teacher.components.autoencoder_channels) - 1)
    return (teacher.components.latent_channels, height // smaller, width // smaller)
