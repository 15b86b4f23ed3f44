"""Unrecorded files of a run directory: the run's own files, debris and foreign files."""

from collections.abc import Collection
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from pipeline.ledger import Artifact
from pipeline.run_dir.layout import SCRATCH
from pipeline.run_files import UNRECORDED, fits

DEBRIS = (".*.tmp", ".staging-*", "failure-*.json", "*.writing")
"""Name patterns of files left by interrupted work."""


def unrecorded_files(root: Path, artifact: Artifact) -> list[str]:
    """Return the files in an artifact's directory that are not in its record.

    Loaders may read every file of a directory, so an added file is damage.

    Args:
        root: run directory; the returned paths are relative to it.
        artifact: one of its artifacts.
    """
    folder = root / artifact.path
    if not folder.is_dir():
        return []
    files = (path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir())
    named = {artifact.path + "/" + name for name in artifact.files}
    places = (path.relative_to(root).as_posix() for path in files)
    return [place for place in places if place not in named and not fits(place, UNRECORDED)]


@dataclass(frozen=True)
class Strays:
    """Unrecorded paths, relative to the run directory.

    Attributes:
        debris: files of interrupted work.
        foreign: files not written by Stepfold; a foreign directory is listed without its content.
    """

    debris: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


def find_strays(root: Path, artifacts: Collection[Artifact]) -> Strays:
    """Find unrecorded files, without searching artifacts, logs and checkpoints.

    Args:
        root: run directory, in which no process works.
        artifacts: its artifacts.
    """
    found = Strays()
    _search(root, "", {artifact.path for artifact in artifacts}, found)
    return found


def _search(root: Path, folder: str, known: set[str], found: Strays) -> bool:
    """Add the strays of a folder; returns whether it contains files of Stepfold."""
    foreign: list[str] = []
    holds_ours = False
    entries = sorted((root / folder).iterdir())
    for entry in entries:
        place = entry.relative_to(root).as_posix()
        if fits(place, SCRATCH) or any(fnmatch(entry.name, pattern) for pattern in DEBRIS):
            found.debris.append(place)
            holds_ours = True
        elif place in known or fits(place, UNRECORDED):
            holds_ours = True
        elif entry.is_dir() and not entry.is_symlink():
            inner = Strays(found.debris)
            ours = _search(root, place, known, inner)
            holds_ours |= ours
            foreign += inner.foreign if ours else [place]
        else:
            foreign.append(place)
    found.foreign.extend(foreign)
    return holds_ours or not entries
