"""The recipe's `teacher` section: the network, its noise path, and where its weights come from."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.config.training import Share, TrainingConfig
from pipeline.documents import Document


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
