"""Prediction types and conversions between them.

Every network output, together with z_t, determines a pair (x, eps) with
z_t = alpha_t x + sigma_t eps. All conversions go through that pair, so each is written once.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pipeline.tensors import Latent, per_sample

if TYPE_CHECKING:
    from pipeline.diffusion.schedule import NoiseLevel


class PredictionType(StrEnum):
    """The meaning of a network's output; the values are diffusers' names."""

    EPSILON = "epsilon"
    SAMPLE = "sample"
    V = "v_prediction"
    FLOW = "flow_prediction"


@dataclass(frozen=True)
class Prediction:
    """A denoiser's estimate for z_t = alpha x + sigma eps: clean sample `x` and noise `eps`."""

    x: Latent
    eps: Latent


def interpret(output: Latent, kind: PredictionType, z_t: Latent, level: "NoiseLevel") -> Prediction:
    """Convert a network's output to (x, eps), in at least float32.

    v = alpha eps - sigma x on variance-preserving paths (Salimans & Ho 2022, appendix D);
    u = eps - x on any path. An epsilon output needs alpha > 0 and a sample output sigma > 0.
    """
    alpha, sigma = per_sample(level.alpha, z_t), per_sample(level.sigma, z_t)
    output, z_t = output.to(alpha.dtype), z_t.to(alpha.dtype)
    match kind:
        case PredictionType.EPSILON:
            return Prediction(x=(z_t - sigma * output) / alpha, eps=output)
        case PredictionType.SAMPLE:
            return Prediction(x=output, eps=(z_t - alpha * output) / sigma)
        case PredictionType.V:
            norm = alpha**2 + sigma**2
            return Prediction(
                x=(alpha * z_t - sigma * output) / norm, eps=(sigma * z_t + alpha * output) / norm
            )
        case PredictionType.FLOW:
            norm = alpha + sigma
            return Prediction(x=(z_t - sigma * output) / norm, eps=(z_t + alpha * output) / norm)


def express(prediction: Prediction, kind: PredictionType, level: "NoiseLevel") -> Latent:
    """Convert a prediction to a network output of that type; the inverse of `interpret`."""
    match kind:
        case PredictionType.EPSILON:
            return prediction.eps
        case PredictionType.SAMPLE:
            return prediction.x
        case PredictionType.V:
            alpha = per_sample(level.alpha, prediction.x)
            sigma = per_sample(level.sigma, prediction.x)
            return alpha * prediction.eps - sigma * prediction.x
        case PredictionType.FLOW:
            return prediction.eps - prediction.x
