"""The profile: where to run a recipe. Types only, no torch and no ray."""

import os
from importlib import resources
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from pipeline.documents import Document
from pipeline.errors import ConfigError
from pipeline.redaction import has_password
from pipeline.registry import Registry

_FROM_ENVIRONMENT = "env:"


class ComputeConfig(Document):
    """Workers: how many, what each gets, and how they are started."""

    launcher: Literal["ray", "inline"] = "ray"
    """`ray` runs workers as Ray processes. `inline` runs everything in the driver's process as one
    worker, for debugging: no worker is replaced, and the keys about Ray, restarts and timeouts have
    no effect."""

    ray_address: str = "local"
    """Address of a Ray cluster, such as `ray://head:10001`; `local` starts one on this machine,
    bound to loopback."""

    workers: PositiveInt = 2
    """Number of workers. Batch sizes must be multiples of it. 1 with `launcher: inline`."""

    cpus_per_worker: PositiveInt = 1
    """CPU cores per worker, and threads of its tensor operations."""

    gpus_per_worker: NonNegativeInt = 0
    """GPUs per worker: 0 or 1."""

    max_restarts: NonNegativeInt = 2
    """How often workers that died or hung are replaced without progress in between, before the
    stage fails."""

    hang_timeout_s: PositiveInt = 45
    """Seconds without a heartbeat after which a worker counts as hung and is replaced."""

    start_timeout_s: PositiveInt = 120
    """Seconds to wait for workers to start, each time; raise it for a cluster that has to start
    machines first."""

    @model_validator(mode="after")
    def _inline_is_one_worker(self) -> "ComputeConfig":
        if self.launcher == "inline" and self.workers != 1:
            raise ValueError(
                f"workers: {self.workers}, but launcher: inline runs in one process; set "
                "compute.workers: 1 or compute.launcher: ray"
            )
        return self

    @property
    def is_local(self) -> bool:
        """Whether all work is done on this machine."""
        return self.launcher == "inline" or self.ray_address == "local"


class EngineConfig(Document):
    """How a round trains: DeepSpeed, precision and checkpoints.

    Master weights, optimiser state, targets and the schedule are float32 or wider at any
    `precision`.
    """

    zero_stage: Literal[0, 1, 2, 3] = 1
    """DeepSpeed ZeRO stage: 1 shards optimiser state over the workers, 2 gradients too, 3 weights
    too."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the network's forward and backward pass."""

    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: about a third more time for a fraction of their
    memory, with the same gradients."""

    split_teacher: bool = False
    """Shard the frozen teacher of online targets over the workers, as `zero_stage: 3` does with
    the student. Needs `targets.mode: online`."""

    checkpoint_every: PositiveInt = 200
    """Updates between two checkpoints of a round."""

    keep_checkpoints: PositiveInt = 2
    """Number of checkpoints of a round to keep."""

    log_every: PositiveInt = 10
    """Updates between two lines of training metrics."""


class TrackerProperties:
    """Properties of a kind of tracker that a profile uses."""

    name: ClassVar[str]

    title: ClassVar[str]
    """Display name."""


TRACKER_PROPERTIES: Registry[TrackerProperties] = Registry(
    "infra.trackers", TrackerProperties, "tracker", entry_points="stepfold.trackers"
)

_TRACKER_TITLES = {"mlflow": "MLflow", "tensorboard": "TensorBoard", "none": "none"}
"""The shipped kinds of tracker and their display names."""


def _check_tracker(kind: str) -> str:
    try:
        return kind if kind in _TRACKER_TITLES else TRACKER_PROPERTIES.get(kind).name
    except ConfigError as error:
        raise ValueError(str(error)) from None


class TrackingConfig(Document):
    """Experiment tracking with MLflow or TensorBoard."""

    kind: Annotated[
        str,
        AfterValidator(_check_tracker),
        WithJsonSchema({"enum": [*_TRACKER_TITLES], "type": "string"}),
    ] = "mlflow"
    """Tracker. `tensorboard` needs the extra `stepfold[tensorboard]`; it has no model registry and
    stores no files. `none` records nothing; metrics stay in the run directory."""

    uri: str | None = None
    """Address of the MLflow server or store, or TensorBoard's folder. Default: an SQLite file or
    the folder `tensorboard-logs` beside the run directory. Write an address with a password as
    `env:NAME`, the environment variable that holds it: the profile is copied to Prefect and into
    reports."""

    experiment: str = "stepfold"
    """Name of the MLflow experiment."""

    pictures: NonNegativeInt = 10
    """Preview samples per guidance weight (the smallest, the middle and the largest of
    `evaluation.w`) after every round; 0 for none."""

    @field_validator("uri")
    @classmethod
    def _holds_no_password(cls, uri: str | None) -> str | None:
        if uri is not None and has_password(uri):
            raise ValueError(
                "the address holds a password; store it in an environment variable and write "
                "uri: env:NAME"
            )
        return uri

    @model_validator(mode="after")
    def _tensorboard_has_a_folder(self) -> "TrackingConfig":
        if self.kind == "tensorboard" and self.uri is not None and "://" in self.uri:
            raise ValueError(
                f"uri: {self.uri} is an address, but kind: tensorboard needs a folder; give one"
            )
        return self

    @property
    def title(self) -> str:
        """Name of the tracker."""
        title = _TRACKER_TITLES.get(self.kind)
        return TRACKER_PROPERTIES.get(self.kind).title if title is None else title

    @property
    def address(self) -> str | None:
        """The address, read from the environment for `env:NAME`.

        Raises:
            ConfigError: the variable is not set.
        """
        if self.uri is None or not self.uri.startswith(_FROM_ENVIRONMENT):
            return self.uri
        name = self.uri.removeprefix(_FROM_ENVIRONMENT)
        found = os.environ.get(name)
        if not found:
            raise ConfigError(f"tracking.uri: {self.uri}, but {name} is not set; export it")
        return found


class StorageConfig(Document):
    """Where runs are stored."""

    root: str = "runs"
    """Parent folder of run directories, unless `--run-dir` names one; every worker must see the
    same path."""


class NotifyConfig(Document):
    """Failure notifications."""

    block: Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")] | None = None
    """Prefect notification block, such as `custom-webhook/ops`. Its address and secrets are stored
    in Prefect's database only."""


class Profile(Document):
    """The profile: where to run a recipe."""

    compute: ComputeConfig = ComputeConfig()
    """Workers."""

    engine: EngineConfig = EngineConfig()
    """Training engine."""

    tracking: TrackingConfig = TrackingConfig()
    """Experiment tracking."""

    storage: StorageConfig = StorageConfig()
    """Where runs are stored."""

    notify: NotifyConfig = NotifyConfig()
    """Failure notifications."""

    @model_validator(mode="after")
    def _bfloat16_has_masters(self) -> "Profile":
        if self.engine.precision == "bfloat16" and self.engine.zero_stage == 0:
            raise ValueError(
                "engine: bfloat16 with zero_stage 0 loses 10x more precision than stage 1 in "
                "DeepSpeed; use zero_stage 1"
            )
        return self


def layout_of(zero_stage: int, workers: int) -> str:
    """How training state is divided; a checkpoint loads only into the layout it was saved from."""
    return f"ZeRO {zero_stage} on {workers} worker(s)"


def default_profile() -> Path:
    """The laptop profile that ships with the package."""
    return Path(str(resources.files("infra"))) / "profiles" / "laptop.yaml"
