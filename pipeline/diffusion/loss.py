"""The distillation loss: a weighted error between velocities, squared or pseudo-Huber.

Weights are functions of the noise level, expressed for the velocity: SNR + 1 on x is 1 on v,
max(SNR, 1) on x is max(alpha^2, sigma^2) on v or on u, and SNR on x is alpha^2 on v. In this form
no weight is singular at either end of the path.
"""

from enum import StrEnum

import torch
from torch import Tensor

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


class LossKind(StrEnum):
    """The loss of one sample as a function of its mean squared velocity error m.

    `squared` is m. `pseudo_huber` is 2 c (sqrt(m + c^2) - c) with c = `HUBER_SCALE`: m for errors
    far below c, and 2 c sqrt(m) far above, where a sample's gradient does not grow with its error.
    So a few samples with large errors (of large w, say) do not outweigh all others.

    This is sqrt(||e||^2 + c^2 d) - c sqrt(d) for d dimensions, multiplied by 2 c / sqrt(d): in this
    scale it is at most the squared loss, and so is its gradient, which keeps `clip_norm` sensible.
    Weights over noise levels multiply it, as they multiply the squared error.

    The minimum over a random target is its mean for `squared` only. Both have the same minimum
    where the target is a function of the student's inputs, as all targets of a teacher are.

    Source: Song & Dhariwal 2023, arXiv:2310.14189, section 3.3 (pseudo-Huber, and its weights).
    """

    SQUARED = "squared"
    PSEUDO_HUBER = "pseudo_huber"


HUBER_SCALE = 0.03
"""Root mean squared velocity error at which the pseudo-Huber loss turns from squared to linear."""


def loss_of(kind: LossKind, mean_square: Tensor) -> Tensor:
    """Compute the loss of samples with these mean squared velocity errors."""
    match kind:
        case LossKind.SQUARED:
            return mean_square
        case LossKind.PSEUDO_HUBER:
            # (sqrt(m + c^2) - c) (sqrt(m + c^2) + c) = m, without the difference
            root = (mean_square + HUBER_SCALE**2).sqrt()
            return 2 * HUBER_SCALE * mean_square / (root + HUBER_SCALE)


def velocity_loss(
    student: Latent, target: Latent, weights: PerSample, kind: LossKind = LossKind.SQUARED
) -> PerSample:
    """Compute the weighted loss of each sample, `[b]`, in at least float32."""
    wide = torch.promote_types(student.dtype, torch.float32)
    error = (student.to(wide) - target.to(wide)).flatten(1).square().mean(1)
    return weights.to(error) * loss_of(kind, error)
