"""The recipe: what to run. Types only, no torch, so that checking a recipe is instant.

Cross-checks between sections run once, here. What belongs to the machine is the profile's.
"""

import math
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.documents import Document

Share = Annotated[float, Field(ge=0, lt=1)]


class RunConfig(Document):
    """Identity of a run; `name` also names its MLflow run and its default directory."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    seed: int = Field(default=0, ge=0, lt=2**31)


class DigitsData(Document):
    """scikit-learn's 1,797 scans of handwritten digits, 8x8, one channel, ten classes."""

    source: Literal["digits"]
    holdout: Annotated[float, Field(gt=0, lt=1)] = 1 / 3
    shard_size: PositiveInt = 300


class ImageFolderData(Document):
    """A folder whose sub-folders are the classes, holding png, jpg or webp images.

    `size` is the side of the square images the network sees. `resize: refuse` accepts only images
    that already are that size; `crop` scales the short side and crops the centre.
    """

    source: Literal["image_folder"]
    path: str
    size: PositiveInt
    channels: Literal[1, 3] = 3
    resize: Literal["refuse", "crop"] = "refuse"
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.1
    shard_size: PositiveInt = 1000


class GaussianData(Document):
    """Samples of the class mixture that the Gaussian teacher knows exactly."""

    source: Literal["gaussian"]
    num_samples: PositiveInt = 2048
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.25
    shard_size: PositiveInt = 512


Data = Annotated[DigitsData | ImageFolderData | GaussianData, Field(discriminator="source")]


class UNetConfig(Document):
    """A class-conditional diffusers `UNet2DConditionModel` without attention."""

    family: Literal["unet"]
    block_channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (32, 64)
    layers_per_block: PositiveInt = 1
    norm_groups: PositiveInt = 8
    w_embedding_dim: Annotated[int, Field(ge=4, multiple_of=2)] = 64

    @model_validator(mode="after")
    def _channels_fall_into_groups(self) -> "UNetConfig":
        for count in self.block_channels:
            if count % self.norm_groups:
                raise ValueError(f"block_channels {count}: use multiples of {self.norm_groups}")
        return self


class GaussianConfig(Document):
    """Classes N(means[c], std^2 I): every denoiser of it has a closed form.

    `null: mixture` is the true unconditional denoiser of the class mixture. `null: moments` puts
    one Gaussian of the same mean and mean variance in its place, which makes every map affine in
    z_t, so that a student of tables can be exact.
    """

    family: Literal["gaussian"]
    means: tuple[tuple[float, ...], ...]
    std: PositiveFloat = 0.5
    null: Literal["mixture", "moments"] = "moments"
    w_nodes: PositiveInt = 5

    @model_validator(mode="after")
    def _means_are_a_table(self) -> "GaussianConfig":
        if not self.means or not self.means[0] or len({len(mean) for mean in self.means}) != 1:
            raise ValueError("means must be one or more lists of equally many numbers")
        return self


Network = Annotated[UNetConfig | GaussianConfig, Field(discriminator="family")]


class ScheduleConfig(Document):
    """The noise path. Own schedules use T = 1024, so that every halving grid falls on integers."""

    kind: Literal["cosine", "scaled_linear", "rectified_flow"] = "cosine"
    num_train_timesteps: PositiveInt = 1024


class TrainingConfig(Document):
    """How long and how fast one round trains. The learning rate is annealed linearly to 0."""

    updates: PositiveInt
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 1e-3
    clip_norm: PositiveFloat = 1.0


class TeacherTraining(TrainingConfig):
    """How the demo's own teacher is trained; real teachers come as bundles."""

    ema_decay: Share = 0.998
    label_dropout: Share = 0.15


