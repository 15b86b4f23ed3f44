"""Per-image agreement of samples with the teacher's samples from the same noise."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float

from pipeline.evaluation.features.classifier import one_thread
from pipeline.sampling.sampler import Images
from pipeline.shapes import is_image_shape

RANGE = 2.0  # pixels are in [-1, 1]
MOST_PSNR = 100.0  # dB, for equal images

_SIGMA, _SMALL_SIGMA = 1.5, 0.5
_CHUNK = 256  # images at once
_WINDOW, _SMALL_WINDOW = 11, 5  # torchmetrics' window of a Gaussian of that sigma, pixels

PerImage = Float[np.ndarray, "_"]


def squared_errors(images: Images, others: Images) -> PerImage:
    """Compute the mean squared difference of every pair of images `[n]`."""

    def measure(x: Images, y: Images) -> PerImage:
        difference = x.astype(np.float64) - y
        found: np.ndarray = np.mean(difference.reshape(len(x), -1) ** 2, axis=1)
        return found

    return _in_chunks(measure, images, others)


def psnr(images: Images, others: Images) -> PerImage:
    """Compute the PSNR of every pair in dB, pixels in [-1, 1], at most 100 `[n]`."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    def measure(x: Images, y: Images) -> PerImage:
        both = _tensors(x).double(), _tensors(y).double()
        values = tuple(range(1, x.ndim))
        found = peak_signal_noise_ratio(*both, data_range=RANGE, reduction="none", dim=values)
        capped: np.ndarray = np.minimum(found.numpy(), MOST_PSNR)
        return capped

    return _in_chunks(measure, images, others)


def ssim_window(shape: tuple[int, ...]) -> int | None:
    """Return the side of the SSIM window for samples of shape (axis, ..., channels).

    11 pixels (sigma 1.5) as published; 5 (sigma .5) for smaller images; None for images below 5
    pixels, and for samples that are not images. Images are padded by reflection.
    """
    if not is_image_shape(shape):
        return None
    side = min(shape[:2])
    if side >= _WINDOW:
        return _WINDOW
    return _SMALL_WINDOW if side >= _SMALL_WINDOW else None


def ssim(images: Images, others: Images) -> PerImage | None:
    """Compute the SSIM of every pair `[n]`, 1 for equal images; None where no window fits.

    Source: Wang et al. 2004, eq. 13, K1 = .01, K2 = .03.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    window = ssim_window(images.shape[1:])
    if window is None:
        return None
    sigma = _SIGMA if window == _WINDOW else _SMALL_SIGMA

    # float32 is ten times as fast as float64 and accurate to four digits
    def measure(x: Images, y: Images) -> PerImage:
        found = structural_similarity_index_measure(
            _tensors(x), _tensors(y), sigma=sigma, data_range=RANGE, reduction="none"
        )
        similar: np.ndarray = np.atleast_1d(found.double().numpy())
        return similar

    return _in_chunks(measure, images, others)


def _in_chunks(
    measure: Callable[[Images, Images], PerImage], images: Images, others: Images
) -> PerImage:
    """Apply `measure` in chunks, which bounds the memory of float64 copies."""
    with one_thread():
        parts = [
            measure(images[at : at + _CHUNK], others[at : at + _CHUNK])
            for at in range(0, len(images), _CHUNK)
        ]
    return np.concatenate(parts)


def _tensors(images: Images) -> torch.Tensor:
    return torch.from_numpy(images).movedim(-1, 1)
