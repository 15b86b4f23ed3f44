"""Base classes of distillation methods: any step, or the regression on a target."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from pipeline.config import (
    LossConfig,
    MethodConfig,
    OnPolicySource,
    TimeDistribution,
    WDistribution,
)
from pipeline.data.training_data import Batch
from pipeline.diffusion.loss import LossKind, LossWeight, loss_of, velocity_loss, weight
from pipeline.diffusion.schedule import NoiseLevel, NoiseSchedule, diffuse, shifted
from pipeline.models.denoiser import Denoiser
from pipeline.randomness import RowRandom
from pipeline.registry import Registry
from pipeline.tensors import Condition, Latent, PerSample

_BELOW_ONE = 1 - 2.0**-53


@dataclass(frozen=True)
class NoisedBatch:
    """A noised batch: all random quantities that target and loss depend on.

    Attributes:
        z_t: noisy samples `[b, *latent]`.
        t: their times in [0, 1], float64 `[b]`.
        w: guidance weights, float64 `[b]`.
        condition: conditioning inputs of the student.
        data_velocity: velocity of the noised data, for methods that train on data; else None.
        own: on-policy rows, bool `[b]`; their z_t is pure noise until `rollout` replaces it by a
            state of the sampling trajectory. None if no such row remains.
    """

    z_t: Latent
    t: PerSample
    w: PerSample
    condition: Condition
    data_velocity: Latent | None = None
    own: Bool[Tensor, " b"] | None = None


@dataclass(frozen=True)
class Networks:
    """The networks of a training step.

    Attributes:
        student: the trained network; None where targets are precomputed.
        teacher: the round's teacher; None where targets are read, or come from data.
    """

    student: Denoiser | None = None
    teacher: Denoiser | None = None


@dataclass(frozen=True)
class StepOutput:
    """The result of a training step.

    Attributes:
        loss: scalar that is differentiated.
        metrics: further scalars to log, by name.
    """

    loss: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class DistillationMethod(ABC):
    """A distillation method: from a teacher to a student.

    A method is one file: the class, its name, and the type of its settings as a subclass of
    `pipeline.config.MethodConfig` of the same name. `draw` makes all random choices, `prepare`
    computes what depends on the teacher, and `step` is deterministic.
    """

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def build(cls, config: MethodConfig, loss: LossConfig, null: Condition) -> "DistillationMethod":
        """Build the method of a round.

        Args:
            config: settings of the method, with all values.
            loss: the round's loss.
            null: the null condition, one row.
        """

    @abstractmethod
    def draw(self, schedule: NoiseSchedule, batch: Batch, random: RowRandom) -> NoisedBatch:
        """Draw times, guidance weights and noise for a batch."""

    def prepare(
        self,
        networks: Networks,  # noqa: ARG002 (arguments are for overriding methods)
        draws: NoisedBatch,
        random: RowRandom,  # noqa: ARG002
    ) -> tuple[NoisedBatch, Latent | None]:
        """Compute the batch's final states and its target, without gradient; by default neither.

        If `MethodConfig.pregenerable`, it must not need the student.

        Args:
            networks: student and teacher.
            draws: the result of `draw`, on the networks' device.
            random: the random stream that `draw` used.
        """
        return draws, None

    @abstractmethod
    def step(self, networks: Networks, draws: NoisedBatch, target: Latent | None) -> StepOutput:
        """Compute the loss of a batch, with gradient in the student."""

    def loss_at(self, mean_square: float) -> float:
        """Return the loss of predictions with this mean squared error, to detect divergence."""
        return mean_square


@dataclass(frozen=True)
class Regression(DistillationMethod):
    """A method that regresses the student's velocity on a target of the teacher or the data.

    `rollout` samples on-policy states with a network, `target` computes the student's target from
    the teacher alone (so it can be precomputed), and `loss` is deterministic.

    Attributes:
        loss_weight: omega(logsnr_t) of the loss.
        loss_kind: loss as a function of the velocity error.
    """

    loss_weight: LossWeight
    loss_kind: LossKind = field(default=LossKind.SQUARED, kw_only=True)

    def prepare(
        self, networks: Networks, draws: NoisedBatch, random: RowRandom
    ) -> tuple[NoisedBatch, Latent | None]:
        """Sample on-policy states, then compute the target."""
        with torch.no_grad():
            draws = self.rollout(networks.teacher, draws, random, networks.student)
            return draws, self.target(networks.teacher, draws)

    def rollout(
        self,
        teacher: Denoiser | None,  # noqa: ARG002 (arguments are for overriding methods)
        draws: NoisedBatch,
        random: RowRandom,  # noqa: ARG002
        student: Denoiser | None = None,  # noqa: ARG002
    ) -> NoisedBatch:
        """Replace pure noise in on-policy rows by sampled states; by default nothing.

        Args:
            teacher: the round's teacher.
            draws: the result of `draw`, on the networks' device.
            random: the random stream that `draw` used.
            student: the current student; None where targets are precomputed.

        Returns:
            The batch with its final z_t.
        """
        return draws

    def loss_at(self, mean_square: float) -> float:
        """Return the loss, at a weight of 1, of velocities with this mean squared error."""
        return loss_of(self.loss_kind, torch.tensor(mean_square)).item()

    @abstractmethod
    def target(self, teacher: Denoiser | None, draws: NoisedBatch) -> Latent:
        """Compute the student's target velocity `[b, *latent]`, in at least float32."""

    @property
    @abstractmethod
    def teacher_calls(self) -> int:
        """Teacher calls per target; 0 for methods without a teacher."""

    def step(self, networks: Networks, draws: NoisedBatch, target: Latent | None) -> StepOutput:
        """Compute the regression loss."""
        if target is None or networks.student is None:
            raise TypeError("target or student is None; compute the target with prepare()")
        return StepOutput(self.loss(networks.student, draws, target))

    def loss(self, student: Denoiser, draws: NoisedBatch, target: Latent) -> Tensor:
        """Compute the mean weighted loss of the student's velocity, a scalar."""
        level = student.schedule.at(draws.t)
        velocity = student.velocity(draws.z_t, level, draws.condition, draws.w)
        weights = weight(self.loss_weight, level)
        return velocity_loss(velocity, target, weights, self.loss_kind).mean()


