"""The rounds of a recipe: `rounds`, and `guidance`, `halving`, `encoding` as their short form."""

import difflib
import itertools
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    WithJsonSchema,
    model_validator,
)

from pipeline.config.distributions import Share, TimeDistribution, WDistribution
from pipeline.config.methods import (
    GuidanceConfig,
    MethodConfig,
    ProgressiveConfig,
    read_method_config,
)
from pipeline.diffusion.grid import Direction, Sampling
from pipeline.documents import Document
from pipeline.errors import ConfigError

ORIGINAL = "original"
"""The run's first teacher, as teacher of a round."""

PREVIOUS = "previous"
"""The student of the previous round, as teacher of a round; in the first round, the original."""

OWN_TEACHER = "teacher"
"""The round's teacher, as the network that its student starts from."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Pattern of names that become folders: up to 64 letters, digits, `.`, `_`, `-`."""


RoundLoss = Annotated[
    Literal["snr_plus_one", "truncated_snr"],
    Field(
        description="Weight of the loss over noise levels, on the error of x: SNR + 1, or "
        "max(SNR, 1)."
    ),
]


RoundLossKind = Annotated[
    Literal["squared", "pseudo_huber"],
    Field(
        description="Loss of a sample as a function of its velocity error: `squared`, or "
        "`pseudo_huber`, which is squared below a root mean squared error of 0.03 and linear above."
    ),
]


class OptimiserConfig(Document):
    """Settings of the optimiser, Adam with decoupled weight decay, in a training run."""

    batch_size: PositiveInt = 128
    """Samples per update over all workers; a multiple of `compute.workers`."""

    learning_rate: PositiveFloat = 1e-3
    """Peak learning rate: that of the first update after the warm-up."""

    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Learning-rate schedule after the warm-up: `linear` or `cosine` to 0 at the last update,
    or `constant`."""

    warmup: NonNegativeInt = 0
    """Warm-up updates, in which the learning rate rises linearly to its peak."""

    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay rates of Adam's moving averages of the gradient and its square, each in [0, 1)."""

    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay."""

    clip_norm: PositiveFloat = 1.0
    """Maximum norm of the gradient."""

    ema_decay: Share = 0.0
    """Decay of the exponential moving average of the weights after each update, in [0, 1). The
    weights before the first update have no part in it. 0 exports the raw weights."""


class TrainingConfig(OptimiserConfig):
    """Length and optimiser settings of a training run."""

    updates: PositiveInt
    """Number of optimiser updates."""

    @model_validator(mode="after")
    def _warms_up_before_the_end(self) -> "TrainingConfig":
        if self.warmup >= self.updates:
            raise ValueError(
                f"warmup: {self.warmup} of {self.updates} updates; use fewer than updates"
            )
        return self


class LossConfig(Document):
    """The loss of a round."""

    kind: RoundLossKind = "pseudo_huber"

    weight: Literal["snr_plus_one", "truncated_snr", "snr"] = "truncated_snr"
    """Weight of the loss over noise levels, on the error of x: SNR + 1, or max(SNR, 1). `snr` is
    for teachers only: it is zero at pure noise, where students start."""


class TargetsConfig(Document):
    """How training targets are computed."""

    mode: Literal["pregenerated", "online"] = "pregenerated"
    """`pregenerated`: before each round, to disk. `online`: during training, with the teacher in
    memory beside the student."""

    draws_per_tuple: PositiveFloat = 2.0
    """Average number of times that a pregenerated target is used in training."""

    dtype: Literal["float32", "float16"] = "float32"
    """Data type of pregenerated targets on disk."""


class RoundConfig(Document):
    """One round of distillation: a teacher becomes a student."""

    name: str | None = Field(default=None, pattern=NAME)
    """Name of the round; later rounds use it to select its student as teacher. Default: from the
    method, such as `guidance` or `16-to-8`."""

    method: str
    """Distillation method: `guidance`, `progressive`, or one of another package."""

    teacher: str = PREVIOUS
    """Teacher: `previous` for the student of the previous round, `original` for the run's teacher,
    or the name of an earlier round."""

    init_from: str = Field(default=OWN_TEACHER, exclude_if=lambda name: name == OWN_TEACHER)
    """Network whose weights the student starts from: `teacher`, `previous` for the student of the
    previous round, or the name of an earlier round."""

    config: Annotated[SerializeAsAny[MethodConfig], WithJsonSchema({"type": "object"})] = Field(
        default_factory=MethodConfig
    )
    """Settings of the method, with keys of its own."""

    training: TrainingConfig
    """Length and optimiser of the round."""

    loss: LossConfig = LossConfig()
    """The loss."""

    targets: TargetsConfig | None = None
    """Computation of training targets. Default: the recipe's `targets`."""

    sampling_steps: PositiveInt | None = None
    """Sampling steps, in gate and report, of a student without a fixed step count.
    Default: the largest number that a later round folds, else `teacher.reference_steps`."""

    @model_validator(mode="before")
    @classmethod
    def _settings_are_of_the_method(cls, tree: Any) -> Any:
        return with_method_settings(tree)

    @model_validator(mode="after")
    def _trains_a_student(self) -> "RoundConfig":
        if self.method == "denoising":
            raise ValueError("method: denoising trains a teacher; use the section teacher.train")
        if self.loss.weight == "snr":
            raise ValueError("loss.weight: snr is zero at pure noise, where students start")
        return self


