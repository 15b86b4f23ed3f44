"""The identity of a run: an id that its directory keeps when it is moved or renamed.

Trackers know a run by this id, not by its path. No result depends on it.

A directory whose recorded path is another one was moved, or is a copy: it is a copy while the
original, a directory of the same id, still exists at the recorded path. A copy gets its own id at
its first start, so that two directories never write into one history.
"""

import logging
from pathlib import Path
from uuid import uuid4

from pydantic import ValidationError

from pipeline.documents import Document
from pipeline.durable import write_durably
from pipeline.run_files import RUN_ID

_log = logging.getLogger(__name__)


class RunId(Document):
    """The content of a run directory's identity file.

    Attributes:
        id: UUID in hex.
        path: absolute path of the directory at its last start.
    """

    id: str
    path: str


def recorded_id(run_dir: Path) -> RunId | None:
    """Return the recorded identity; None for a directory that was never run or is a copy."""
    found = _read(run_dir)
    return None if found is None or _original(found, run_dir) else found


def claim_id(run_dir: Path) -> str:
    """Return the id of a run directory that this process holds; a new one for a new run or a copy.

    The path is recorded again if the directory was moved.
    """
    found, path = _read(run_dir), str(run_dir.resolve())
    original = _original(found, run_dir) if found else None
    if found is None or original:
        new = RunId(id=uuid4().hex, path=path)
        if original:
            _log.warning(
                "run: %s is a copy of %s, whose tracked history stays there; new id=%s",
                *(run_dir, original, new.id),
            )
    else:
        new = RunId(id=found.id, path=path)
    if new != found:
        write_durably(run_dir / RUN_ID, new.model_dump_json(indent=1))
    return new.id


def _original(found: RunId, run_dir: Path) -> Path | None:
    """Return the other directory that has this id at the recorded path; None if there is none."""
    place = Path(found.path)
    other = _read(place)
    if other is None or other.id != found.id or place.samefile(run_dir):
        return None
    return place


def _read(run_dir: Path) -> RunId | None:
    try:
        return RunId.model_validate_json((run_dir / RUN_ID).read_bytes())
    except (OSError, ValidationError):
        return None
