"""Per-image agreement: known results, and the published formula in float64."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torchmetrics.functional.image import peak_signal_noise_ratio

from pipeline.evaluation.metrics.pairwise import MOST_PSNR, psnr, squared_errors, ssim, ssim_window


def images(count: int, side: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).uniform(-1, 1, (count, side, side, 1))
    return drawn.astype(np.float32)


def published_ssim(x: np.ndarray, y: np.ndarray, sigma: float, reach: int) -> float:
    """Compute equation 13 in float64, with reflection padding."""

    def blurred(z: np.ndarray) -> np.ndarray:
        return gaussian_filter(z, sigma, radius=reach, mode="mirror")

    x, y = x.astype(np.float64), y.astype(np.float64)
    mean_x, mean_y = blurred(x), blurred(y)
    var_x, var_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    both = blurred(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    return float((top / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


@pytest.mark.parametrize(("side", "sigma", "reach"), [(8, 0.5, 2), (16, 1.5, 5)])
def test_similarity_is_as_published(side: int, sigma: float, reach: int) -> None:
    x, y = images(3, side, 0), images(3, side, 1)
    found = ssim(x, (0.7 * x + 0.3 * y).astype(np.float32))
    assert found is not None
    for i in range(3):
        both = x[i, ..., 0], (0.7 * x + 0.3 * y).astype(np.float32)[i, ..., 0]
        assert found[i] == pytest.approx(published_ssim(*both, sigma, reach), abs=1e-4)


def test_equal_images_are_entirely_similar_and_at_the_most_decibels() -> None:
    x = images(300, 8, 0)  # more than one chunk
    np.testing.assert_allclose(ssim(x, x), 1, atol=1e-6)
    assert psnr(x, x).tolist() == [MOST_PSNR] * 300
    assert squared_errors(x, x).max() == 0


def test_chunks_change_no_bit() -> None:
    x, y = images(513, 8, 0), images(513, 8, 1)  # two chunks and one image
    difference = (x.astype(np.float64) - y).reshape(513, -1)
    np.testing.assert_array_equal(squared_errors(x, y), np.mean(difference**2, axis=1))
    wide = [torch.from_numpy(each).permute(0, 3, 1, 2).double() for each in (x, y)]
    whole = peak_signal_noise_ratio(*wide, data_range=2.0, reduction="none", dim=(1, 2, 3))
    np.testing.assert_array_equal(psnr(x, y), whole.numpy())


def test_decibels_are_of_the_whole_range() -> None:
    x = np.zeros((2, 4, 4, 3), np.float32)
    y = x + np.array([0.2, 0.02], np.float32)[:, None, None, None]
    # 10 log10(2^2 / .2^2) = 20, and 20 more for a tenth of the difference
    np.testing.assert_allclose(psnr(x, y), [20, 40], atol=1e-5)


def test_images_too_small_for_any_window_have_no_similarity() -> None:
    assert [ssim_window((side, side, 1)) for side in (1, 4, 5, 10, 11, 64)] == [
        *(None, None, 5, 5, 11, 11)
    ]
    assert ssim(images(2, 4, 0), images(2, 4, 1)) is None


@pytest.mark.parametrize("shape", [(16, 1), (16, 16, 16, 1)])
def test_samples_of_other_axes_have_decibels_and_no_similarity(shape: tuple[int, ...]) -> None:
    x = np.zeros((2, *shape), np.float32)
    y = x + np.float32(0.2)
    np.testing.assert_allclose(psnr(x, y), 20, atol=1e-5)
    np.testing.assert_allclose(squared_errors(x, y), 0.04, atol=1e-6)
    assert ssim(x, y) is None
