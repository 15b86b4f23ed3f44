"""The profile: where to run a recipe. Types only, no torch and no ray."""

import os
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from pipeline.documents import Document
from pipeline.errors import ConfigError
from pipeline.redaction import has_password

_FROM_ENVIRONMENT = "env:"


class ComputeConfig(Document):
    """The workers and where they run. `ray_address: local` starts a Ray cluster here, on loopback.

    `launcher: inline` runs everything in the driver's process, as its one worker, without Ray: for
    debugging. No worker is replaced then, and the keys about Ray, restarts and timeouts have no
    effect.

    A worker that dies, or does not answer for `hang_timeout_s`, is replaced; `max_restarts` times
    without progress, since what happens again and again has a cause that goes on. Workers are
    waited for `start_timeout_s` each time; a cluster that starts machines first may need more.
    """

    launcher: Literal["ray", "inline"] = "ray"
    ray_address: str = "local"
    workers: PositiveInt = 2
    cpus_per_worker: PositiveInt = 1
    gpus_per_worker: NonNegativeInt = 0
    max_restarts: NonNegativeInt = 2
    hang_timeout_s: PositiveInt = 45
    start_timeout_s: PositiveInt = 120

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
    """How a round trains: DeepSpeed ZeRO stage, precision of the network, checkpoints.

    Masters, optimiser state, targets and the schedule are float32 or wider whatever `precision`.
    `gradient_checkpointing` computes activations twice and keeps few of them: a third more time for
    a fraction of the memory, with the same gradients. `split_teacher` divides the frozen teacher of
    online targets over the workers, too, as `zero_stage: 3` does with the student.
    """

    zero_stage: Literal[0, 1, 2, 3] = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    split_teacher: bool = False
    checkpoint_every: PositiveInt = 200
    keep_checkpoints: PositiveInt = 2
    log_every: PositiveInt = 10


class TrackingConfig(Document):
    """The MLflow store; without `uri`, SQLite in a file beside the run directory.

    An address with a password is given as `env:NAME`, the variable that holds it: a profile is
    copied to Prefect and into reports, and nobody keeps a secret that is copied.

    After every round `pictures` samples are drawn at each of three guidance weights, 0 for none.
    """

    uri: str | None = None
    experiment: str = "stepfold"
    pictures: NonNegativeInt = 10

    @field_validator("uri")
    @classmethod
    def _holds_no_password(cls, uri: str | None) -> str | None:
        if uri is not None and has_password(uri):
            raise ValueError(
                "an address with a password does not belong in a profile; put it into a variable "
                "of the environment and write env:NAME"
            )
        return uri

    @property
    def address(self) -> str | None:
        """The address itself, looked up in the environment where `uri` says so.

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
    """Where run directories go unless --run-dir says otherwise; workers must see the same path."""

    root: str = "runs"


class NotifyConfig(Document):
    """Who is told of a failure: a notification block of Prefect's, such as `custom-webhook/us`.

    Its address and secrets are in Prefect's database, and nowhere else.
    """

    block: Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")] | None = None


class Profile(Document):
    """The machine's half of the configuration."""

    compute: ComputeConfig = ComputeConfig()
    engine: EngineConfig = EngineConfig()
    tracking: TrackingConfig = TrackingConfig()
    storage: StorageConfig = StorageConfig()
    notify: NotifyConfig = NotifyConfig()

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
