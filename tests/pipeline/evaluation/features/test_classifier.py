"""The data set's classifier: accuracy on real digits, reproducibility, supported shapes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pipeline.config import DigitCanvasesData
from pipeline.data.sources.demo.digit_canvases import open_canvases
from pipeline.errors import BundleError
from pipeline.evaluation.features.classifier import Classifier, train_classifier

Labelled = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def digits() -> tuple[Labelled, Labelled]:
    found = load_digits()
    images = (found.images / 8 - 1).astype(np.float32)[..., None]
    labels = found.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    train, heldout = order[:1198], order[1198:]
    return (images[train], labels[train]), (images[heldout], labels[heldout])


@pytest.fixture(scope="module")
def trained(digits: tuple[Labelled, Labelled], tmp_path_factory) -> Classifier:
    folder = tmp_path_factory.mktemp("classifier")
    train_classifier(folder, *digits, num_classes=10, seed=0)
    return Classifier(folder)


@pytest.mark.slow
def test_it_generalises_and_features_are_scaled_by_the_training_split(
    digits: tuple[Labelled, Labelled], trained: Classifier
) -> None:
    images, labels = digits[1]
    reading = trained.read(images)
    accuracy = float((reading.probabilities.argmax(1) == labels).mean())
    assert accuracy == trained.card.heldout_accuracy
    assert accuracy >= 0.975
    np.testing.assert_allclose(reading.probabilities.sum(1), 1)
    assert trained.card.num_parameters < 100_000
    assert trained.card.updates == 600
    features = trained.read(digits[0][0]).features
    assert features.shape == (1198, 64)
    assert features.var(0, ddof=1).mean() == pytest.approx(1, rel=1e-4)


@pytest.mark.nightly
def test_it_classifies_numbers_on_coloured_canvases(tmp_path: Path) -> None:
    source = open_canvases(DigitCanvasesData(source="digit_canvases"), 0)

    def side(split: str) -> Labelled:
        rows = source.splits[split]
        canvases = np.stack([source.read(int(row)).transpose(1, 2, 0) for row in rows])
        return (canvases / 127.5 - 1).astype(np.float32), source.labels[rows]

    card = train_classifier(tmp_path, side("train"), side("heldout"), num_classes=100, seed=0)
    assert card.updates == 1500
    assert card.heldout_accuracy >= 0.965


def test_training_again_gives_the_same_bytes_whatever_ran_before(
    digits: tuple[Labelled, Labelled], tmp_path: Path
) -> None:
    made = []
    for noise, seed in ((1, 3), (2, 3), (1, 4)):
        torch.manual_seed(noise)
        torch.set_num_threads(noise)
        folder = tmp_path / f"{noise}-{seed}"
        train_classifier(folder, *digits, num_classes=10, seed=seed, updates=5)
        assert torch.get_num_threads() == noise
        made.append(Classifier(folder))
    first, again, other = made
    assert (first.identity, first.card) == (again.identity, again.card)
    assert other.identity != first.identity


def separable(shape: tuple[int, ...]) -> Labelled:
    labels = np.arange(60) % 3
    noise = 0.2 * np.random.default_rng(0).normal(size=(60, *shape))
    return (noise + labels.reshape(-1, *[1] * len(shape)) - 1).astype(np.float32), labels


@pytest.mark.parametrize(
    ("shape", "plane"),
    [
        ((1, 1, 2), (1, 1)),
        ((1, 1, 5), (1, 1)),
        ((3, 5, 1), (3, 5)),
        ((16, 16, 3), (16, 16)),
        ((33, 20, 3), (33, 20)),
        ((20, 2), (1, 20)),
        ((2, 3, 4, 2), (6, 4)),
    ],
)
def test_it_supports_any_shape(
    shape: tuple[int, ...], plane: tuple[int, int], tmp_path: Path
) -> None:
    data = separable(shape)
    card = train_classifier(tmp_path, data, data, num_classes=3, seed=0, updates=2)
    assert card.latent_shape == (shape[-1], *plane)
    reading = Classifier(tmp_path).read(data[0])
    assert reading.features.shape == (60, 64)
    assert (reading.probabilities.argmax(1) == data[1]).mean() == card.heldout_accuracy
    few = Classifier(tmp_path).read(data[0][:7])
    np.testing.assert_allclose(few.features, reading.features[:7], atol=1e-5)


def test_it_learns_2d_points(tmp_path: Path) -> None:
    data = separable((1, 1, 2))
    card = train_classifier(tmp_path, data, data, num_classes=3, seed=0, updates=150)
    assert card.heldout_accuracy > 0.95


def test_a_folder_without_a_classifier_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="run the evaluation again"):
        Classifier(tmp_path)
