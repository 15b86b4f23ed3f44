"""The plan of a round: teacher, student, sampling grids and length of training."""

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
ROUNDS = "rounds"
"""Folder of all rounds in a run directory."""
_ORDINARY = ("deterministic", "decode")


RetryKind = Literal["extended", "retried"]


class Retry(Document):
    """A repetition of a round after its student failed the quality gate.

    Attributes:
        kind: `extended` continues to train the failed student, `retried` restarts the round at a
            lower learning rate.
        number: count of its kind: 1, 2, ...
        rate: factor on the recipe's learning rate.
        start: digest of the student to continue from; None for the round's teacher.
    """

    kind: RetryKind
    number: int
    rate: float = 1.0
    start: str | None = None


class RoundPlan(Document):
    """The plan of one round, which turns a teacher bundle into a student bundle.

    Attributes:
        index: 0 for the paper's stage 1, 1, 2, ... for the halvings; -1 trains the demo's teacher.
        method: name of the distillation method.
        parent: index of the round whose student is this round's teacher; None for no teacher.
        teacher_steps: step count of the teacher, which the round halves; None outside halvings.
        student_steps: step count of the student; None for any.
        substeps: DDIM steps per teacher step.
        direction: `decode` from noise to data, `encode` from data to noise.
        sampler: sampler of the student; a `stochastic` step is twice as long, then renoised.
        teacher_sampler: sampler of the teacher, whose steps are folded.
        training: updates, batch size, learning rate, clipping.
        loss_weight: weight of the velocity error over noise levels.
        ema_decay: decay of the exported weights' average; 0 for the raw weights.
        prediction: prediction type of the student; None for its teacher's.
        time: distribution of times in stage 1; None for uniform.
        on_policy_fraction: fraction of samples that are on-policy states, in [0, 1].
        on_policy_source: network that is sampled for them: the current student, or the
            teacher, from which the student is initialised.
        w: distribution of the guidance weight; None for a network without a w input.
        label_dropout: fraction of conditions dropped (teacher training only).
        seed: seed of the run.
        again: retry of the round; None for the first attempt.
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
    again: Retry | None = None

    @property
    def jump(self) -> int | None:
        """Teacher steps that one student step replaces; the maximum if steps differ."""
        return None if self.folded is None else self.folded // self.substeps

    @property
    def grid(self) -> Grid | None:
        """The student's sampling grid; None for a student of any time."""
        if self.student_steps is None:
            return None
        return Grid(self.student_steps, self.direction, self.sampler)

    @property
    def teacher_grid(self) -> Grid | None:
        """The teacher's sampling grid; None outside halvings."""
        if self.teacher_steps is None:
            return None
        return Grid(self.teacher_steps * self.substeps, self.direction, self.teacher_sampler)

    @property
    def folded(self) -> int | None:
        """Teacher evaluations folded into one target; None outside halvings.

        If steps differ in length, this is the maximum, because a batch holds all of them.
        """
        if self.grid is None or self.teacher_grid is None:
            return None
        return max(steps_folded(self.grid, self.teacher_grid))

    @property
    def evaluations_per_target(self) -> float:
        """Teacher evaluations per target of a halving, unguided, including on-policy states."""
        own = self._steps_to_on_policy_states if self.on_policy_source == "teacher" else 0.0
        return (self.folded or 1) * (1 + own)

    @property
    def evaluations_per_sample(self) -> float:
        """Student evaluations per training sample, including on-policy states."""
        return 1 + (self._steps_to_on_policy_states if self.on_policy_source == "student" else 0.0)

    @property
    def exported_steps(self) -> int | None:
        """Steps of the student's exported stock pipeline; None if it cannot be exported.

        Only deterministic decoders are exported: stock samplers do not have the other steps.
        """
        return None if self._kinds else self.student_steps

    @property
    def sampling_target(self) -> str:
        """Sampling target of the student: `any-steps`, `4-steps`, `4-steps-stochastic`."""
        return f"{self.student_steps or 'any'}-steps{''.join(f'-{kind}' for kind in self._kinds)}"

    @property
    def folder(self) -> str:
        """Folder of the round, relative to the run directory; a retry has its own."""
        over = f"-{self.again.kind}-{self.again.number}" if self.again else ""
        if self.index == TEACHER_ROUND:
            return f"{ROUNDS}/teacher"
        if self.method == "guidance":
            return f"{ROUNDS}/{self.index:02d}-guidance{over}"
        steps = f"{self.teacher_steps}-to-{self.student_steps}"
        return f"{ROUNDS}/{'-'.join((f'{self.index:02d}', steps, *self._kinds))}{over}"

    @property
    def title(self) -> str:
        """Title of the round, for messages."""
        over = f", {self.again.kind} {self.again.number}" if self.again else ""
        if self.index == TEACHER_ROUND:
            return "teacher"
        if self.method == "guidance":
            return f"round {self.index}: guidance, any w in one evaluation{over}"
        steps = f"{self.teacher_steps} -> {self.student_steps} steps"
        return f"round {self.index}: {', '.join((steps, *self._kinds))}{over}"

    @property
    def _steps_to_on_policy_states(self) -> float:
        """Mean number of student steps per sample to reach on-policy states."""
        return self.on_policy_fraction * ((self.student_steps or 1) - 1)

    @property
    def new_w_range(self) -> tuple[float, float] | None:
        """Range of w that the student is conditioned on from the start; None if it is not."""
        if self.method != "guidance" or self.w is None:
            return None
        return self.w.min, self.w.max

    @property
    def _kinds(self) -> tuple[str, ...]:
        """Sampler and direction that differ from a deterministic decoder's."""
        return tuple(kind for kind in (self.sampler, self.direction) if kind not in _ORDINARY)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the first update."""
        return self.training.learning_rate * (self.again.rate if self.again else 1.0)

    @property
    def targets_of(self) -> "RoundPlan":
        """The plan whose targets the round uses; a retry reuses those of the first attempt."""
        is_retried = self.again is not None and self.again.kind == "retried"
        return self.model_copy(update={"again": None}) if is_retried else self

    @property
    def samples_seen(self) -> int:
        """Length of the round on the training clock, in samples."""
        return self.training.updates * self.training.batch_size

    @property
    def stream(self) -> tuple[int, ...]:
        """Key of the round's random stream (round indices start at -1, stream keys at 0).

        A retry has the same random numbers, an extension has new ones.
        """
        first = (self.seed, self.index + 1)
        if self.again is None or self.again.kind == "retried":
            return first
        return (*first, self.again.number)
