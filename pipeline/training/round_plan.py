"""The plan of a round: teacher, method, and length of training."""

import math
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, model_validator

from pipeline.config import LossConfig, MethodConfig, TargetsConfig, TrainingConfig, WDistribution
from pipeline.config.rounds import with_method_settings
from pipeline.diffusion.grid import Direction, Grid, Sampling
from pipeline.documents import Document
from pipeline.ledger import Artifact
from pipeline.run_files import ROUNDS

TEACHER_ROUND = -1
GUIDANCE_ROUND = 0
_ORDINARY = ("deterministic", "decode")


RetryKind = Literal["extended", "retried"]


class Retry(Document):
    """A repetition of a round after its student failed the quality gate.

    Attributes:
        kind: `extended` continues to train the failed student, `retried` restarts the round at a
            lower learning rate.
        number: count of its kind: 1, 2, ...
        rate: factor on the recipe's learning rate.
        start: digest of the student to continue from; None to start as the first attempt did.
    """

    kind: RetryKind
    number: int
    rate: float = 1.0
    start: str | None = None


class AttemptRecord(Document):
    """The attempt at a round that trained a student, as in the record of the student.

    Attributes:
        round: fingerprint of the student of the round's first attempt, which identifies the round
            with all its inputs.
        again: retry of the round; None for the first attempt.
        updates: updates of the attempt.
    """

    round: str
    again: Retry | None
    updates: int


class RoundPlan(Document):
    """The plan of one round, which turns a teacher bundle into a student bundle.

    Attributes:
        index: position in the recipe's rounds, from 0; -1 trains the teacher from data.
        name: name of the round.
        parent: index of the round whose student is this round's teacher, -1 for the original
            teacher; None for no teacher.
        method: name of the distillation method.
        config: settings of the method, with all values.
        training: updates, batch size and optimiser.
        loss: the loss.
        targets: computation of the targets.
        init_from: index of the round whose student this round's student starts from; None for the
            round's teacher.
        start: digest of that student, see `starting_from`; None for the round's teacher.
        sampling_steps: steps in which the student is sampled for the gate and the report.
        seed: seed of the run.
        again: retry of the round; None for the first attempt.
    """

    index: int
    name: str
    parent: int | None
    method: str
    config: SerializeAsAny[MethodConfig]
    training: TrainingConfig
    loss: LossConfig = LossConfig()
    targets: TargetsConfig = TargetsConfig()
    init_from: int | None = Field(default=None, exclude_if=lambda index: index is None)
    start: str | None = Field(default=None, exclude_if=lambda digest: digest is None)
    sampling_steps: int
    seed: int
    again: Retry | None = None

    @model_validator(mode="before")
    @classmethod
    def _settings_are_of_the_method(cls, tree: Any) -> Any:
        return with_method_settings(tree)

    @property
    def w(self) -> WDistribution | None:
        """Distribution of the guidance weight; None for a network without a w input."""
        return self.config.w

    @property
    def grid(self) -> Grid | None:
        """The student's sampling grid; None for a student without a fixed step count."""
        return self.config.grid

    @property
    def student_steps(self) -> int | None:
        """Step count of the student; None for any."""
        return None if self.grid is None else self.grid.steps

    @property
    def direction(self) -> Direction:
        """`decode` from noise to data, `encode` from data to noise."""
        return "decode" if self.grid is None else self.grid.direction

    @property
    def sampler(self) -> Sampling:
        """Sampler of the student."""
        return "deterministic" if self.grid is None else self.grid.sampling

    @property
    def jump(self) -> int | None:
        """Teacher steps that one student step replaces; the maximum if steps differ."""
        return self.config.jump

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
        if self.index == TEACHER_ROUND:
            return f"{ROUNDS}/teacher"
        over = f"-{self.again.kind}-{self.again.number}" if self.again else ""
        return f"{ROUNDS}/{self.index:02d}-{self.name}{over}"

    @property
    def title(self) -> str:
        """Title of the round, for messages."""
        if self.index == TEACHER_ROUND:
            return "teacher"
        over = f", {self.again.kind} {self.again.number}" if self.again else ""
        return f"round {self.index}: {self.config.summary}{over}"

    @property
    def new_w_range(self) -> tuple[float, float] | None:
        """Range of w that the student is conditioned on from the start; None if its teacher is."""
        if self.parent != TEACHER_ROUND or self.w is None or self.init_from is not None:
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

    def attempt(self, again: Retry | None, updates: int) -> "RoundPlan":
        """Return the plan of an attempt at this round."""
        training = self.training.model_copy(update={"updates": updates})
        return self.model_copy(update={"again": again, "training": training})

    @property
    def targets_of(self) -> "RoundPlan":
        """The plan whose targets the round uses; a retry reuses those of the first attempt.

        Targets do not depend on the student's first weights.
        """
        plan = self.model_copy(update={"init_from": None, "start": None})
        is_retried = plan.again is not None and plan.again.kind == "retried"
        return plan.model_copy(update={"again": None}) if is_retried else plan

    @property
    def initial_student(self) -> str | None:
        """Digest of the student whose weights this attempt starts from; None for its teacher's."""
        return self.again.start if self.again and self.again.start else self.start

    def starting_from(self, student: Artifact | None) -> "RoundPlan":
        """Return the plan with the student of round `init_from`; None for the teacher's weights."""
        return self.model_copy(update={"start": student.digest if student else None})

    def passes(self, num_samples: int) -> int:
        """Return the passes over the data in which enough targets are pregenerated."""
        drawn = self.training.updates * self.training.batch_size
        return max(1, math.ceil(drawn / (self.targets.draws_per_tuple * num_samples)))

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