def resolve(
    rounds: Sequence[RoundConfig],
    targets: TargetsConfig,
    reference_steps: int,
    teacher_w: WDistribution | None = None,
) -> tuple[RoundConfig, ...]:
    """Return rounds with names, teachers, targets and all settings that come from a teacher.

    Args:
        rounds: the rounds of a recipe, in order.
        targets: targets of rounds without their own.
        reference_steps: sampling steps of a student without a fixed step count, if no later
            round folds its steps.
        teacher_w: guidance weights that the original teacher takes as an input; None if it does
            not.

    Raises:
        ValueError: a name is taken, a teacher does not exist or comes later, or the settings do not
            fit the teacher.
    """
    done: dict[str, RoundConfig] = {}
    for index, each in enumerate(rounds):
        name = each.teacher
        if name == PREVIOUS:
            name = next(reversed(done), ORIGINAL)
        if name not in (ORIGINAL, *done):
            reason = _why_no_teacher(name, [ORIGINAL, PREVIOUS, *done], rounds[index:])
            raise ValueError(f"rounds.{index}.teacher: {name!r} {reason}")
        start = _start_of(each, index, name, done)
        own = each.targets or TargetsConfig(
            **{key: getattr(targets, key) for key in TargetsConfig.model_fields}
        )
        if not each.config.pregenerable:
            own = own.model_copy(update={"mode": "online"})
        teacher = done[name].config if name in done else None
        config = each.config
        is_encoder = config.grid is not None and config.grid.direction == "encode"
        is_given = name == ORIGINAL and not is_encoder
        if config.w is None and (start != OWN_TEACHER or is_given):
            w = done[start].config.w if start != OWN_TEACHER else teacher_w
            config = config.model_copy(update={"w": w})
        try:
            config = config.resolved(teacher, online=own.mode == "online")
        except ConfigError as error:
            raise ValueError(f"rounds.{index}.config.{error}") from None
        own_name = each.name or config.label
        if own_name in (ORIGINAL, PREVIOUS, OWN_TEACHER, *done):
            raise ValueError(f"rounds.{index}.name: {own_name!r} is taken; use another name")
        resolved = {"name": own_name, "teacher": name, "init_from": start}
        done[own_name] = each.model_copy(update={**resolved, "targets": own, "config": config})
    return tuple(_sampled(each, done.values(), reference_steps) for each in done.values())


def _start_of(each: RoundConfig, index: int, teacher: str, done: dict[str, RoundConfig]) -> str:
    """Return the round whose student a round starts from, or `OWN_TEACHER`."""
    start = each.init_from
    if start == PREVIOUS:
        start = next(reversed(done), OWN_TEACHER)
    if start in (teacher, OWN_TEACHER):
        return OWN_TEACHER
    if start not in done:
        close = difflib.get_close_matches(start, [OWN_TEACHER, PREVIOUS, *done], n=1)
        advice = f"did you mean {close[0]!r}?" if close else f"use {OWN_TEACHER}, or {PREVIOUS}"
        raise ValueError(f"rounds.{index}.init_from: {start!r} is not an earlier round; {advice}")
    return start


