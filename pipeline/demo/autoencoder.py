"""Train a small `AutoencoderKL` on the demo's images.

Source: Rombach et al. 2022, arXiv:2112.10752, section 3.1, without the perceptual and adversarial
losses, which are not useful for images of 16 pixels.
"""

import logging
import math
from collections.abc import Iterator

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from pipeline.config import ComponentsTraining
from pipeline.data.training_data import Samples
from pipeline.demo.fitting import Hyperparameters, ProgressCallback, Rows, fit, seeded
from pipeline.errors import ConfigError
from pipeline.randomness import RowRandom

_RATE = 2e-3
_ABSOLUTE = 0.1  # weight of the L1 error: with the squared error alone, edges blur
_PRIOR = 1e-6  # weight of the KL term: keeps latents close together without blurring images
_NORM_GROUPS = 8
_CHUNK = 256
_MEASURED = 2048  # images for the latents' mean and scale

_log = logging.getLogger(__name__)


def train_autoencoder(
    config: ComponentsTraining,
    samples: Samples,
    size: int,
    seed: int,
    progress: ProgressCallback = lambda _: None,
) -> AutoencoderKL:
    """Train on images in [-1, 1]; scaled latents have mean 0 and variance 1.

    Raises:
        ConfigError: the image size is not divisible by the downsampling factor.
        DivergenceError: training diverged.
    """
    halvings = len(config.autoencoder_channels) - 1
    if size % 2**halvings:
        raise ConfigError(
            f"teacher.components.autoencoder_channels: images of {size} pixels cannot be halved "
            f"{halvings} times; use fewer resolutions"
        )
    with seeded(seed):
        autoencoder = _fresh(config, size)

    def loss_of(rows: Rows, random: RowRandom) -> Tensor:
        x = samples.read(rows).x
        posterior = autoencoder.encode(x).latent_dist
        noise = random.normal("posterior", *posterior.mean.shape[1:])
        error: Tensor = autoencoder.decode(posterior.mean + posterior.std * noise).sample - x
        reconstruction = error.square().mean() + _ABSOLUTE * error.abs().mean()
        loss: Tensor = reconstruction + _PRIOR * posterior.kl().mean()
        return loss

    settings = Hyperparameters(config.autoencoder_updates, config.batch_size, _RATE, seed)
    fit("autoencoder", (autoencoder,), loss_of, len(samples), settings, progress)
    normalise_latents(autoencoder, samples)
    return autoencoder


@torch.no_grad()
def reconstruction_rms(autoencoder: AutoencoderKL, samples: Samples) -> float:
    """Compute the RMS reconstruction error of images in [-1, 1]; outputs are clipped."""
    total = values = 0.0
    for x in _chunks(samples, len(samples)):
        back = autoencoder.decode(autoencoder.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        total += float((back - x).double().square().sum())
        values += x.numel()
    return math.sqrt(total / values)


def _fresh(config: ComponentsTraining, size: int) -> AutoencoderKL:
    channels = config.autoencoder_channels
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        latent_channels=config.latent_channels,
        norm_num_groups=math.gcd(_NORM_GROUPS, *channels),
        sample_size=size,
    )


@torch.no_grad()
def normalise_latents(autoencoder: AutoencoderKL, samples: Samples) -> None:
    """Fold the channel means into the 1x1 layers around the latents; images do not change.

    Denoisers start from noise of mean 0, and the stock U-Net pipeline has a scale but no shift.
    """
    means = [autoencoder.encode(x).latent_dist.mean for x in _chunks(samples, _MEASURED)]
    latents = torch.cat(means)
    centre = latents.mean((0, 2, 3))
    before, after = autoencoder.quant_conv, autoencoder.post_quant_conv
    before.bias[: len(centre)] -= centre
    after.bias += after.weight[:, :, 0, 0] @ centre
    scale = 1 / float((latents - centre[:, None, None]).std())
    autoencoder.register_to_config(scaling_factor=scale)
    _log.info("autoencoder: scaling factor %.4f", scale)


def _chunks(samples: Samples, most: int) -> Iterator[Tensor]:
    rows = np.arange(min(most, len(samples)))
    for first in range(0, len(rows), _CHUNK):
        yield samples.read(rows[first : first + _CHUNK]).x
