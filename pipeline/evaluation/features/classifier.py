"""A small classifier trained on the training split, whose features define the distances.

Pretrained features do not fit eight-pixel digits. Distances in these features are comparable for
the same classifier (equal sha256) only, and are not FID.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.documents import Document
from pipeline.errors import BundleError
from pipeline.ledger import hash_file
from pipeline.randomness import RowRandom
from pipeline.sampling.sampler import Images, LabelArray, check_finite
from pipeline.shapes import as_plane

CLASSIFIER_FEATURES = "features of a classifier trained on the real training split (not FID)"

CLASSIFIER_NAME = "the data set's own classifier (not FID)"

FORMAT = 2

_WEIGHTS = "classifier.safetensors"
_CARD = "classifier.json"
_NUM_FEATURES = 64
_BATCH = 64
CHUNK = 512  # images per batch; another size would change the last digits of features
_SMALL = 8  # largest side in pixels for which two layers without norm train well
_FEWEST_UPDATES = 600
_UPDATES_PER_CLASS = 15
_MOST_UPDATES = 4000


class ClassifierCard(Document):
    """Architecture, training and accuracy of a classifier.

    Attributes:
        latent_shape: input shape (channels, height, width), of samples in one plane.
        num_classes: number of classes.
        num_parameters: number of parameters.
        updates: optimiser updates, in batches of 64.
        seed: seed of initialisation, order and shifts.
        heldout_accuracy: accuracy on held-out real samples.
    """

    latent_shape: tuple[int, int, int]
    num_classes: int
    num_parameters: int
    updates: int
    seed: int
    heldout_accuracy: float


@dataclass(frozen=True)
class ClassifierOutputs:
    """Outputs of the classifier on a sample set.

    Attributes:
        features: activations before the logits, float64 `[n, 64]`, scaled such that the mean
            variance over features is 1 on the real training split.
        probabilities: class probabilities, float64 `[n, classes]`.
    """

    features: Float[np.ndarray, "n d"]
    probabilities: Float[np.ndarray, "n classes"]

    @classmethod
    def of(cls, array: Float[np.ndarray, "n both"]) -> "ClassifierOutputs":
        """Restore outputs from `as_array`."""
        return cls(features=array[:, :_NUM_FEATURES], probabilities=array[:, _NUM_FEATURES:])

    @property
    def as_array(self) -> Float[np.ndarray, "n both"]:
        """Features and probabilities in one array `[n, 64 + classes]`, for storage."""
        return np.concatenate([self.features, self.probabilities], axis=1)


class Classifier:
    """A trained classifier."""

    def __init__(self, folder: Path) -> None:
        """Load a classifier written by `train_classifier`.

        Raises:
            BundleError: the folder contains no classifier.
        """
        self.card = read_card(folder)
        self.identity = identity_of(folder)
        self._network = _ConvNet(self.card.latent_shape, self.card.num_classes)
        self._network.load_state_dict(load_file(folder / _WEIGHTS))
        self._network.eval()

    @torch.inference_mode()
    def read(self, images: Images) -> ClassifierOutputs:
        """Compute features and class probabilities of samples `[n, *axes, c]`.

        Processes `CHUNK` images at a time; a set read in parts of `CHUNK` gives the same bytes.

        Raises:
            DivergenceError: a value is not finite.
        """
        x = _planes(images)
        with one_thread():
            parts = [self._network.features(part) for part in _chunks(x)]
            logits = torch.cat([self._network.logits(part) for part in parts])
        features, probabilities = torch.cat(parts), logits.double().softmax(1)
        scaled = features.double() / self._network.spread.double()
        return ClassifierOutputs(features=scaled.numpy(), probabilities=probabilities.numpy())


def read_card(folder: Path) -> ClassifierCard:
    """Load the card of a classifier.

    Raises:
        BundleError: the folder contains no classifier.
    """
    if not (folder / _CARD).is_file() or not (folder / _WEIGHTS).is_file():
        raise BundleError(
            f"{folder} lacks {_CARD} or {_WEIGHTS} of a classifier; run the evaluation again"
        )
    return ClassifierCard.model_validate_json((folder / _CARD).read_text(encoding="utf-8"))


def identity_of(folder: Path) -> str:
    """Compute the sha256 of a classifier's weights."""
    return hash_file(folder / _WEIGHTS).sha256


def train_classifier(
    folder: Path,
    train: tuple[Images, LabelArray],
    heldout: tuple[Images, LabelArray],
    *,
    num_classes: int,
    seed: int,
    updates: int | None = None,
) -> ClassifierCard:
    """Train on real images and write weights and card into `folder`, bitwise reproducibly.

    Samples of other axes are classified in one plane (`pipeline.shapes.as_plane`). Uses Adam with a
    learning rate annealed to 0. Images are shifted by up to an eighth of their side against
    overfitting to 1,200 digits. Runs on one CPU thread: a few seconds for ten classes of 8x8
    digits, half a minute for a hundred of 32x32. The default number of updates grows with the
    number of classes.

    Raises:
        DivergenceError: a value of an image is not finite.
    """
    _, *axes, channels = train[0].shape
    shape = (channels, *as_plane(axes))
    updates = updates or _enough_updates(num_classes)
    with one_thread():
        network = _initial(shape, num_classes, seed)
        _fit(network, *train, seed=seed, updates=updates)
        _set_spread(network, train[0])
    folder.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), folder / _WEIGHTS)
    card = ClassifierCard(
        latent_shape=shape,
        num_classes=num_classes,
        num_parameters=sum(p.numel() for p in network.parameters()),
        updates=updates,
        seed=seed,
        heldout_accuracy=_accuracy(network, *heldout),
    )
    (folder / _CARD).write_text(card.model_dump_json(indent=1), encoding="utf-8")
    return card


