"""The recipe's `guidance` and `halving` sections: how long, how fast and on what a round trains."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pipeline.config.laws import Share, TimeDistribution, WDistribution
from pipeline.diffusion.grid import Sampling
from pipeline.documents import Document

OnPolicySource = Literal["teacher", "student"]
"""Network that on-policy states are sampled with: the student in training, or its teacher."""


class TrainingConfig(Document):
    """How long and how fast one round trains. The learning rate is annealed linearly to 0."""

    updates: PositiveInt
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 1e-3
    clip_norm: PositiveFloat = 1.0


class RoundTraining(TrainingConfig):
    """Training of a distillation round, and the weight of its loss over noise levels."""

    loss_weight: Literal["snr_plus_one", "truncated_snr"] = "truncated_snr"


class GuidanceRound(RoundTraining):
    """Round 0, the paper's stage 1: one student for every w of the range.

    An epsilon output says nothing of x where there is almost only noise, which few-step students
    start from. So the student of an epsilon teacher predicts v (`prediction: v`) unless it is to
    `keep` what its teacher does. It does then not start as its teacher, and `conversion_updates`
    come on top of `updates`; where nothing is converted they are not made.
    """

    w: WDistribution = WDistribution()
    time: TimeDistribution = TimeDistribution()
    ema_decay: Share = 0.0
    prediction: Literal["keep", "v"] = "v"
    conversion_updates: NonNegativeInt = 0


class Halving(Document):
    """The stage-2 rounds: each arrow of `steps` is a round.

    `updates` is one number for all rounds or a list with one number a round. The stage-1 student is
    good at any time, so that round 1 need not teach what `steps[0]` coarse steps reach: each may be
    solved in `first_substeps` DDIM steps. That costs evaluations of round 1's targets only, and
    what it saves no later round could win back.

    A `stochastic` student steps twice as far and is noised back half of the way; `both` makes a
    ladder of each from the same stage-1 student. The share `on_policy_fraction` of training samples
    are states of the student's own sampling instead of noised data: of the current student if
    `targets.mode` is online, otherwise of its teacher, from which it is initialised.
    """

    steps: tuple[PositiveInt, ...]
    first_substeps: PositiveInt = 1
    updates: PositiveInt | tuple[PositiveInt, ...]
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 1e-3
    clip_norm: PositiveFloat = 1.0
    loss_weight: Literal["snr_plus_one", "truncated_snr"] = "truncated_snr"
    sampler: Literal["deterministic", "stochastic", "both"] = "deterministic"
    on_policy_fraction: Share = 0.0

    @model_validator(mode="after")
    def _steps_halve(self) -> "Halving":
        if len(self.steps) < 2:
            raise ValueError("steps needs at least two entries, for example [4, 2, 1]")
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
            wanted = "give one number, or one for each arrow of steps"
            raise ValueError(f"updates has {len(updates)} entries for {rounds} rounds; {wanted}")
        return self

    @property
    def samplers(self) -> tuple[Sampling, ...]:
        """What ladders there are, in order."""
        return ("deterministic", "stochastic") if self.sampler == "both" else (self.sampler,)

    @property
    def first_steps(self) -> int:
        """DDIM steps that the stage-1 student is sampled with when it is the teacher."""
        return self.steps[0] * self.first_substeps

    def training(self, arrow: int) -> RoundTraining:
        """The training of round `arrow` (0 is the first halving)."""
        return RoundTraining(
            updates=self.updates[arrow] if isinstance(self.updates, tuple) else self.updates,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            clip_norm=self.clip_norm,
            loss_weight=self.loss_weight,
        )


def _halvings(steps: int) -> str:
    """A ladder from `steps` to 1 that loses its smallest prime factor with each entry."""
    ladder = [steps]
    while ladder[-1] > 1:
        last = ladder[-1]
        ladder.append(last // next(factor for factor in range(2, last + 1) if last % factor == 0))
    return str(ladder)
