"""Shapes of samples: channels, and axes such as length, time, height and width."""

import math
from collections.abc import Sequence
from typing import Annotated, TypeAlias

from pydantic import Field, PositiveInt

from pipeline.errors import ConfigError

LatentShape: TypeAlias = Annotated[tuple[PositiveInt, ...], Field(min_length=2)]
"""(channels, axis, ...) with at least one axis; that of an image is (channels, height, width)."""


def check_shape(shape: Sequence[int], origin: str) -> LatentShape:
    """Return the shape of a sample, validated.

    Args:
        shape: channels and axes.
        origin: what has this shape, for the message: a key of the recipe and its value.

    Raises:
        ConfigError: there is no axis, or a size is not a positive integer.
    """
    found = tuple(shape)
    if len(found) < 2 or not all(size > 0 for size in found):
        raise ConfigError(
            f"{origin}: samples have shape {found}, but a shape is (channels, axis, ...) with at "
            "least one axis and positive integers; correct the source"
        )
    return found


def check_image_shape(shape: LatentShape, origin: str, needed_by: str) -> tuple[int, int, int]:
    """Return the (channels, height, width) of an image.

    Args:
        shape: shape of a sample.
        origin: what has this shape, for the message.
        needed_by: what supports images only, for the message.

    Raises:
        ConfigError: the sample has fewer or more axes.
    """
    if not is_image_shape(shape):
        raise ConfigError(
            f"{origin}: samples have shape {shape}, but images of shape (channels, height, width) "
            f"are needed by {needed_by}; use a source of images"
        )
    channels, height, width = shape
    return channels, height, width


def is_image_shape(shape: LatentShape) -> bool:
    """Return whether samples have height and width, and no other axis."""
    return len(shape) == 3


def as_plane(axes: Sequence[int]) -> tuple[int, int]:
    """Return the height and width of a sample's axes in one plane; (height, width) as they are.

    One axis is a row. Of more than two, the last is the width and the others are stacked.
    """
    *stacked, width = axes
    return math.prod(stacked), width
