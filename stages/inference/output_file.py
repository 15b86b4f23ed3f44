"""Output files of samples, .npz or .png: validated beforehand, written atomically."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.bundle import Manifest
from pipeline.durable import replace_durably
from pipeline.errors import ConfigError
from pipeline.sampling.sampler import Images, check_finite

_TILE = 48  # pixels; small images are enlarged in whole steps to about this
_GAP = 2


def to_uint8(images: Images) -> np.ndarray:
    """Convert pixels from [-1, 1] to uint8, rounded.

    Raises:
        DivergenceError: a pixel is not finite.
    """
    check_finite(images, "images to be written")
    return np.rint((images.clip(-1, 1) + 1) * 127.5).astype(np.uint8)


def image_grid(images: Images, columns: int) -> np.ndarray:
    """Arrange images row by row, as uint8 [height, width, c]; gaps and free places are white."""
    count, height, width, channels = images.shape
    scale = max(1, _TILE // max(height, width))
    tiles = to_uint8(images).repeat(scale, axis=1).repeat(scale, axis=2)
    rows = -(-count // columns)
    down, across = height * scale + _GAP, width * scale + _GAP
    canvas = np.full((rows * down + _GAP, columns * across + _GAP, channels), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * down + _GAP, (index % columns) * across + _GAP
        canvas[top : top + height * scale, left : left + width * scale] = tile
    return canvas


def check_output(output: Path, manifest: Manifest) -> None:
    """Validate an output path, before anything is sampled.

    Raises:
        ConfigError: not .npz or .png, not writable, or .png for samples that are not images.
    """
    if output.suffix not in {".npz", ".png"}:
        raise ConfigError(f"--output {output}: the name must end in .npz or .png")
    folder = output.absolute().parent
    if output.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"--output {output}: must be a file in an existing, writable directory")
    if output.suffix == ".png" and not manifest.has_images:
        raise ConfigError(
            f"--output {output}: samples of shape {manifest.latent_shape} are not images; "
            "write an .npz"
        )


def write_output(output: Path, fill: Callable[[IO[bytes]], None]) -> None:
    """Write a file atomically.

    Raises:
        ConfigError: the file cannot be written.
    """

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            fill(file)

    try:
        replace_durably(output, write)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written ({error.strerror})") from error