def _why_no_teacher(name: str, known: Sequence[str], later: Iterable[RoundConfig]) -> str:
    if any(each.name == name for each in later):
        return "is not an earlier round; move it before this one"
    close = difflib.get_close_matches(name, known, n=1)
    advice = f"did you mean {close[0]!r}?" if close else f"use {', '.join(known)}"
    return f"does not exist; {advice}"


def _sampled(each: RoundConfig, rounds: Iterable[RoundConfig], reference_steps: int) -> RoundConfig:
    """Set the number of steps in which the student is sampled."""
    if each.config.grid is not None:
        return each.model_copy(update={"sampling_steps": each.config.grid.steps})
    grids = [other.config.teacher_grid for other in rounds if other.teacher == each.name]
    steps = max((grid.steps for grid in grids if grid), default=reference_steps)
    return each.model_copy(update={"sampling_steps": each.sampling_steps or steps})


def with_method_settings(tree: Any) -> Any:
    """Validate the key `config` of a round by the type that belongs to its key `method`.

    Raises:
        ValueError: no such method, or the settings are not valid.
    """
    if not isinstance(tree, dict) or isinstance(tree.get("config"), MethodConfig):
        return tree
    method = tree.get("method")
    if not isinstance(method, str):  # reported as the problem of this key
        return {**tree, "config": MethodConfig()}
    try:
        return {**tree, "config": read_method_config(method, tree.get("config") or {})}
    except ConfigError as error:
        raise ValueError(str(error)) from None


class RoundTraining(TrainingConfig):
    """Training settings of a distillation round."""

    loss_kind: RoundLossKind = "pseudo_huber"

    loss_weight: RoundLoss = "truncated_snr"


class GuidanceRound(RoundTraining):
    """Round 0, stage 1 of the paper: distil classifier-free guidance into one evaluation.

    The student is w-conditioned and works with any number of steps.
    """

    w: WDistribution = WDistribution()
    """Distribution of the guidance weight."""

    time: TimeDistribution = TimeDistribution()
    """Distribution of the time."""

    on_policy_fraction: Share = 0.0
    """Fraction of training samples that are states of sampling trajectories at the sample's own w
    instead of noised data, in [0, 1). They are sampled with the current student if `targets.mode`
    is online, else with the guided teacher."""

    prediction: Literal["keep", "v"] = "v"
    """Prediction type of the student of an epsilon teacher: `v`, which is also defined at pure
    noise, or `keep` epsilon. No effect for other teachers."""

    conversion_updates: NonNegativeInt = 0
    """Updates in addition to `updates` to convert an epsilon teacher to v. Required with an epsilon
    teacher and `prediction: v`; ignored otherwise."""

    def expand(self, *, converts: bool, steps: int) -> RoundConfig:
        """Return the round.

        Args:
            converts: whether the student of an epsilon teacher predicts v.
            steps: DDIM steps in which the student is sampled.
        """
        updates = self.updates + (self.conversion_updates if converts else 0)
        return RoundConfig(
            name=GuidanceConfig.name,
            method=GuidanceConfig.name,
            teacher=ORIGINAL,
            config=GuidanceConfig(
                w=self.w,
                time=self.time,
                to_v=converts,
                on_policy_fraction=self.on_policy_fraction,
            ),
            training=_training(self, updates),
            loss=LossConfig(kind=self.loss_kind, weight=self.loss_weight),
            sampling_steps=steps,
        )


