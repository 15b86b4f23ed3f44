"""The `guidance` and `halving` sections of a recipe: how students are trained."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pipeline.config.distributions import Share, TimeDistribution, WDistribution
from pipeline.diffusion.grid import Sampling
from pipeline.documents import Document

OnPolicySource = Literal["teacher", "student"]
"""Network that on-policy states are sampled with: the student in training, or its teacher."""


BatchSize = Annotated[
    PositiveInt,
    Field(description="Samples per update over all workers; a multiple of `compute.workers`."),
]
ClipNorm = Annotated[PositiveFloat, Field(description="Maximum norm of the gradient.")]
RoundLoss = Annotated[
    Literal["snr_plus_one", "truncated_snr"],
    Field(
        description="Weight of the loss over noise levels, on the error of x: SNR + 1, or "
        "max(SNR, 1)."
    ),
]


class TrainingConfig(Document):
    """Length and optimiser settings of a training run."""

    updates: PositiveInt
    """Number of optimiser updates."""

    batch_size: BatchSize = 128

    learning_rate: PositiveFloat = 1e-3
    """Learning rate of the first update; it falls linearly to 0."""

    clip_norm: ClipNorm = 1.0


class RoundTraining(TrainingConfig):
    """Training settings of a distillation round."""

    loss_weight: RoundLoss = "truncated_snr"


class GuidanceRound(RoundTraining):
    """Round 0, stage 1 of the paper: distil classifier-free guidance into one evaluation.

    The student is w-conditioned and works with any number of steps.
    """

    w: WDistribution = WDistribution()
    """Distribution of the guidance weight."""

    time: TimeDistribution = TimeDistribution()
    """Distribution of the time."""

    ema_decay: Share = 0.0
    """Decay of the exponential moving average of the weights, in [0, 1). 0 exports the raw
    weights."""

    prediction: Literal["keep", "v"] = "v"
    """Prediction type of the student of an epsilon teacher: `v`, which is also defined at pure
    noise, or `keep` epsilon. No effect for other teachers."""

    conversion_updates: NonNegativeInt = 0
    """Updates in addition to `updates` to convert an epsilon teacher to v. Required with an epsilon
    teacher and `prediction: v`; ignored otherwise."""


class Halving(Document):
    """Rounds of stage 2: each arrow of `steps` is a round that reduces the number of steps."""

    steps: tuple[PositiveInt, ...]
    """Step counts, such as [8, 4, 2, 1]: each divides the one before. The first is the stage-1
    student's, sampled by DDIM."""

    first_substeps: PositiveInt = 1
    """DDIM steps per step of the first teacher. Larger values make the targets of the first round
    more accurate, at the cost of teacher evaluations in that round."""

    updates: PositiveInt | tuple[PositiveInt, ...]
    """Optimiser updates: one number for all rounds, or a list with one per arrow of `steps`."""

    batch_size: BatchSize = 128

    learning_rate: PositiveFloat = 1e-3
    """Learning rate of the first update of a round; it falls linearly to 0."""

    clip_norm: ClipNorm = 1.0

    loss_weight: RoundLoss = "truncated_snr"

    sampler: Literal["deterministic", "stochastic", "both"] = "deterministic"
    """Sampler of the students. A `stochastic` student takes steps of double length and adds noise
    back after each. `both` trains a chain of each kind."""

    on_policy_fraction: Share = 0.0
    """Fraction of training samples that are states of the student's own sampling instead of noised
    data, in [0, 1). They are sampled with the current student if `targets.mode` is online, else
    with its teacher."""

    @model_validator(mode="after")
    def _steps_halve(self) -> "Halving":
        if len(self.steps) < 2:
            raise ValueError("steps needs at least two entries, such as [4, 2, 1]")
        for teacher, student in zip(self.steps[:-1], self.steps[1:], strict=True):
            factor, rest = divmod(teacher, student)
            if rest or factor < 2:
                raise ValueError(
                    f"steps cannot go from {teacher} to {student}: each entry must be half (or a "
                    f"third, a quarter, ...) of the one before; use {_halvings(teacher)}"
                )
        if self.on_policy_fraction and max(self.steps[1:]) == 1:
            raise ValueError(
                "on_policy_fraction: a one-step student has no intermediate states; remove the "
                "key, or add students of several steps"
            )
        rounds, updates = len(self.steps) - 1, self.updates
        if isinstance(updates, tuple) and len(updates) != rounds:
            raise ValueError(
                f"updates has {len(updates)} entries for {rounds} rounds; give one number, or one "
                "per arrow of steps"
            )
        return self

    @property
    def samplers(self) -> tuple[Sampling, ...]:
        """Return the sampler of each chain, in order."""
        return ("deterministic", "stochastic") if self.sampler == "both" else (self.sampler,)

    @property
    def first_steps(self) -> int:
        """Return the DDIM steps of the stage-1 student as the teacher of the first round."""
        return self.steps[0] * self.first_substeps

    def sampling_steps(self, own: int | None) -> int:
        """Return the steps that a student is sampled in: its own, or `first_steps` in stage 1."""
        return own or self.first_steps

    def training(self, arrow: int) -> RoundTraining:
        """Return the training settings of an arrow; 0 is the first."""
        values = {name: getattr(self, name) for name in RoundTraining.model_fields}
        updates = self.updates[arrow] if isinstance(self.updates, tuple) else self.updates
        return RoundTraining(**values | {"updates": updates})


def _halvings(steps: int) -> str:
    """Return step counts from `steps` to 1, each divided by its smallest prime factor."""
    ladder = [steps]
    while ladder[-1] > 1:
        last = ladder[-1]
        ladder.append(last // next(factor for factor in range(2, last + 1) if last % factor == 0))
    return str(ladder)


class Encoding(Halving):
    """Encoder rounds: a chain of students that map data to noise, one round per arrow of `steps`.

    The chain starts from the stage-1 student. Encoders are trained at w = 0; the noise is decoded
    by a deterministic student with the same number of steps, at any w.

    Source: Meng et al. 2022, arXiv:2210.03142, progressive distillation for encoding.
    """

    @model_validator(mode="after")
    def _is_plain(self) -> "Encoding":
        if self.sampler != "deterministic" or self.on_policy_fraction:
            raise ValueError("sampler and on_policy_fraction do not apply to encoders; remove them")
        return self
