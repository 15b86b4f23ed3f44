"""The experiment tracker of a profile: MLflow, TensorBoard or none, and its pages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra import tensorboard
from infra.mlflow import tracker as mlflow
from pipeline.config.profile import TrackingConfig
from pipeline.errors import ConfigError, InfraError
from pipeline.tracking import RunTracker
from pipeline.wording import format_path

UI_PORT = 5000


def tracker_of(config: TrackingConfig, run_root: Path) -> RunTracker:
    """Open the tracker of a profile.

    Args:
        config: the section `tracking`.
        run_root: directory of the run directories; without `tracking.uri` the tracker is in it.

    Raises:
        ConfigError: a package that it needs is not installed.
        InfraError: MLflow is unreachable.
    """
    if config.kind == "none":
        return NoTracker()
    if config.kind == "tensorboard":
        return tensorboard.TensorBoardTracker(config.address, run_root)
    return mlflow.MlflowTracker(config.address, run_root, config.experiment)


class NoTracker(RunTracker):
    """The tracker of `tracking.kind: none`, which records nothing."""

    def start(self, key: str, *_: object, **__: object) -> str:
        """Return the key."""
        return key

    def last_step(self, *_: object) -> int:
        """Return -1: there are no points."""
        return -1

    def end_stale_runs(self, *_: object) -> int:
        """Return 0."""
        return 0

    def _do_nothing(self, *_: object, **__: object) -> None:
        return

    log = log_image = log_files = log_inputs = log_tags = describe = _do_nothing
    register = set_alias = finish = url = _do_nothing


def check_tracking(config: TrackingConfig) -> None:
    """Check that the packages of the tracker are installed.

    Raises:
        ConfigError: one is not.
    """
    if config.kind == "tensorboard":
        tensorboard.check_installed()


def has_history(config: TrackingConfig, run_root: Path) -> bool:
    """Whether anything may be recorded: a local tracker has files only after a run."""
    if config.kind == "tensorboard":
        return tensorboard.log_folder(config.address, run_root).is_dir()
    return config.kind == "mlflow" and (
        config.uri is not None or (run_root / "mlflow.db").is_file()
    )


def charts_url(config: TrackingConfig, run_dir: Path, port: int = UI_PORT) -> str | None:
    """Return the address of the charts of a run's rounds; None without a tracker.

    Unless the profile names an MLflow server, it works while `stepfold ui` runs.
    """
    try:
        return tracker_of(config, run_dir.parent).url(str(run_dir), port)
    except InfraError:
        return mlflow.ui_address(config.address, port)


@dataclass(frozen=True)
class UiServer:
    """How to serve the pages of a tracker.

    Attributes:
        command: command and arguments.
        health: path that responds when the pages are up.
        environment: variables for the process.
    """

    command: list[str]
    health: str
    environment: Mapping[str, str] = field(default_factory=dict)


def ui_server(config: TrackingConfig, run_root: Path, port: int) -> UiServer:
    """Return how to serve the pages of all runs, on loopback only.

    Raises:
        ConfigError: nothing is recorded.
    """
    check_tracking(config)
    if config.kind == "none":
        raise ConfigError("tracking.kind: none, so there are no pages; give a --profile with one")
    if not has_history(config, run_root):
        raise ConfigError(
            f"{format_path(run_root)} has no {config.title} history; start a run, or give the "
            "directory of one with --run-dir"
        )
    if config.kind == "tensorboard":
        return UiServer(tensorboard.ui_command(config.address, run_root, port), "/")
    command, environment = mlflow.ui_command(config.address, run_root, port)
    return UiServer(command, "/health", environment)
