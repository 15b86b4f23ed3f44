"""The file that drawn pictures go into, .npz or .png: checked beforehand, written in one move."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.bundle import Manifest
from pipeline.durable import replace_durably
from pipeline.errors import ConfigError
from pipeline.sampling.sampler import Images

_TILE = 48  # pixels; small images are enlarged in whole steps to about this
_GAP = 2


def in_bytes(images: Images) -> np.ndarray:
    """Pixels from [-1, 1] as uint8, nearest."""
    return np.rint((images.clip(-1, 1) + 1) * 127.5).astype(np.uint8)


def grid(images: Images, columns: int) -> np.ndarray:
    """Images side by side, row by row, as uint8 [height, width, c]; gaps and free places white."""
    count, height, width, channels = images.shape
    scale = max(1, _TILE // max(height, width))
    tiles = in_bytes(images).repeat(scale, axis=1).repeat(scale, axis=2)
    rows = -(-count // columns)
    down, across = height * scale + _GAP, width * scale + _GAP
    canvas = np.full((rows * down + _GAP, columns * across + _GAP, channels), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * down + _GAP, (index % columns) * across + _GAP
        canvas[top : top + height * scale, left : left + width * scale] = tile
    return canvas


def check_output(output: Path, manifest: Manifest) -> None:
    """Refuse a file that could not be written in the end, before anything is drawn.

    Raises:
        ConfigError: not .npz or .png, nowhere to write, or .png for what is no picture.
    """
    if output.suffix not in {".npz", ".png"}:
        raise ConfigError(f"--output {output}: write to a file that ends in .npz or .png")
    folder = output.absolute().parent
    if output.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"--output {output}: not a file in an existing directory you may write")
    channels, height, width = manifest.latent_shape
    if (
        manifest.pipeline is None
        and output.suffix == ".png"
        and (channels not in {1, 3} or height * width == 1)
    ):
        raise ConfigError(
            f"--output {output}: samples of shape {manifest.latent_shape} are no pictures; "
            "write an .npz"
        )


def write_output(output: Path, fill: Callable[[IO[bytes]], None]) -> None:
    """Fill a file and put it in its place in one move.

    Raises:
        ConfigError: it cannot be written.
    """

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            fill(file)

    try:
        replace_durably(output, write)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written ({error.strerror})") from error