class TeacherConfig(Document):
    """Where the guided teacher comes from, and how it is sampled for reference.

    Either `bundle` names a directory, or `train` says how to train one. A Gaussian needs neither.
    """

    network: Network
    schedule: ScheduleConfig = ScheduleConfig()
    prediction: Literal["epsilon", "sample", "v_prediction", "flow_prediction"] = "v_prediction"
    bundle: str | None = None
    train: TeacherTraining | None = None
    reference_steps: PositiveInt = 64

    @model_validator(mode="after")
    def _has_one_origin(self) -> "TeacherConfig":
        origins = (self.bundle is not None) + (self.train is not None)
        if self.network.family == "gaussian" and origins:
            raise ValueError("a gaussian teacher is its closed form; drop `train` and `bundle`")
        path = (self.schedule.kind, self.prediction)
        if self.network.family == "gaussian" and path != ("cosine", "v_prediction"):
            raise ValueError(
                f"a gaussian teacher is cosine and v_prediction, not {path}; drop them"
            )
        if self.network.family != "gaussian" and origins != 1:
            raise ValueError("give either `bundle: DIRECTORY` or `train: {updates: ...}`")
        flow = self.schedule.kind == "rectified_flow"
        if flow != (self.prediction == "flow_prediction") or path == ("cosine", "epsilon"):
            raise ValueError(
                f"prediction {self.prediction} does not fit schedule {self.schedule.kind}: "
                "flow_prediction goes with rectified_flow, the others with the rest, and epsilon "
                "says nothing of x at the pure noise that cosine ends in"
            )
        return self


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
    """Round 0, the paper's stage 1: one student for every w of the range."""

    w: GuidanceWeights = GuidanceWeights()
    ema_decay: Share = 0.0


class Halving(Document):
    """The stage-2 rounds: each arrow of `steps` is a round.

    `updates` is one number for all rounds or a list with one number a round.
    """

    steps: tuple[PositiveInt, ...]
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


class TargetsConfig(Document):
    """How targets reach training.

    `pregenerated` computes `draws_per_tuple`-fold reused pools of targets ahead of time, `online`
    computes each target inside the training loop. `keep` says which rounds' pools stay on disk.
    """

    mode: Literal["pregenerated", "online"] = "pregenerated"
    draws_per_tuple: PositiveFloat = 2.0
    dtype: Literal["float32", "float16"] = "float32"
    keep: Literal["none", "last", "all"] = "last"


class EvaluationConfig(Document):
    """What is sampled and compared when the students are done."""

    num_samples: PositiveInt = 500
    w: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2, 4)
    baseline_steps: tuple[PositiveInt, ...] = (1, 2, 4, 8)
    seed: int = Field(default=1234, ge=0, lt=2**31)


class Recipe(Document):
    """Everything that determines the result of a run, but for the profile's precision."""

    run: RunConfig
    data: Data
    teacher: TeacherConfig
    guidance: GuidanceRound
    halving: Halving
    targets: TargetsConfig = TargetsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _sections_agree(self) -> "Recipe":
        if (self.data.source == "gaussian") != (self.teacher.network.family == "gaussian"):
            raise ValueError("data source gaussian and family gaussian go together, or not at all")
        law = self.guidance.w
        outside = [w for w in self.evaluation.w if not law.min <= w <= law.max]
        if outside:
            raise ValueError(
                f"evaluation.w asks for {outside} outside guidance.w [{law.min}, {law.max}]; "
                "widen one or narrow the other"
            )
        self._grids_fall_on_timesteps()
        return self

    def _grids_fall_on_timesteps(self) -> None:
        total = self.teacher.schedule.num_train_timesteps
        counts = {
            "halving.steps": self.halving.steps,
            "teacher.reference_steps": (self.teacher.reference_steps,),
            "evaluation.baseline_steps": self.evaluation.baseline_steps,
        }
        for key, count in ((key, count) for key, values in counts.items() for count in values):
            if total % count:
                raise ValueError(
                    f"{key}: {count} steps do not divide the schedule's {total} timesteps, so "
                    "its grid falls between them; use a divisor"
                )

    def passes(self, training: TrainingConfig, num_samples: int) -> int:
        """How often pre-generation goes over the data so that no tuple is drawn too often."""
        drawn = training.updates * training.batch_size
        return max(1, math.ceil(drawn / (self.targets.draws_per_tuple * num_samples)))
