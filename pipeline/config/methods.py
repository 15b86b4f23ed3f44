"""Settings of the distillation methods in a round: step counts, samplers and distributions.

The settings of a method of another package, or of a new file in `pipeline.methods`, are found by
the method's name. Those of the built-in methods are defined here, so that a recipe is planned
without torch.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from pipeline.config.distributions import UNIFORM, Share, TimeDistribution, WDistribution
from pipeline.diffusion.grid import Direction, Grid, Sampling, steps_folded
from pipeline.documents import Document, build
from pipeline.errors import ConfigError
from pipeline.registry import Registry

PredictionName = Literal["epsilon", "sample", "v_prediction", "flow_prediction"]

OnPolicySource = Literal["teacher", "student"]
"""Network that on-policy states are sampled with: the student in training, or its teacher."""


ON_POLICY_STEPS = 16
"""DDIM steps from noise to data of the trajectories that on-policy states of stage 1 lie on."""

_UNGUIDED = WDistribution(min=0, max=0, mass_at_min=0)
"""Guidance weight of encoders: guidance would move latents away from the given images."""


class MethodConfig(Document):
    """Settings of a method in a round; a method declares its own as a subclass with its name.

    A value that a round takes from its teacher when the recipe does not give it is None in the
    recipe, and set by `resolved` in the round's plan.
    """

    name: ClassVar[str]
    pregenerable: ClassVar[bool] = True
    """Whether targets need the teacher alone, so that they can be computed before training."""

    w: WDistribution | None = None
    """Distribution of the guidance weight. Default: that of the teacher."""

    def resolved(self, teacher: "MethodConfig | None", *, online: bool) -> "MethodConfig":  # noqa: ARG002 (for overriding methods)
        """Return the settings with all values, for a round with this teacher.

        Args:
            teacher: settings of the round whose student is the teacher; None for the run's
                original teacher.
            online: whether targets are computed during training.

        Raises:
            ConfigError: the settings do not fit the teacher.
        """
        if self.w is not None or teacher is None:
            return self
        return self.model_copy(update={"w": teacher.w})

    @property
    def label(self) -> str:
        """Short name of a round with these settings, for folders: `guidance`, `16-to-8`."""
        return self.name

    @property
    def summary(self) -> str:
        """Description of a round with these settings, for messages: `16 -> 8 steps`."""
        return self.name

    @property
    def grid(self) -> Grid | None:
        """The student's sampling grid; None for a student that works with any number of steps."""
        return None

    @property
    def teacher_grid(self) -> Grid | None:
        """The teacher's sampling grid; None if the teacher is evaluated at any time."""
        return None

    @property
    def jump(self) -> int | None:
        """Teacher steps that one student step replaces; None if the teacher takes none."""
        return None

    @property
    def evaluations_per_target(self) -> float:
        """Teacher calls per target, including those for states that it samples."""
        return 1.0

    @property
    def evaluations_per_sample(self) -> float:
        """Student evaluations per training sample, including those for states that it samples."""
        return 1.0

    @property
    def prediction(self) -> PredictionName | None:
        """Prediction type of the student; None for the teacher's."""
        return None


class DenoisingConfig(MethodConfig):
    """Training of a teacher from data."""

    name: ClassVar[str] = "denoising"
    pregenerable: ClassVar[bool] = False

    label_dropout: Share = 0.15
    """Probability that a class or caption is dropped for classifier-free guidance, in [0, 1)."""


