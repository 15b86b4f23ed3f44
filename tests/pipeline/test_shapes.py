"""Shapes of samples: any axes, and a clear refusal where images are needed."""

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.bundle import Lineage, Manifest
from pipeline.config import GaussianConfig, ScheduleConfig, UNetConfig
from pipeline.config.teacher import NetworkConfig
from pipeline.data.sources.loaded_source import Encoding, LoadedSource
from pipeline.errors import ConfigError
from pipeline.shapes import LatentShape, as_plane, check_image_shape, check_shape

POINTS = GaussianConfig(family="gaussian", means=((0.0,) * 8, (1.0,) * 8))


def manifest(network: NetworkConfig, shape: LatentShape) -> Manifest:
    return Manifest(
        role="teacher",
        network=network,
        num_classes=2,
        latent_shape=shape,
        schedule=ScheduleConfig(),
        prediction_type="v_prediction",
        folder="network",
        lineage=Lineage(run="shapes", round=None, parent=None),
    )


@pytest.mark.parametrize("shape", [(), (3,), (3, 0), (0, 4), (2, -1, 4)])
def test_what_is_no_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"here: samples have shape .*at least one axis"):
        check_shape(shape, "here")
    with pytest.raises(ValidationError):
        manifest(POINTS, shape)


@pytest.mark.parametrize("shape", [(2, 4), (3, 8, 8), (3, 4, 8, 8)])
def test_a_manifest_keeps_any_shape(shape: LatentShape) -> None:
    made = manifest(POINTS, check_shape(list(shape), "here"))
    assert Manifest.model_validate_json(made.model_dump_json()) == made
    assert made.latent_shape == shape
    assert made.has_images == (shape == (3, 8, 8))


def test_a_network_of_images_needs_height_and_width() -> None:
    with pytest.raises(ValidationError, match=r"a unet needs \(channels, height, width\)"):
        manifest(UNetConfig(family="unet"), (3, 4, 8, 8))


@pytest.mark.parametrize("shape", [(3, 8), (3, 4, 8, 8)])
def test_images_have_two_axes(shape: LatentShape) -> None:
    with pytest.raises(ConfigError, match=r"here: samples have shape \(3, .*needed by this;"):
        check_image_shape(shape, "here", "this")


def opened(shape: LatentShape, encoding: Encoding) -> LoadedSource:
    labels = np.zeros(8, np.int64)
    return LoadedSource("clips", ("a",), shape, encoding, labels, None, {"train": labels})


def test_a_source_of_clips_cannot_be_stored_as_png() -> None:
    assert opened((3, 4, 8, 8), "npy").latent_shape == (3, 4, 8, 8)
    with pytest.raises(ConfigError, match=r"data\.source: clips: .*\(3, 4, 8, 8\).*encoding png"):
        opened((3, 4, 8, 8), "png")
    with pytest.raises(ConfigError, match=r"data\.source: clips: .*\(3,\).*correct the source"):
        opened((3,), "npy")


def test_other_axes_are_folded_into_a_plane() -> None:
    assert [as_plane(axes) for axes in ((5,), (3, 5), (2, 3, 5))] == [(1, 5), (3, 5), (6, 5)]
