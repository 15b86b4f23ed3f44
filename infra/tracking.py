"""The experiment tracker of a profile, and its pages."""

from pathlib import Path

from infra.trackers.mlflow.tracker import MlflowTracking
from infra.trackers.nothing import NoTracking
from infra.trackers.tensorboard import TensorBoardTracking
from pipeline.config.profile import TrackingConfig
from pipeline.errors import ConfigError, InfraError
from pipeline.registry import Registry
from pipeline.run_dir.run_id import recorded_id
from pipeline.tracking import RunTracker, TrackerKind, UiServer
from pipeline.wording import format_path

UI_PORT = 5000

TRACKERS: Registry[TrackerKind] = Registry(
    "infra.trackers",
    TrackerKind,  # type: ignore[type-abstract]
    "tracker",
    known=(MlflowTracking, TensorBoardTracking, NoTracking),
    entry_points="stepfold.trackers",
)


def tracker_of(config: TrackingConfig, run_root: Path) -> RunTracker:
    """Open the tracker of a profile.

    Args:
        config: the section `tracking`.
        run_root: directory of the run directories; without `tracking.uri` the tracker is in it.

    Raises:
        ConfigError: a package that it needs is not installed.
        InfraError: the tracker is unreachable.
    """
    return _kind_of(config, run_root).open()


def check_tracking(config: TrackingConfig) -> None:
    """Check that the packages of the tracker are installed.

    Raises:
        ConfigError: one is not.
    """
    _kind_of(config, Path()).check()


def has_history(config: TrackingConfig, run_root: Path) -> bool:
    """Whether anything may be recorded: a local tracker has files only after a run."""
    return _kind_of(config, run_root).has_history()


def has_pages(config: TrackingConfig) -> bool:
    """Whether `stepfold ui` serves the pages of the tracker."""
    return _kind_of(config, Path()).ui_server(UI_PORT) is not None


def charts_url(config: TrackingConfig, run_dir: Path, port: int = UI_PORT) -> str | None:
    """Return the address of the charts of a run's rounds; None without a tracker.

    Unless the profile names an MLflow server, it works while `stepfold ui` runs.
    """
    kind, run_id = _kind_of(config, run_dir.parent), recorded_id(run_dir)
    try:
        return kind.open().url(run_id.id if run_id else "", port)
    except InfraError:
        return kind.address(port)


def ui_server(config: TrackingConfig, run_root: Path, port: int) -> UiServer:
    """Return how to serve the pages of all runs, on loopback only.

    Raises:
        ConfigError: nothing is recorded, or the tracker has no pages.
    """
    kind = _kind_of(config, run_root)
    kind.check()
    server = kind.ui_server(port)
    if server is None:
        raise ConfigError(
            f"tracking.kind: {config.kind}, which has no pages; name a profile of another tracker"
        )
    if not kind.has_history():
        raise ConfigError(
            f"{format_path(run_root)} has no {config.title} history; start a run, or name one with "
            "--run-dir"
        )
    return server


def _kind_of(config: TrackingConfig, run_root: Path) -> TrackerKind:
    return TRACKERS.get(config.kind)(config, run_root)