def _planes(images: Images) -> Float32[Tensor, "n c h w"]:
    check_finite(images, "images of the classifier")
    x = torch.from_numpy(images).movedim(-1, 1)
    return x.reshape(*x.shape[:2], *as_plane(x.shape[2:]))


class _ConvNet(nn.Module):
    """3x3 convolutions with pooling to at most 4 pixels a side, 64 features, logits.

    Images of more than 8 pixels a side use more layers with batch norm; without it, training on a
    hundred classes stays near chance.
    """

    def __init__(self, shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        large = max(shape[1:]) > _SMALL
        layers, size = _convolutions(shape, large=large)
        layers += [nn.Flatten(), nn.Linear(size, _NUM_FEATURES)]
        layers += [nn.BatchNorm1d(_NUM_FEATURES)] if large else []
        self.features = nn.Sequential(*layers, nn.SiLU())
        self.logits = nn.Linear(_NUM_FEATURES, num_classes)
        self.register_buffer("spread", torch.ones(()))
        self.spread: Tensor

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Compute logits."""
        logits: Tensor = self.logits(self.features(x))
        return logits


def _convolutions(shape: tuple[int, int, int], *, large: bool) -> tuple[list[nn.Module], int]:
    """Return the convolutional layers and the size of their flattened output."""
    channels, height, width = shape
    stride = 2 if max(height, width) > 2 * _SMALL else 1
    inner, *widths = (24, 48, 64) if large else (32, 64)
    layers = _convolution(channels, inner, stride=stride, normalised=large)
    height, width = -(-height // stride), -(-width // stride)
    while True:
        outer = widths.pop(0) if widths else 64
        layers += _convolution(inner, outer, stride=1, normalised=large)
        inner = outer
        if max(height, width) > 4:
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            height, width = -(-height // 2), -(-width // 2)
        if max(height, width) <= 4:
            return layers, outer * height * width


def _convolution(inner: int, outer: int, *, stride: int, normalised: bool) -> list[nn.Module]:
    plain = nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=not normalised)
    return [plain, nn.BatchNorm2d(outer), nn.ReLU()] if normalised else [plain, nn.ReLU()]


def _enough_updates(num_classes: int) -> int:
    return min(max(_FEWEST_UPDATES, _UPDATES_PER_CLASS * num_classes), _MOST_UPDATES)


def _initial(shape: tuple[int, int, int], num_classes: int, seed: int) -> _ConvNet:
    with torch.random.fork_rng(devices=[]):  # torch's layers initialise from the global generator
        torch.manual_seed(seed)
        return _ConvNet(shape, num_classes)


def _fit(network: _ConvNet, images: Images, labels: LabelArray, *, seed: int, updates: int) -> None:
    x = _planes(images).contiguous()
    target = torch.from_numpy(labels)
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    anneal = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 1 / updates, updates)
    for update in range(updates):
        random = RowRandom((seed,), update * _BATCH, _BATCH)
        rows = random.integers("row", len(x))
        loss = nn.functional.cross_entropy(network(_shifted(x[rows], random)), target[rows])
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        anneal.step()
    network.eval()


def _shifted(x: Float32[Tensor, "b c h w"], random: RowRandom) -> Float32[Tensor, "b c h w"]:
    reach = min(x.shape[2:]) // 8
    if reach == 0:
        return x
    padded = nn.functional.pad(x, (reach,) * 4, mode="replicate")
    offset = random.integers("shift", 2 * reach + 1, 2)
    rows = torch.arange(x.shape[2]) + offset[:, :1]
    columns = torch.arange(x.shape[3]) + offset[:, 1:]
    sample = torch.arange(len(x))[:, None, None]
    return padded[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@torch.inference_mode()
def _set_spread(network: _ConvNet, images: Images) -> None:
    # makes distances independent of the arbitrary scale of trained features
    x = _planes(images)
    features = torch.cat([network.features(part) for part in _chunks(x)]).double()
    network.spread.copy_(features.var(0).mean().sqrt())


@torch.inference_mode()
def _accuracy(network: _ConvNet, images: Images, labels: Int64[np.ndarray, "n"]) -> float:
    x = _planes(images)
    found = torch.cat([network(part).argmax(1) for part in _chunks(x)])
    return float((found.numpy() == labels).mean())


def _chunks(x: Tensor) -> list[Tensor]:
    return [x[at : at + CHUNK] for at in range(0, len(x), CHUNK)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, as the last digits of sums depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
