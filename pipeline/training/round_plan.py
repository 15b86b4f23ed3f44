"""One round as it is planned: who teaches whom what, on which grid, for how long."""

from typing import Literal

from pipeline.config import (
    OnPolicySource,
    PredictionName,
    TimeDistribution,
    TrainingConfig,
    WDistribution,
)
from pipeline.diffusion.grid import Direction, Grid, Sampling, steps_folded
from pipeline.documents import Document

TEACHER_ROUND = -1
GUIDANCE_ROUND = 0
_ORDINARY = ("deterministic", "decode")


AgainKind = Literal["extended", "retried"]


class Again(Document):
    """How a round is done over after its student failed the gate.

    Attributes:
        kind: `extended` trains the failed student on, `retried` begins anew at a lower rate.
        number: 1 for the first time of its kind, 2, ...
        rate: what the recipe's learning rate is multiplied by.
        start: digest of the student that is trained on; None for the round's teacher.
    """

    kind: AgainKind
    number: int
    rate: float = 1.0
    start: str | None = None


class RoundPlan(Document):
    """One round: a teacher bundle goes in, a student bundle comes out.

    Attributes:
        index: 0 for the paper's stage 1, 1, 2, ... for the halvings; -1 trains the demo's teacher.
        method: name of the distillation method.
        parent: index of the round whose student is this round's teacher; None for no teacher.
        teacher_steps: steps of the teacher's sampler that the round halves; None outside halvings.
        student_steps: step count the student is made for; None for any.
        substeps: DDIM steps in which the teacher takes each of its steps.
        direction: decode goes from noise to data, encode back.
        sampler: what the student is made for: `stochastic` steps twice as far and is noised back.
        teacher_sampler: what the teacher was made for, whose steps are followed.
        training: updates, batch, learning rate, clipping.
        loss_weight: weight of the velocity error over noise levels.
        ema_decay: decay of the exported weights' average, 0 for the raw weights.
        prediction: what the student's network predicts; None for what its teacher's does.
        time: law of the time in stage 1; None for the plain uniform one.
        on_policy_fraction: share of samples that are states of the student's own sampling.
        on_policy_source: network that these states are sampled with: the current student, or its
            teacher.
        w: law of the guidance weight; None for a network that does not know w.
        label_dropout: share of conditions dropped (teacher training only).
        seed: the run's seed.
        again: how the round is done over; None the first time.
    """

    index: int
    method: Literal["denoising", "guidance", "progressive"]
    parent: int | None
    teacher_steps: int | None = None
    student_steps: int | None = None
    substeps: int = 1
    direction: Direction = "decode"
    sampler: Sampling = "deterministic"
    teacher_sampler: Sampling = "deterministic"
    training: TrainingConfig
    loss_weight: Literal["snr_plus_one", "truncated_snr", "snr"] = "truncated_snr"
    ema_decay: float = 0.0
    prediction: PredictionName | None = None
    time: TimeDistribution | None = None
    on_policy_fraction: float = 0.0
    on_policy_source: OnPolicySource = "teacher"
    w: WDistribution | None = None
    label_dropout: float = 0.0
    seed: int
    again: Again | None = None

    @property
    def jump(self) -> int | None:
        """How many teacher steps one student step replaces, the longest where they differ."""
        return None if self.folded is None else self.folded // self.substeps

    @property
    def grid(self) -> Grid | None:
        """Where the student is asked, and how far each of its steps goes; None for any time."""
        if self.student_steps is None:
            return None
        return Grid(self.student_steps, self.direction, self.sampler)

    @property
    def teacher_grid(self) -> Grid | None:
        """The steps the teacher takes; None outside halvings."""
        if self.teacher_steps is None:
            return None
        return Grid(self.teacher_steps * self.substeps, self.direction, self.teacher_sampler)

    @property
    def folded(self) -> int | None:
        """How many evaluations of the teacher one target folds into one; None outside halvings.

        Where steps differ in length, as many as the longest need: a batch holds all of them.
        """
        if self.grid is None or self.teacher_grid is None:
            return None
        return max(steps_folded(self.grid, self.teacher_grid))

    @property
    def evaluations_per_target(self) -> float:
        """Evaluations of the teacher per target of a halving, unguided, with on-policy states."""
        own = self._steps_to_on_policy_states if self.on_policy_source == "teacher" else 0.0
        return (self.folded or 1) * (1 + own)

    @property
    def evaluations_per_sample(self) -> float:
        """Evaluations of the student per training sample, with on-policy states."""
        return 1 + (self._steps_to_on_policy_states if self.on_policy_source == "student" else 0.0)

    @property
    def exported_steps(self) -> int | None:
        """Steps of the stock pipeline its student leaves in; None if no stock pipeline samples it.

        That is a deterministic decoder's: stock samplers have no steps of the other kinds.
        """
        return None if self._kinds else self.student_steps

    @property
    def made_for(self) -> str:
        """The use of the student, for names: `any-steps`, `4-steps`, `4-steps-stochastic`."""
        return f"{self.student_steps or 'any'}-steps{''.join(f'-{kind}' for kind in self._kinds)}"

    @property
    def folder(self) -> str:
        """Where the round lives, relative to the run directory; done over, beside the first."""
        over = f"-{self.again.kind}-{self.again.number}" if self.again else ""
        if self.index == TEACHER_ROUND:
            return "rounds/teacher"
        if self.method == "guidance":
            return f"rounds/{self.index:02d}-guidance{over}"
        steps = f"{self.teacher_steps}-to-{self.student_steps}"
        return f"rounds/{'-'.join((f'{self.index:02d}', steps, *self._kinds))}{over}"

    @property
    def title(self) -> str:
        """What a person calls it."""
        over = f", {self.again.kind} {self.again.number}" if self.again else ""
        if self.index == TEACHER_ROUND:
            return "teacher"
        if self.method == "guidance":
            return f"round {self.index}: guidance, any w in one evaluation{over}"
        steps = f"{self.teacher_steps} -> {self.student_steps} steps"
        return f"round {self.index}: {', '.join((steps, *self._kinds))}{over}"

    @property
    def _steps_to_on_policy_states(self) -> float:
        """Steps of the student per training sample, on average, to sample on-policy states."""
        return self.on_policy_fraction * ((self.student_steps or 1) - 1)

    @property
    def new_w_range(self) -> tuple[float, float] | None:
        """Range of the w input that the student gets as the round begins; None if it gets none."""
        if self.method != "guidance" or self.w is None:
            return None
        return self.w.min, self.w.max

    @property
    def _kinds(self) -> tuple[str, ...]:
        """What sets the round apart from a deterministic decoder's."""
        return tuple(kind for kind in (self.sampler, self.direction) if kind not in _ORDINARY)

    @property
    def learning_rate(self) -> float:
        """Of the first update."""
        return self.training.learning_rate * (self.again.rate if self.again else 1.0)

    @property
    def targets_of(self) -> "RoundPlan":
        """The round whose targets it learns from: tried again, those of the first time."""
        is_retried = self.again is not None and self.again.kind == "retried"
        return self.model_copy(update={"again": None}) if is_retried else self

    @property
    def samples_seen(self) -> int:
        """Length of the round on the training clock."""
        return self.training.updates * self.training.batch_size

    @property
    def stream(self) -> tuple[int, ...]:
        """The randomness of the round (indices start at -1, seeds of a stream at 0).

        Tried again it has the same draws, trained on it has new ones.
        """
        first = (self.seed, self.index + 1)
        if self.again is None or self.again.kind == "retried":
            return first
        return (*first, self.again.number)
