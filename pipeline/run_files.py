"""The files that a run directory holds beside its artifacts, and the paths that they reserve.

`pipeline.run_dir.layout` has the whole layout; the ledger needs this part of it.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath

RECORDS = "ledger"
"""Folder of the commit records."""

STAMP_SUFFIX = ".stamp"
"""Suffix of a stamp, which has the name of its commit record otherwise."""

LOCK = ".lock"
"""File that is locked while a process works in a run directory."""

LOCK_HOLDER = ".lock-holder.json"
"""File with the identity of the process that holds a run directory."""

RECIPE = "recipe.yaml"
RUN_ID = "run-id.json"
PROFILE = "profile.yaml"
EVENTS = "events.jsonl"
TIMING = "timing.json"
OUTBOX = "outbox.json"
MACHINES = "machines.json"
METRICS = "metrics.jsonl"
LOGS = "logs"
RAY = "ray"

ROUNDS = "rounds"
"""Folder of all rounds."""

CHECKPOINTS = "checkpoints"
PREVIEWS = "pictures"
REPORT = "report"
REPORT_PAGE = "index.html"

UNRECORDED = (
    *(RECIPE, RUN_ID, "recipe.*.yaml", PROFILE, "profile.*.yaml"),
    *(LOCK, LOCK_HOLDER, EVENTS, TIMING, LOGS),
    *(OUTBOX, MACHINES),
    *(f"{RECORDS}/*.json", f"{RECORDS}/*{STAMP_SUFFIX}"),
    *(f"{REPORT}/{TIMING}", f"{REPORT}-*/{TIMING}", f"{REPORT}/{REPORT_PAGE}"),
    *(f"{ROUNDS}/*/{METRICS}", f"{ROUNDS}/*/metrics.tmp", f"{ROUNDS}/*/{PREVIEWS}"),
    *(f"{ROUNDS}/*/{CHECKPOINTS}/attempt", f"{ROUNDS}/*/{CHECKPOINTS}/{RECORDS}/*.json"),
    f"{ROUNDS}/*/{CHECKPOINTS}/update-*",
)
"""Patterns of files that a run keeps beside its artifacts; matching directories are not entered."""

RESERVED = (RECORDS, LOGS, RAY, f"{ROUNDS}/*/{CHECKPOINTS}")
"""Patterns of folders that cannot contain artifacts."""


def is_reserved(place: str) -> bool:
    """Whether a path relative to the run directory cannot be an artifact's."""
    parts = PurePosixPath(place).parts
    above = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return fits(place, UNRECORDED) or any(fits(folder, RESERVED) for folder in above)


def fits(place: str, patterns: Sequence[str]) -> bool:
    """Whether a path relative to the run directory fits one of the patterns."""
    return any(PurePosixPath("/" + place).match("/" + pattern) for pattern in patterns)
