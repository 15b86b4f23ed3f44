"""The distillation loss: a weighted squared error between velocities.

Weights are functions of the noise level, expressed for the velocity: SNR + 1 on x is 1 on v,
max(SNR, 1) on x is max(alpha^2, sigma^2) on v or on u, and SNR on x is alpha^2 on v. In this form
no weight is singular at either end of the path.
"""

from enum import StrEnum

import torch

from pipeline.diffusion.schedule import NoiseLevel
from pipeline.tensors import Latent, PerSample


class LossWeight(StrEnum):
    """The weight of the squared velocity error at a level.

    `snr_plus_one` is 1 on the velocity. On a variance-preserving path this equals SNR + 1 on x; on
    a straight path it is the natural weight of u = eps - x, but not SNR + 1 on x.
    `snr` is 1 on eps: the plain loss of an eps-predicting network. It is zero at pure noise, so it
    can train a teacher, but not a student that starts from pure noise.

    Source: Salimans & Ho 2022, arXiv:2202.00512, section 4 ("SNR", "SNR+1", "truncated SNR"); Ho
    et al. 2020, arXiv:2006.11239, eq. 14 (the plain loss).
    """

    SNR_PLUS_ONE = "snr_plus_one"
    TRUNCATED_SNR = "truncated_snr"
    SNR = "snr"


def weight(kind: LossWeight, level: NoiseLevel) -> PerSample:
    """Compute omega(logsnr_t) for the velocity, float64 `[b]`."""
    match kind:
        case LossWeight.SNR_PLUS_ONE:
            return torch.ones_like(level.t)
        case LossWeight.TRUNCATED_SNR:
            return torch.maximum(level.alpha**2, level.sigma**2)
        case LossWeight.SNR:
            return level.alpha**2


def velocity_loss(student: Latent, target: Latent, weights: PerSample) -> PerSample:
    """Compute the weighted mean squared error of each sample, `[b]`, in at least float32."""
    wide = torch.promote_types(student.dtype, torch.float32)
    error = (student.to(wide) - target.to(wide)).flatten(1).square().mean(1)
    return weights.to(error) * error