class Halving(OptimiserConfig):
    """Rounds of stage 2: each arrow of `steps` is a round that reduces the number of steps."""

    steps: tuple[PositiveInt, ...]
    """Step counts, such as [8, 4, 2, 1]: each divides the previous one. The first is the stage-1
    student's, sampled by DDIM."""

    first_substeps: PositiveInt = 1
    """DDIM steps per step of the first teacher. Larger values make the targets of the first round
    more accurate, at the cost of teacher evaluations in that round."""

    updates: PositiveInt | tuple[PositiveInt, ...]
    """Optimiser updates: one number for all rounds, or a list with one per arrow of `steps`."""

    loss_kind: RoundLossKind = "pseudo_huber"

    loss_weight: RoundLoss = "truncated_snr"

    teacher: Literal["previous", "original"] = Field(
        default="previous", exclude_if=lambda name: name == PREVIOUS
    )
    """Teacher of each round: `previous` for the student of the previous round, or `original` for
    the run's guided teacher. From the original, errors do not add up over the rounds, but each
    target takes all steps of the first teacher, with two evaluations each; students still start
    from the previous round's student."""

    sampler: Literal["deterministic", "stochastic", "both"] = "deterministic"
    """Sampler of the students. A `stochastic` student takes steps of double length and adds noise
    back after each. `both` trains a ladder of each kind."""

    on_policy_fraction: Share = 0.0
    """Fraction of training samples that are states of the student's own sampling instead of noised
    data, in [0, 1). They are sampled with the current student if `targets.mode` is online, else
    with its teacher."""

    @model_validator(mode="after")
    def _steps_halve(self) -> "Halving":
        if len(self.steps) < 2:
            raise ValueError("steps: give at least two entries, such as [4, 2, 1]")
        for teacher, student in zip(self.steps[:-1], self.steps[1:], strict=True):
            factor, rest = divmod(teacher, student)
            if rest or factor < 2:
                raise ValueError(
                    f"steps cannot go from {teacher} to {student}: each entry must be half (or a "
                    f"third, a quarter, ...) of the previous one; use {_halvings(teacher)}"
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

    def expand(
        self, guidance: RoundConfig | None, sampler: Sampling, direction: Direction = "decode"
    ) -> tuple[RoundConfig, ...]:
        """Return the rounds of one chain, which starts from the student of `guidance`.

        Without that round it starts from the original teacher, which takes w.
        """
        rounds: list[RoundConfig] = []
        is_original = self.teacher == ORIGINAL
        for arrow, (teacher, student) in enumerate(itertools.pairwise(self.steps)):
            updates = self.updates[arrow] if isinstance(self.updates, tuple) else self.updates
            takes_any_steps = is_original or not rounds
            config = ProgressiveConfig(
                steps=student,
                teacher_steps=self.steps[0] if is_original else teacher,
                substeps=self.first_substeps if takes_any_steps else 1,
                direction=direction,
                sampler=sampler,
                # a teacher of any time contains every jump of a deterministic grid
                teacher_sampler="deterministic" if takes_any_steps else sampler,
                # a one-step student starts from noise and has no states of its own
                on_policy_fraction=self.on_policy_fraction if student > 1 else 0.0,
            )
            before = rounds[-1] if rounds else guidance
            previous = (before.name or PREVIOUS) if before else None
            rounds.append(
                RoundConfig(
                    name=config.label,
                    method=config.name,
                    teacher=ORIGINAL if is_original or previous is None else previous,
                    init_from=previous if is_original and previous else OWN_TEACHER,
                    config=config,
                    training=_training(self, updates),
                    loss=LossConfig(kind=self.loss_kind, weight=self.loss_weight),
                )
            )
        return tuple(rounds)


def _training(settings: OptimiserConfig, updates: int) -> TrainingConfig:
    values = {key: getattr(settings, key) for key in OptimiserConfig.model_fields}
    return TrainingConfig(**values, updates=updates)


def _halvings(steps: int) -> str:
    """Return step counts from `steps` to 1, each divided by its smallest prime factor."""
    ladder = [steps]
    while ladder[-1] > 1:
        last = ladder[-1]
        ladder.append(last // next(factor for factor in range(2, last + 1) if last % factor == 0))
    return str(ladder)


class Encoding(Halving):
    """Encoder rounds: a ladder of students that map data to noise, one round per arrow of `steps`.

    The chain starts from the stage-1 student. Encoders are trained at w = 0; the noise is decoded
    by a deterministic student with the same number of steps, at any w.

    Source: Meng et al. 2022, arXiv:2210.03142, progressive distillation for encoding.
    """

    @model_validator(mode="after")
    def _is_plain(self) -> "Encoding":
        if self.sampler != "deterministic" or self.on_policy_fraction:
            raise ValueError("sampler and on_policy_fraction do not apply to encoders; remove them")
        return self
