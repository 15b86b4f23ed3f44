"""Samples with NaN or infinity: every reader refuses them with one error, none shows them black."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import DivergenceError
from pipeline.evaluation.features.classifier import Classifier, train_classifier
from pipeline.evaluation.features.extractors import to_uint8_pixels
from pipeline.evaluation.figures.grids import Column, draw_pairs, draw_samples, tile
from pipeline.page.sample_images import build_sample_grids
from stages.evaluation.sample_sets import load_samples
from stages.inference.output_file import image_grid
from tests.pipeline.page.test_summary import report

LABELS = np.arange(6) % 2


def classify(images: np.ndarray, folder: Path) -> None:
    good = np.zeros_like(images), LABELS
    train_classifier(folder / "classifier", good, good, num_classes=2, seed=0, updates=1)
    Classifier(folder / "classifier").read(images)


def train_on(images: np.ndarray, folder: Path) -> None:
    bad = images, LABELS
    train_classifier(folder / "classifier", bad, bad, num_classes=2, seed=0, updates=1)


def draw_page(images: np.ndarray, folder: Path) -> None:
    drawn = report().model_copy(update={"class_names": ("a", "b")})
    build_sample_grids(drawn, 1.0, LABELS, lambda cell: images)


def draw_points(images: np.ndarray, folder: Path) -> None:
    points = images.reshape(len(images), -1)[:, :2].reshape(-1, 1, 1, 2)
    column = Column("teacher", 1, points, student=False)
    draw_samples("points", [column], LABELS, ("a", "b"), folder / "points.png")


def draw_paired_points(images: np.ndarray, folder: Path) -> None:
    points = images.reshape(len(images), -1)[:, :2].reshape(-1, 1, 1, 2)
    draw_pairs("points", [("teacher", points), ("student", points)], folder / "pairs.png")


def load(images: np.ndarray, folder: Path) -> None:
    np.save(folder / "samples.npy", images)
    load_samples(folder / "samples.npy")


READERS: tuple[Callable[[np.ndarray, Path], object], ...] = (
    classify,
    train_on,
    draw_page,
    draw_points,
    draw_paired_points,
    load,
    lambda images, folder: to_uint8_pixels(images),
    lambda images, folder: tile(images, [[0, 4]]),
    lambda images, folder: image_grid(images, 3),
)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sample_that_is_not_finite_is_refused(
    read: Callable[[np.ndarray, Path], object], value: float, tmp_path: Path
) -> None:
    images = np.zeros((6, 4, 4, 1), np.float32)
    read(images, tmp_path)
    images[4, 0, 0, 0] = value
    with pytest.raises(DivergenceError, match=r"1 of 6 contain NaN or infinity.* number [24];"):
        read(images, tmp_path)