class OnPolicyConfig(MethodConfig):
    """Settings of a method that can train on states of sampling trajectories."""

    on_policy_fraction: Share = 0.0
    """Fraction of training samples that are states of sampling trajectories instead of noised
    data, in [0, 1)."""

    on_policy_source: OnPolicySource | None = None
    """Network that samples these states. Default: `student` if targets are computed online, else
    `teacher`."""

    def _resolved_source(self, *, online: bool) -> OnPolicySource:
        by_mode: OnPolicySource = "student" if online and self.on_policy_fraction else "teacher"
        return self.on_policy_source or by_mode

    @property
    def evaluations_per_target(self) -> float:
        """Teacher calls per target, including those for states that it samples."""
        return self._calls_per_step * (1 + self._own_steps("teacher"))

    @property
    def evaluations_per_sample(self) -> float:
        """Student evaluations per training sample, including those for states that it samples."""
        return 1 + self._own_steps("student")

    def _own_steps(self, source: OnPolicySource) -> float:
        """Return the mean number of steps per sample that a network takes to on-policy states."""
        is_source = (self.on_policy_source or "teacher") == source
        return self.on_policy_fraction * self._steps_to_state if is_source else 0.0

    @property
    def _calls_per_step(self) -> int:
        """Teacher calls per target, which are those per step of its trajectories."""
        return 1

    @property
    def _steps_to_state(self) -> float:
        """Mean number of steps from noise to an on-policy state."""
        return 0.0


class GuidanceConfig(OnPolicyConfig):
    """Stage 1: one network evaluation in place of the guided teacher's two, at any time.

    Source: Meng et al. 2022, arXiv:2210.03142, section 3.1.
    """

    name: ClassVar[str] = "guidance"

    w: WDistribution | None = WDistribution()
    """Distribution of the guidance weight."""

    time: TimeDistribution = Field(default=UNIFORM, exclude_if=lambda time: time == UNIFORM)
    """Distribution of the time."""

    to_v: bool = False
    """Whether the student of an epsilon teacher predicts v, which is also defined at pure noise.
    This takes additional updates."""

    def resolved(self, teacher: MethodConfig | None, *, online: bool) -> "GuidanceConfig":
        """Return the settings with the source of on-policy states.

        Guidance is applied to the original teacher only.
        """
        if teacher is not None:
            raise ConfigError(
                "teacher: a student is guided already; a guidance round needs teacher: original"
            )
        return self.model_copy(update={"on_policy_source": self._resolved_source(online=online)})

    @property
    def _steps_to_state(self) -> float:
        """Mean number of steps from noise to an on-policy state."""
        return ON_POLICY_STEPS * (1 - self.time.expected)

    @property
    def summary(self) -> str:
        """The student replaces two evaluations by one."""
        return "guidance, any w in one evaluation"

    @property
    def prediction(self) -> PredictionName | None:
        """Prediction type v for a converted student."""
        return "v_prediction" if self.to_v else None


