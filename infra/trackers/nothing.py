"""The tracker of `tracking.kind: none`, which records nothing."""

from typing import ClassVar

from pipeline.tracking import RunTracker, TrackerKind


class NoTracking(TrackerKind):
    """No tracker: metrics stay in the run directory."""

    name: ClassVar[str] = "none"
    title: ClassVar[str] = "none"

    def open(self) -> RunTracker:
        """Return a tracker without effect."""
        return NoTracker()

    def has_history(self) -> bool:
        """Return False."""
        return False


class NoTracker(RunTracker):
    """A tracker whose methods have no effect."""

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
