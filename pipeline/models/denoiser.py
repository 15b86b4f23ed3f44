"""The calling convention of networks: methods and samplers use denoisers only."""

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
    """An estimator of signal and noise: (z_t, level, condition, w) -> (x, eps).

    Examples are the guided teacher, the w-conditioned student, and the exact Gaussian.

    Attributes:
        schedule: the noise path it was trained on.
    """

    schedule: NoiseSchedule

    @abstractmethod
    def __call__(
        self, z_t: Latent, level: NoiseLevel, condition: Condition, w: PerSample
    ) -> Prediction:
        """Denoise a batch at guidance weight `w` (w = 0 is unguided)."""

    @abstractmethod
    def evaluations(self, w: float) -> int:
        """Return the network evaluations per call at guidance weight `w`."""

    def velocity(
        self, z_t: Latent, level: NoiseLevel, condition: Condition, w: PerSample
    ) -> Latent:
        """Compute the prediction as the path's velocity, which targets and losses use."""
        return express(self(z_t, level, condition, w), self.schedule.velocity, level)


class NetworkDenoiser(Denoiser):
    """A network with one evaluation per call. Unless it is w-conditioned, w must be 0.

    A student with a baked-in w supports that w only.

    Attributes:
        family: the network's family, which defines how it is called.
        module: the network, possibly wrapped by a training engine.
        is_w_conditioned: whether the network is w-conditioned.
        baked_w: the fixed w that a student without a w input was distilled for.
    """

    def __init__(
        self,
        family: "ModelFamily",
        module: nn.Module,
        schedule: NoiseSchedule,
        prediction_type: PredictionType,
        *,
        is_w_conditioned: bool,
        baked_w: float | None = None,
    ) -> None:
        self.family = family
        self.module = module
        self.schedule = schedule
        self.prediction_type = prediction_type
        self.is_w_conditioned = is_w_conditioned
        self.baked_w = baked_w

    def __call__(
        self, z_t: Latent, level: NoiseLevel, condition: Condition, w: PerSample
    ) -> Prediction:
        """Denoise a batch in one evaluation.

        Raises:
            ValueError: the network is not w-conditioned and some w differs from its fixed w (0, or
                the baked-in w).
        """
        if not self.is_w_conditioned and bool((w != (self.baked_w or 0.0)).any()):
            raise ValueError(
                f"network is not w-conditioned (fixed w = {self.baked_w or 0:g}), got w in "
                f"[{float(w.min()):g}, {float(w.max()):g}]; use the fixed w, or wrap it in "
                "GuidedDenoiser"
            )
        output = self.family.forward(
            self.module,
            z_t,
            self.schedule.timestep(level),
            condition,
            w if self.is_w_conditioned else None,
        )
        return interpret(output, self.prediction_type, z_t, level)

    def evaluations(self, w: float) -> int:  # noqa: ARG002 (one at any w)
        """Return 1."""
        return 1


class GuidedDenoiser(Denoiser):
    """A teacher under classifier-free guidance: condition and null condition in one batch.

    A row takes two evaluations, or one if its w is 0.
    """

    def __init__(self, network: NetworkDenoiser) -> None:
        self.network = network
        self.schedule = network.schedule

    def __call__(
        self, z_t: Latent, level: NoiseLevel, condition: Condition, w: PerSample
    ) -> Prediction:
        """Compute (1 + w) conditional - w unconditional."""
        rows = w.nonzero().flatten().to(z_t.device)
        if not len(rows):
            return self.network(z_t, level, condition, w)
        null = self.network.family.null_condition(
            {key: value[rows.to(value.device)] for key, value in condition.items()}
        )
        both = {key: torch.cat([value, null[key]]) for key, value in condition.items()}
        more = replace(
            level,
            t=_and_rows(level.t, rows),
            alpha=_and_rows(level.alpha, rows),
            sigma=_and_rows(level.sigma, rows),
        )
        unguided = _and_rows(torch.zeros_like(w), rows)
        found, count = self.network(_and_rows(z_t, rows), more, both, unguided), len(z_t)
        guided = guide(
            Prediction(x=found.x[rows], eps=found.eps[rows]),
            Prediction(x=found.x[count:], eps=found.eps[count:]),
            w[rows.to(w.device)],
        )
        return Prediction(
            x=found.x[:count].index_copy(0, rows, guided.x),
            eps=found.eps[:count].index_copy(0, rows, guided.eps),
        )

    def evaluations(self, w: float) -> int:
        """Return 2, or 1 without guidance."""
        return 1 if w == 0 else 2


def _and_rows(tensor: Tensor, rows: Tensor) -> Tensor:
    """Append copies of some rows of a tensor."""
    return torch.cat([tensor, tensor[rows.to(tensor.device)]])