class ProgressiveConfig(OnPolicyConfig):
    """Stage 2: several steps of the teacher become one of the student.

    Source: Meng et al. 2022, arXiv:2210.03142, section 3.2.
    """

    name: ClassVar[str] = "progressive"

    steps: PositiveInt
    """Step count of the student."""

    teacher_steps: PositiveInt | None = None
    """Step count of the teacher, a multiple of `steps`. Default: the teacher's own; required for a
    teacher that works with any number of steps."""

    substeps: PositiveInt = 1
    """DDIM steps per step of the teacher. Values above 1 need a teacher that works with any number
    of steps."""

    direction: Direction = "decode"
    """`decode` from noise to data, `encode` from data to noise."""

    sampler: Sampling = "deterministic"
    """Sampler of the student; a `stochastic` step has double length and noise is added after it."""

    teacher_sampler: Sampling | None = None
    """Sampler of the teacher. Default: the one it was distilled for; `deterministic` for a teacher
    that works with any number of steps."""

    def resolved(self, teacher: MethodConfig | None, *, online: bool) -> "ProgressiveConfig":
        """Return the settings with steps, samplers and w of the teacher."""
        if teacher is None and self.w is None and self.direction == "decode":
            raise ConfigError(
                "w is missing; teacher: original has no range of w, so give w, or init_from: the "
                "name of an earlier round"
            )
        if self.direction == "encode" and self.w not in (None, _UNGUIDED):
            raise ConfigError("w: encoders are trained at w = 0; remove the key")
        own = teacher.grid if teacher else None
        weights = self.w or (teacher.w if teacher else None)
        steps = self.teacher_steps or (own.steps if own else None)
        self._check_steps(steps, own)
        return self.model_copy(
            update={
                "w": _UNGUIDED if self.direction == "encode" else weights,
                "teacher_steps": steps,
                "teacher_sampler": self.teacher_sampler
                or (own.sampling if own else "deterministic"),
                "on_policy_source": self._resolved_source(online=online),
            }
        )

    def _check_steps(self, teacher_steps: int | None, own: Grid | None) -> None:
        if teacher_steps is None:
            raise ConfigError(
                "teacher_steps is missing; the teacher works with any number of steps"
            )
        factor, rest = divmod(teacher_steps, self.steps)
        if rest or factor < 2:
            raise ConfigError(
                f"steps: {self.steps} from teacher_steps: {teacher_steps}; the teacher needs a "
                "multiple, at least double"
            )
        if self.on_policy_fraction and self.steps == 1:
            raise ConfigError(
                "on_policy_fraction: a one-step student has no intermediate states; remove the key"
            )
        if own is None:
            return
        if teacher_steps != own.steps or self.substeps != 1:
            raise ConfigError(
                f"teacher_steps: {teacher_steps} with substeps: {self.substeps}, but the teacher "
                f"is valid in {own.steps} steps only; remove both keys"
            )
        if self.direction != own.direction:
            raise ConfigError(
                f"direction: {self.direction}, but the teacher is valid for {own.direction} only; "
                "use the student of a guidance round as teacher"
            )
        if own.sampling == "stochastic" and self.sampler == "deterministic":
            raise ConfigError(
                "sampler: a deterministic student needs a deterministic teacher; set sampler: "
                "stochastic, or another teacher"
            )

    @property
    def label(self) -> str:
        """Steps of teacher and student, then what differs from a deterministic decoder."""
        return "-".join((f"{self.teacher_steps}-to-{self.steps}", *self.kinds))

    @property
    def summary(self) -> str:
        """Steps of teacher and student, then what differs from a deterministic decoder."""
        return ", ".join((f"{self.teacher_steps} -> {self.steps} steps", *self.kinds))

    @property
    def kinds(self) -> tuple[str, ...]:
        """Sampler and direction that differ from a deterministic decoder's."""
        ordinary = ("deterministic", "decode")
        return tuple(kind for kind in (self.sampler, self.direction) if kind not in ordinary)

    @property
    def grid(self) -> Grid:
        """The student's sampling grid."""
        return Grid(self.steps, self.direction, self.sampler)

    @property
    def teacher_grid(self) -> Grid | None:
        """The teacher's sampling grid, on which the folded steps lie; None before `resolved`."""
        if self.teacher_steps is None:
            return None
        steps = self.teacher_steps * self.substeps
        return Grid(steps, self.direction, self.teacher_sampler or "deterministic")

    @property
    def folded(self) -> int:
        """Teacher steps folded into one target; the maximum, because a batch holds all of them."""
        teacher = self.teacher_grid
        return max(steps_folded(self.grid, teacher)) if teacher else 1

    @property
    def jump(self) -> int:
        """Teacher steps, without sub-steps, that one student step replaces; the maximum."""
        return self.folded // self.substeps

    @property
    def _calls_per_step(self) -> int:
        """Teacher steps folded into one target, and into a step of its trajectories."""
        return self.folded

    @property
    def _steps_to_state(self) -> float:
        """Mean number of student steps to on-policy states."""
        return float(self.steps - 1)


METHOD_CONFIGS: Registry[MethodConfig] = Registry(
    "pipeline.methods",
    MethodConfig,
    "method",
    known=(DenoisingConfig, GuidanceConfig, ProgressiveConfig),
    entry_points="stepfold.methods",
)


def read_method_config(method: str, tree: dict[str, Any]) -> MethodConfig:
    """Validate the settings of a method.

    Raises:
        ConfigError: no such method, or the settings are not valid; one line per problem.
    """
    return build(METHOD_CONFIGS.get(method), tree, "config")
