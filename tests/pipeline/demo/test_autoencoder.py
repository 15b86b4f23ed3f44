"""The autoencoder: its latents suit a denoiser, and making them so changes no image."""

import math

import numpy as np
import pytest
import torch

from pipeline.demo.autoencoder import normalise_latents, reconstruction_rms, train_autoencoder
from pipeline.errors import ConfigError


@pytest.fixture(scope="module")
def autoencoder(tiny, train):
    return train_autoencoder(tiny, train, 16, 0)


def test_training_latents_have_mean_0_and_scaled_variance_1(autoencoder, train):
    images = train.read(np.arange(len(train))).x
    with torch.no_grad():
        latents = autoencoder.encode(images).latent_dist.mean * autoencoder.config.scaling_factor
    assert latents.shape[1:] == (4, 8, 8)
    # sums of 3840 float32 numbers of size 1
    assert latents.mean((0, 2, 3)).abs().max() < 1e-4
    assert float(latents.std()) == pytest.approx(1, abs=1e-4)


def test_centring_changes_no_image(autoencoder, train):
    images = train.read(np.arange(8)).x
    with torch.no_grad():
        before = autoencoder.decode(autoencoder.encode(images).latent_dist.mean).sample
        autoencoder.quant_conv.bias[:4] += 3
        autoencoder.post_quant_conv.bias -= autoencoder.post_quant_conv.weight[:, :, 0, 0].sum(
            1
        ) * torch.tensor(3.0)
        normalise_latents(autoencoder, train)
        after = autoencoder.decode(autoencoder.encode(images).latent_dist.mean).sample
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_the_reported_error_is_that_of_all_values(autoencoder, train):
    images = train.read(np.arange(len(train))).x
    with torch.no_grad():
        back = autoencoder.decode(autoencoder.encode(images).latent_dist.mean).sample.clamp(-1, 1)
    expected = math.sqrt(float((back - images).double().square().mean()))
    assert reconstruction_rms(autoencoder, train) == pytest.approx(expected, rel=1e-5)


def test_training_brings_images_back_better_than_their_mean(tiny, train):
    trained = train_autoencoder(
        tiny.model_copy(update={"autoencoder_updates": 60, "autoencoder_channels": (8, 16)}),
        train,
        16,
        0,
    )
    images = train.read(np.arange(len(train))).x
    assert reconstruction_rms(trained, train) < float(images.std())


def test_equal_seeds_are_equal_weights_and_the_process_generator_is_not_touched(
    autoencoder, tiny, train
):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again = (train_autoencoder(tiny, train, 16, 0).state_dict() for _ in range(2))
    other = train_autoencoder(tiny, train, 16, 1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["quant_conv.weight"], other["quant_conv.weight"])


def test_images_that_cannot_be_halved_are_refused(tiny, train):
    deep = tiny.model_copy(update={"autoencoder_channels": (4,) * 6})
    with pytest.raises(ConfigError, match="16 pixels cannot be halved 5 times"):
        train_autoencoder(deep, train, 16, 0)