METHODS: Registry[DistillationMethod] = Registry(
    "pipeline.methods",
    DistillationMethod,  # type: ignore[type-abstract]
    "method",
    entry_points="stepfold.methods",
)


def weights_of(config: MethodConfig) -> WDistribution:
    """Return the guidance weights of a round.

    Raises:
        TypeError: the settings have none; plan the round with `Recipe.round_configs`.
    """
    if config.w is None:
        raise TypeError("w is None; a distillation round needs a distribution of w")
    return config.w


def draw_w(weights: WDistribution, random: RowRandom) -> PerSample:
    """Draw guidance weights, float64 `[b]`: uniform over the listed values.

    For a range: exactly min with probability `mass_at_min`, otherwise uniform on [min, max].
    """
    unit = random.uniform("w")
    if weights.values:
        return torch.tensor(weights.values, dtype=torch.float64)[
            (unit * len(weights.values)).long()
        ]
    uniform = weights.min + (weights.max - weights.min) * unit
    at_min = random.uniform("w at min") < weights.mass_at_min
    return torch.where(at_min, torch.full_like(uniform, weights.min), uniform)


def draw_time(times: TimeDistribution, random: RowRandom) -> PerSample:
    """Draw training times in (0, 1), float64 `[b]`; a schedule then rounds them to its grid."""
    unit = random.uniform("time")
    if times.distribution == "logit_normal":
        unit = torch.sigmoid(times.mean + times.std * torch.special.ndtri(unit))
    # in the tail of a wide distribution the sigmoid rounds to 1, which is outside (0, 1)
    return shifted(unit, times.shift).clamp(max=_BELOW_ONE)


def noise_for(batch: Batch, random: RowRandom) -> Latent:
    """Draw the batch's eps ~ N(0, I), float32 `[b, *latent]`."""
    return random.normal("noise", *batch.x.shape[1:]).to(batch.x.device)


def noise_batch(batch: Batch, level: NoiseLevel, random: RowRandom) -> Latent:
    """Compute the batch at a noise level; pure noise at t = 1, where sampling starts.

    Otherwise schedules that do not end in pure noise would leak data into z_1.
    """
    eps = noise_for(batch, random)
    z_t = diffuse(batch.x, eps, level)
    at_end = (level.t == 1).to(z_t.device).reshape(-1, *[1] * (z_t.ndim - 1))
    return torch.where(at_end, eps.to(z_t.dtype), z_t)


def draw_on_policy(
    z_t: Latent, fraction: float, batch: Batch, random: RowRandom
) -> tuple[Latent, Bool[Tensor, " b"] | None]:
    """Draw which rows are on-policy, and replace their z_t by the noise that sampling starts from.

    Returns:
        z_t, and the on-policy rows for `NoisedBatch.own`; None if the fraction is 0.
    """
    if not fraction:
        return z_t, None
    own = random.uniform("own state") < fraction
    return torch.where(row_mask(own, z_t), noise_for(batch, random).to(z_t), z_t), own


def select_rows(draws: NoisedBatch, rows: Tensor) -> NoisedBatch:
    """Return the rows with these indices, on the batch's device; without on-policy marks."""
    return replace(
        draws,
        z_t=draws.z_t[rows],
        t=draws.t[rows],
        w=draws.w[rows],
        condition={key: value[rows] for key, value in draws.condition.items()},
        own=None,
    )


def rows_to_evaluate(mask: Bool[Tensor, " b"], like: Latent) -> Tensor:
    """Return the indices of a mask's rows on the device of `like`; of the first if it has none."""
    chosen = mask if bool(mask.any()) else torch.arange(len(mask)) == 0
    return chosen.nonzero().flatten().to(like.device)


def row_mask(mask: Bool[Tensor, " b"], like: Latent) -> Tensor:
    """Reshape a mask `[b]` to broadcast against `like` `[b, *latent]`."""
    return mask.to(like.device).reshape(-1, *[1] * (like.ndim - 1))


def on_policy_network(
    source: OnPolicySource, teacher: Denoiser | None, student: Denoiser | None
) -> Denoiser:
    """Select the network that samples on-policy states.

    Raises:
        TypeError: that network is None.
    """
    if source == "teacher":
        return require_teacher(teacher)
    if student is None:
        raise TypeError("student is None; on-policy states of the student need the student")
    return student


def require_teacher(teacher: Denoiser | None) -> Denoiser:
    """Return the teacher.

    Raises:
        TypeError: there is no teacher.
    """
    if teacher is None:
        raise TypeError("teacher is None; this method computes its targets from a teacher")
    return teacher
