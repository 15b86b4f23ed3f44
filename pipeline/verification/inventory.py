"""What the ledger of a run directory says there is, with nothing taken on trust.

`Ledger.records` passes over what it cannot read, because that commits nothing. Here every file of
the ledger is accounted for.
"""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from pipeline.ledger import FORMAT_VERSION, KEY_LENGTH, Artifact, Ledger, lies_inside
from pipeline.verification.findings import Damage
from pipeline.verification.strays import is_reserved


@dataclass(frozen=True)
class Inventory:
    """The records of a ledger.

    Attributes:
        current: the newest record of each place, by place, oldest first.
        superseded: records whose place belongs to a newer one.
        broken: files of the ledger that are no records.
    """

    current: dict[str, Artifact] = field(default_factory=dict)
    superseded: list[Artifact] = field(default_factory=list)
    broken: list[Damage] = field(default_factory=list)

    @cached_property
    def by_key(self) -> dict[str, Artifact]:
        """Every record by the first characters of its fingerprint, superseded ones included."""
        everything = [*self.superseded, *self.current.values()]
        return {artifact.fingerprint[:KEY_LENGTH]: artifact for artifact in everything}


def take_inventory(run_dir: Path) -> Inventory:
    """Read every record of a ledger."""
    found = Inventory()
    records = sorted((run_dir / "ledger").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    for record in records:
        artifact, problem = _read(record)
        if artifact is None:
            place = record.relative_to(run_dir).as_posix()
            found.broken.append(_broken(place, record.stem, problem))
            continue
        older = found.current.pop(artifact.path, None)
        found.superseded.extend([older] if older else [])
        found.current[artifact.path] = artifact
    _drop_nested(run_dir, found)
    return found


def _drop_nested(run_dir: Path, found: Inventory) -> None:
    """Records of a place that others lie in: to remove it would remove them."""
    above = {str(folder) for place in found.current for folder in PurePosixPath(place).parents}
    for place in [place for place in found.current if place in above]:
        artifact = found.current.pop(place)
        problem = f"names {place!r}, where other artifacts lie"
        record = Ledger(run_dir).record_path(artifact.fingerprint).relative_to(run_dir)
        found.broken.append(_broken(record.as_posix(), artifact.fingerprint, problem))


def _broken(place: str, key: str, problem: str) -> Damage:
    return Damage(
        place=place, kind="record", fingerprint=key, problems=(problem,), remedy="drop record"
    )


def _read(record: Path) -> tuple[Artifact | None, str]:
    try:
        text = record.read_text(encoding="utf-8")
        version = json.loads(text).get("format_version", FORMAT_VERSION)
        if version != FORMAT_VERSION:
            known = f"this version reads {FORMAT_VERSION}"
            return None, f"is of format {version!r}, {known}; use the version that wrote it"
        artifact = Artifact.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        return None, f"is no record: {where}: {problem['msg']}"
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        return None, f"cannot be read: {error}"
    return _checked(artifact, record.stem)


def _checked(artifact: Artifact, stem: str) -> tuple[Artifact | None, str]:
    if not artifact.seal:
        return None, "has no seal, so it was changed or damaged"
    if artifact.fingerprint[:KEY_LENGTH] != stem:
        return None, f"is the record of {artifact.fingerprint[:12]} under another name"
    if not artifact.files:
        return None, f"says that {artifact.path} has no files"
    names = (name for name in artifact.files if name != ".")
    for path in (artifact.path, *names):
        if not lies_inside(path):
            return None, f"names {path!r}, which is no place of an artifact"
    if is_reserved(artifact.path):
        return None, f"names {artifact.path!r}, which is the run's own"
    return artifact, ""
