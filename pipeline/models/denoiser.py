"""The one calling convention: everything that computes sees denoisers and nothing else."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pipeline.diffusion.guidance import guide
from pipeline.diffusion.prediction import Prediction, PredictionType, express, interpret
from pipeline.diffusion.schedule import NoiseLevel, NoiseSchedule
from pipeline.tensors import Condition, Latent, PerSample

if TYPE_CHECKING:
    from pipeline.models.family import ModelFamily


class Denoiser(ABC):
    """What a noisy sample is believed to hold: (z_t, level, condition, w) -> (x, eps).

    The guided teacher, the student that is told w, and the exact Gaussian are all denoisers.

    Attributes:
        schedule: the noise path it lives on.
    """

    schedule: NoiseSchedule

    @abstractmethod
    def __call__(
        self, z_t: Latent, level: NoiseLevel, condition: Condition, w: PerSample
    ) -> Prediction:
        """Denoise a batch at guidance weight `w` (w = 0 is unguided)."""

    @abstractmethod
    def evaluations(self, w: float) -> int:
        """Network evaluations that one call costs at guidance weight `w`."""

    def velocity(
        self, z_t: Latent, level: NoiseLevel, condition: Condition, w: PerSample
    ) -> Latent:
        """The prediction as the path's velocity, the form targets and losses are in."""
        return express(self(z_t, level, condition, w), self.schedule.velocity, level)


class NetworkDenoiser(Denoiser):
    """A network asked once. If it was built to be told w, it is; otherwise w has to be 0.

    A student whose w is baked in answers for that one w only.

    Attributes:
        family: how this kind of network is called.
        module: the network, possibly wrapped by a training engine.
        knows_w: whether w enters the network.
        baked_w: the one w that a student without that input was distilled for.
    """

    def __init__(
        self,
        family: "ModelFamily",
        module: nn.Module,
        schedule: NoiseSchedule,
        prediction_type: PredictionType,
        *,
        knows_w: bool,
        baked_w: float | None = None,
    ) -> None:
        self.family = family
        self.module = module
        self.schedule = schedule
        self.prediction_type = prediction_type
        self.knows_w = knows_w
        self.baked_w = baked_w

    def __call__(
        self, z_t: Latent, level: NoiseLevel, condition: Condition, w: PerSample
    ) -> Prediction:
        """One evaluation.

        Raises:
            ValueError: some w is neither 0 nor baked in, and the network cannot be told it.
        """
        if not self.knows_w and bool((w != (self.baked_w or 0.0)).any()):
            raise ValueError(
                f"this network knows nothing of w but w = {self.baked_w or 0:g}; ask for that, or "
                "guide it (GuidedDenoiser)"
            )
        output = self.family.forward(
            self.module, z_t, self.schedule.timestep(level), condition, w if self.knows_w else None
        )
        return interpret(output, self.prediction_type, z_t, level)

    def evaluations(self, w: float) -> int:  # noqa: ARG002 (one at any w)
        """Always one."""
        return 1


class GuidedDenoiser(Denoiser):
    """A teacher under classifier-free guidance: condition and null condition in one batch.

    Costs two evaluations, and one where every w of the batch is 0.
    """

    def __init__(self, network: NetworkDenoiser) -> None:
        self.network = network
        self.schedule = network.schedule

    def __call__(
        self, z_t: Latent, level: NoiseLevel, condition: Condition, w: PerSample
    ) -> Prediction:
        """Guide: (1 + w) conditional - w unconditional."""
        if not bool(w.any()):
            return self.network(z_t, level, condition, w)
        null = self.network.family.null_condition(condition)
        both = {key: torch.cat([value, null[key]]) for key, value in condition.items()}
        twice = replace(
            level, t=_twice(level.t), alpha=_twice(level.alpha), sigma=_twice(level.sigma)
        )
        pair = self.network(_twice(z_t), twice, both, _twice(torch.zeros_like(w)))
        count = len(z_t)
        return guide(
            Prediction(x=pair.x[:count], eps=pair.eps[:count]),
            Prediction(x=pair.x[count:], eps=pair.eps[count:]),
            w,
        )

    def evaluations(self, w: float) -> int:
        """Two, or one without guidance."""
        return 1 if w == 0 else 2


def _twice(tensor: Tensor) -> Tensor:
    return torch.cat([tensor, tensor])
