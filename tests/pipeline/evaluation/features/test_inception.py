"""Inception-v3 against numbers of torch-fidelity 0.4.0 for the same weights and pixels."""

import math

import pytest
import torch

from pipeline.evaluation.features.inception import InceptionV3, resize_like_tensorflow1
from tests.support.extractor_weights import formula_inception


@pytest.fixture(scope="module")
def network() -> InceptionV3:
    return formula_inception()


def pixels(*shape: int) -> torch.Tensor:
    at = torch.arange(math.prod(shape), dtype=torch.float64)
    wave = torch.sin(at * at * 0.001 + 0.3)
    return ((wave + 1) * 127.5).round().to(torch.uint8).reshape(shape)


@pytest.mark.parametrize(
    ("shape", "known"),
    [
        ((2, 3, 8, 8), {0: 0.444357693, 500: 0.0392793082, 1000: 0.0, 2047: 0.714059055}),
        ((1, 3, 40, 32), {0: 0.395963877, 500: 0.0293122493, 1500: 0.0, 2047: 0.867108643}),
    ],
)
@torch.inference_mode()
def test_features_are_those_of_the_published_code(
    network: InceptionV3, shape: tuple[int, ...], known: dict[int, float]
) -> None:
    found = network(pixels(*shape))
    assert found.shape == (shape[0], 2048)
    for place, value in known.items():
        # the two differ by 2e-5 at most over all features: sums in another order
        assert float(found[0, place]) == pytest.approx(value, abs=1e-4)


def test_its_weights_have_the_names_of_the_published_file(network: InceptionV3) -> None:
    names = list(network.state_dict())
    assert len(names) == 566
    assert {
        "Conv2d_1a_3x3.conv.weight",
        "Mixed_5b.branch5x5_2.bn.running_mean",
        "Mixed_7c.branch3x3dbl_3b.conv.weight",
        "fc.bias",
    } <= set(names)


def test_pixels_are_sampled_as_in_tensorflow() -> None:
    ramp = torch.arange(4.0).expand(1, 1, 2, 4)
    found = resize_like_tensorflow1(ramp)[0, 0, 0]
    # output pixel i lies at i * 4 / 299, and nothing lies after the last
    at = torch.arange(299) * 4 / 299
    torch.testing.assert_close(found, at.clamp(max=3.0), atol=1e-5, rtol=0)
