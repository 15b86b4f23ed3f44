"""The recipe's `guidance` and `halving` sections: how long, how fast and on what a round trains."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pipeline.documents import Document

Share = Annotated[float, Field(ge=0, lt=1)]


class TrainingConfig(Document):
    """How long and how fast one round trains. The learning rate is annealed linearly to 0."""

    updates: PositiveInt
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 1e-3
    clip_norm: PositiveFloat = 1.0


class GuidanceWeights(Document):
    """The law of the guidance weight w in training: uniform, plus a point mass at `min`.

    w = 0 is unguided; diffusers' guidance_scale is 1 + w.
    """

    min: float = Field(default=0.0, ge=0)
    max: float = Field(default=4.0, ge=0)
    mass_at_min: Share = 0.1

    @model_validator(mode="after")
    def _is_a_range(self) -> "GuidanceWeights":
        if self.min > self.max:
            raise ValueError(f"w range is reversed: min {self.min} is above max {self.max}")
        return self


class RoundTraining(TrainingConfig):
    """Training of a distillation round, and the weight of its loss over noise levels."""

    loss_weight: Literal["snr_plus_one", "truncated_snr"] = "truncated_snr"


class GuidanceRound(RoundTraining):
    """Round 0, the paper's stage 1: one student for every w of the range.

    An epsilon output says nothing of x where there is almost only noise, which few-step students
    start from. So the student of an epsilon teacher predicts v (`prediction: v`) unless it is to
    `keep` what its teacher does. It does then not start as its teacher, and `conversion_updates`
    come on top of `updates`.
    """

    w: GuidanceWeights = GuidanceWeights()
    ema_decay: Share = 0.0
    prediction: Literal["keep", "v"] = "v"
    conversion_updates: NonNegativeInt = 0


class Halving(Document):
    """The stage-2 rounds: each arrow of `steps` is a round.

    `updates` is one number for all rounds or a list with one number a round. The stage-1 student is
    good at any time, so that round 1 need not teach what `steps[0]` coarse steps reach: each may be
    solved in `first_substeps` DDIM steps. That costs evaluations of round 1's targets only, and
    what it saves no later round could win back.
    """

    steps: tuple[PositiveInt, ...]
    first_substeps: PositiveInt = 1
    updates: PositiveInt | tuple[PositiveInt, ...]
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 1e-3
    clip_norm: PositiveFloat = 1.0
    loss_weight: Literal["snr_plus_one", "truncated_snr"] = "truncated_snr"

    @model_validator(mode="after")
    def _steps_halve(self) -> "Halving":
        if len(self.steps) < 2:
            raise ValueError("steps needs at least two entries, for example [4, 2, 1]")
        for teacher, student in zip(self.steps[:-1], self.steps[1:], strict=True):
            factor, rest = divmod(teacher, student)
            if rest or factor < 2 or factor & (factor - 1):
                raise ValueError(
                    f"steps cannot go from {teacher} to {student}: each entry must be half "
                    f"(or a quarter, an eighth, ...) of the one before; use {_halvings(teacher)}"
                )
        rounds, updates = len(self.steps) - 1, self.updates
        if isinstance(updates, tuple) and len(updates) != rounds:
            wanted = "give one number, or one for each arrow of steps"
            raise ValueError(f"updates has {len(updates)} entries for {rounds} rounds; {wanted}")
        return self

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
    ladder = [steps]
    while ladder[-1] % 2 == 0:
        ladder.append(ladder[-1] // 2)
    return str(ladder)
