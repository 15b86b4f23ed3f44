"""Tracking: the metrics file that training writes, and the port of experiment trackers."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pipeline.config.profile import TrackerProperties, TrackingConfig
from pipeline.durable import sync, write_durably

Point = tuple[str, float, int]
"""(metric name, value, step)."""

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class InputData:
    """An input data set of a tracked run.

    Attributes:
        name: display name.
        digest: digest of its content.
        place: path of the data.
        context: role in the run, for example `training`.
        profile: statistics of the data.
    """

    name: str
    digest: str
    place: Path
    context: str
    profile: Mapping[str, object] = field(default_factory=dict)


@runtime_checkable
class RunTracker(Protocol):
    """Destination of metrics, files and tags: one tracked run per chain, a child per round.

    It is called from the driver only. Every method is idempotent, so that a resumed run can repeat
    it, and may raise InfraError if the tracker is unreachable or its disk is full.
    """

    def start(
        self,
        key: str,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
        *,
        parent: str | None = None,
        training: str | None = None,
        is_running: bool = True,
    ) -> str:
        """Open the run with this key, continue it if it exists, and return its id.

        Args:
            key: id of the run; for a round followed by the path of its folder, `id/rounds/...`.
            name: display name.
            params: parameters; a changed value is recorded beside the first one.
            tags: tags; a changed value replaces the old one.
            parent: id of the chain's run; None opens that of a chain.
            training: fingerprint of a round's training. Each has its own run, and the newest
                supersedes the others of its key; None selects the newest.
            is_running: whether work on it begins; if not, an existing run keeps its status and a
                new run is FINISHED.
        """

    def log(self, run: str, points: Iterable[Point], *, are_new: bool = False) -> None:
        """Log points that the run does not have yet; `are_new` skips the comparison."""

    def last_step(self, run: str, name: str) -> int:
        """Return the largest step of a metric; -1 if it has no points."""

    def log_image(self, run: str, path: Path, name: str, step: int) -> None:
        """Log a PNG as the newest image of a name at a step."""

    def log_files(self, run: str, paths: Sequence[Path], folder: str) -> None:
        """Copy files to a folder of the run."""

    def log_inputs(self, run: str, inputs: Sequence[InputData]) -> None:
        """Log the input data sets of a run."""

    def log_tags(self, run: str, tags: Mapping[str, object]) -> None:
        """Set tags of a run."""

    def describe(self, run: str, markdown: str) -> None:
        """Set the description of a run."""

    def register(
        self, run: str, model: str, bundle: Path, digest: str, tags: Mapping[str, Any]
    ) -> str | None:
        """Return the version of a registered model with these weights; None without a registry."""

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Set an alias, such as `teacher`, to a version of a registered model."""

    def finish(self, run: str, status: RunStatus, *, unless_ended: bool = False) -> None:
        """End a run now; with `unless_ended`, a run with this status keeps its end time."""

    def end_stale_runs(self, key: str) -> int:
        """Mark the running runs of a chain and its rounds as killed; return their number.

        Call only if no process is working on the chain.
        """

    def url(self, key: str, port: int) -> str | None:
        """Return the address of a run's charts, served at `port` unless the tracker is a server."""


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


class TrackerKind(TrackerProperties, ABC):
    """A kind of tracker. A kind is one file: this class, its name, and its `RunTracker`."""

    def __init__(self, config: TrackingConfig, run_root: Path) -> None:
        """Keep the settings; nothing is opened.

        Args:
            config: the section `tracking` of the profile.
            run_root: directory of the run directories; without `config.uri` the tracker is in it.
        """
        self.config = config
        self.run_root = run_root

    def check(self) -> None:
        """Check that the packages of the tracker are installed.

        Raises:
            ConfigError: one is not.
        """

    @abstractmethod
    def open(self) -> RunTracker:
        """Open the tracker.

        Raises:
            ConfigError: a package that it needs is not installed.
            InfraError: the tracker is unreachable.
        """

    def has_history(self) -> bool:
        """Whether anything may be recorded: a local tracker has files only after a run."""
        return True

    def address(self, port: int) -> str | None:  # noqa: ARG002 (for overriding methods)
        """Return the address of its pages while it is unreachable; None for none."""
        return None

    def ui_server(self, port: int) -> UiServer | None:  # noqa: ARG002
        """Return how to serve its pages, on loopback only; None for none."""
        return None


def curve_name(name: str, *, is_stochastic: bool) -> str:
    """Return the curve's name, distinct for the deterministic and the stochastic ladder."""
    return f"{name}_stochastic" if is_stochastic else name


class Tracker(ABC):
    """Destination of training metrics."""

    @abstractmethod
    def log(self, values: dict[str, float], samples_seen: int) -> None:
        """Record metrics at `samples_seen`, the training clock."""

    @abstractmethod
    def flush(self) -> None:
        """Make logged metrics durable; called before a checkpoint that relies on them."""


class JsonlTracker(Tracker):
    """Append metrics to a file, one JSON object per line.

    Opening it at `samples_seen` drops later lines, because a resumed round writes them again.
    """

    def __init__(self, path: Path, samples_seen: int) -> None:
        kept = [line for line in read_metrics(path) if line["samples_seen"] <= samples_seen]
        write_durably(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._path = path

    def log(self, values: dict[str, float], samples_seen: int) -> None:
        """Append one line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"samples_seen": samples_seen, **values}) + "\n")

    def flush(self) -> None:
        """fsync the file."""
        sync(self._path)


def read_metrics(path: Path) -> Iterator[dict[str, float]]:
    """Iterate over the complete lines of a metrics file; incomplete or damaged lines are skipped.

    Those belong to updates after the last checkpoint, which are repeated and logged again.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n") and (found := _parse(line)):
                yield found


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        found: Any = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "samples_seen" in found else None
