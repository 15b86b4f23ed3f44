"""Classifier-free guidance, in the paper's convention: w = 0 is unguided."""

from typing import TypeVar

from torch import Tensor

from pipeline.diffusion.prediction import Prediction
from pipeline.tensors import PerSample, per_sample

Weight = TypeVar("Weight", float, Tensor)
"""One guidance weight, or a tensor of them."""


def guidance_scale(w: Weight) -> Weight:
    """Convert w to diffusers' `guidance_scale` = 1 + w, in which 1 is unguided."""
    return 1 + w


def guide(conditional: Prediction, unconditional: Prediction, w: PerSample) -> Prediction:
    """Compute the guided prediction (1 + w) conditional - w unconditional.

    The two weights sum to one, so guiding x, eps or the velocity is equivalent. diffusers'
    `guidance_scale` is 1 + w.

    Source: Meng et al. 2022, arXiv:2210.03142, section 3.1 (x^w).
    """
    weight = per_sample(w, conditional.x)
    return Prediction(
        x=conditional.x + weight * (conditional.x - unconditional.x),
        eps=conditional.eps + weight * (conditional.eps - unconditional.eps),
    )
