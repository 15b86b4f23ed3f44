"""Files of a run directory that no record speaks of: the run's own, debris, and foreign ones."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from pipeline.ledger import Artifact

DEBRIS = (".*.tmp", ".staging-*", "failure-*.json", "*.writing")
"""Names that interrupted work leaves behind."""

# what a run keeps beside its artifacts, by patterns of whole paths; directories are not looked into
_OWN = (
    *("recipe.yaml", "recipe.*.yaml", "profile.yaml", "profile.*.yaml"),
    *(".lock", ".lock-holder.json", "events.jsonl", "timing.json", "logs"),
    *("owed.json", "machines.json"),
    *("ledger/*.json", "report/timing.json", "report-*/timing.json", "report/index.html"),
    *("rounds/*/metrics.jsonl", "rounds/*/metrics.tmp", "rounds/*/pictures"),
    *("rounds/*/checkpoints/attempt", "rounds/*/checkpoints/ledger/*.json"),
    "rounds/*/checkpoints/update-*",
)
_RESERVED = ("ledger", "logs", "ray", "rounds/*/checkpoints")
_RAY = "ray/*"  # a fit leaves something here if its driver is killed


def is_debris(place: str) -> bool:
    """Whether a path relative to a run directory is named as interrupted work names things."""
    name = PurePosixPath(place).name
    return _fits(place, [_RAY]) or any(fnmatch(name, pattern) for pattern in DEBRIS)


def is_reserved(place: str) -> bool:
    """Whether no artifact can lie at this path relative to a run directory."""
    parts = PurePosixPath(place).parts
    above = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return _fits(place, _OWN) or any(_fits(folder, _RESERVED) for folder in above)


def _fits(place: str, patterns: Sequence[str]) -> bool:
    return any(PurePosixPath("/" + place).match("/" + pattern) for pattern in patterns)


def intruders(root: Path, artifact: Artifact) -> list[str]:
    """Files inside an artifact's directory that its record does not name, relative to the run.

    Loaders take what they find in a directory, so a file that was put there is no matter of taste.

    Args:
        root: the run directory.
        artifact: one of its artifacts.
    """
    folder = root / artifact.path
    if not folder.is_dir():
        return []
    files = (path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir())
    named = {artifact.path + "/" + name for name in artifact.files}
    places = (path.relative_to(root).as_posix() for path in files)
    return [place for place in places if place not in named and not _fits(place, _OWN)]


@dataclass(frozen=True)
class Strays:
    """What no record speaks of, relative to the run directory.

    Attributes:
        debris: of interrupted work.
        foreign: nothing of ours, each named by its highest directory.
    """

    debris: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


def find_strays(root: Path, artifacts: Collection[Artifact]) -> Strays:
    """Look through a run directory, but not into artifacts, logs and checkpoints.

    Args:
        root: the run directory; nobody is at work in it.
        artifacts: those that it has.
    """
    found = Strays()
    _look(root, "", {artifact.path for artifact in artifacts}, found)
    return found


def _look(root: Path, folder: str, known: set[str], found: Strays) -> bool:
    """Add the strays of a folder; whether it holds anything of ours."""
    foreign: list[str] = []
    holds_ours = False
    entries = sorted((root / folder).iterdir())
    for entry in entries:
        place = entry.relative_to(root).as_posix()
        if is_debris(place):
            found.debris.append(place)
            holds_ours = True
        elif place in known or _fits(place, _OWN):
            holds_ours = True
        elif entry.is_dir() and not entry.is_symlink():
            inner = Strays(found.debris)
            ours = _look(root, place, known, inner)
            holds_ours |= ours
            foreign += inner.foreign if ours else [place]
        else:
            foreign.append(place)
    found.foreign.extend(foreign)
    return holds_ours or not entries
