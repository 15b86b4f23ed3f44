"""Examine a run directory: records, files, contents and lineage.

The examination reads only the directory and changes nothing. Damaged artifacts can be removed, so
that the next run computes them again.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pipeline.bundle import Manifest, read_manifest
from pipeline.documents import Document
from pipeline.durable import sync
from pipeline.errors import BundleError
from pipeline.ledger import KEY_LENGTH, Artifact, Ledger
from pipeline.run_dir.layout import ROUNDS, STUDENT, RunDir
from pipeline.verification.contents import content_problem
from pipeline.verification.strays import Strays, find_strays, unrecorded_files

_BUNDLES = ("teacher", "student")

Progress = Callable[[int, int], None]

RepairAction = Literal["redo", "drop record", "remove file", "make parent"]
"""How to repair a damage: remove the artifact and compute it again; remove an invalid record;
remove unrecorded files; compute a missing parent again and keep the artifact."""


NoteKind = Literal["debris", "foreign", "superseded", "gone"]


class Damage(Document):
    """A damaged artifact or record.

    Attributes:
        place: path relative to the run directory.
        kind: kind of the artifact, `record` for a ledger file, or `checkpoint`.
        fingerprint: fingerprint of the artifact, or the part of it that is known.
        problems: descriptions of the problems.
        remedy: how to repair it.
        files: files to remove, for the remedy `remove file`.
        dependents: paths of artifacts computed from it, directly or indirectly.
    """

    place: str
    kind: str
    fingerprint: str
    problems: tuple[str, ...]
    remedy: RepairAction
    files: tuple[str, ...] = ()
    dependents: tuple[str, ...] = ()


class Note(Document):
    """An observation that is not damage.

    Attributes:
        kind: `debris` of interrupted work, `foreign` files, `superseded` records of an earlier
            recipe, or `gone` targets, no longer needed because their student exists.
        places: paths relative to the run directory.
    """

    kind: NoteKind
    places: tuple[str, ...]


class Examination(Document):
    """The result of an examination.

    Attributes:
        artifacts: number of examined artifacts.
        files: number of their files.
        size: their recorded size in bytes.
        damaged: damaged artifacts and records.
        notes: further remarks.
    """

    artifacts: int
    files: int
    size: int
    damaged: tuple[Damage, ...]
    notes: tuple[Note, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damaged


@dataclass(frozen=True)
class Inventory:
    """The records of a ledger.

    Attributes:
        current: the newest record of each artifact path, oldest first.
        superseded: records whose path has a newer record.
        broken: invalid record files.
    """

    current: dict[str, Artifact]
    superseded: list[Artifact]
    broken: list[Damage]

    @cached_property
    def by_key(self) -> dict[str, Artifact]:
        """All records, including superseded ones, by the first characters of the fingerprint."""
        records = [*self.superseded, *self.current.values()]
        return {artifact.fingerprint[:KEY_LENGTH]: artifact for artifact in records}


def _read_inventory(ledger: Ledger) -> Inventory:
    """Sort the records of a ledger into current, superseded and broken ones."""
    artifacts, broken = ledger.read()
    current: dict[str, Artifact] = {}
    superseded = []
    for artifact in artifacts:
        older = current.pop(artifact.path, None)
        superseded += [older] if older else []
        current[artifact.path] = artifact
    damaged = [
        Damage(
            place=record.relative_to(ledger.run_dir).as_posix(),
            kind="record",
            fingerprint=record.stem,
            problems=(problem,),
            remedy="drop record",
        )
        for record, problem in broken.items()
    ]
    return Inventory(current, superseded, damaged)


def examine(run_dir: Path, progress: Progress = lambda done, total: None) -> Examination:  # noqa: ARG005
    """Examine all records and files of a run directory.

    Args:
        run_dir: run directory, in which no process works.
        progress: called with the number of examined artifacts and their total.
    """
    ledger = Ledger(run_dir)
    inventory = _read_inventory(ledger)
    artifacts = list(inventory.current.values())
    gone = [a.path for a in artifacts if _is_obsolete(ledger, a, inventory)]
    damaged = list(inventory.broken)
    present = [artifact for artifact in artifacts if artifact.path not in gone]
    for done, (artifact, wrong) in enumerate(ledger.read_all(present), start=len(gone)):
        progress(done, len(artifacts))
        damaged += _examine(ledger, artifact, wrong, inventory)
    progress(len(artifacts), len(artifacts))
    damaged += _damaged_checkpoints(run_dir)
    return Examination(
        artifacts=len(artifacts),
        files=sum(len(artifact.files) for artifact in artifacts),
        size=sum(file.size for artifact in artifacts for file in artifact.files.values()),
        damaged=tuple(_with_dependents(damage, artifacts) for damage in damaged),
        notes=tuple(_notes(inventory, gone, find_strays(run_dir, artifacts))),
    )


def _examine(
    ledger: Ledger, artifact: Artifact, problems: Sequence[str], inventory: Inventory
) -> Iterator[Damage]:
    """Examine one artifact; its content is checked only if its files match the record."""
    foreign = unrecorded_files(ledger.run_dir, artifact)
    if foreign:
        unrecorded = [f"{place} is not in its record" for place in foreign]
        yield _damage(artifact, unrecorded, "remove file", foreign)
    wrong = [_relative(ledger, problem) for problem in problems]
    if not wrong and not foreign:  # readers reject unrecorded files before they check the content
        problem = content_problem(ledger.locate(artifact), artifact)
        problem = problem or lineage_problem(ledger.run_dir, artifact, inventory)
        wrong = [_relative(ledger, problem)] if problem else []
    if wrong:
        yield _damage(artifact, wrong, "redo")
        return
    known = inventory.by_key
    missing = [parent[:12] for parent in artifact.parents if parent[:KEY_LENGTH] not in known]
    if missing:
        problem = f"the ledger has no record of its parents {', '.join(missing)}"
        yield _damage(artifact, [problem], "make parent")


def _relative(ledger: Ledger, problem: str) -> str:
    """Remove the run directory from the paths in a message."""
    return problem.replace(f"{ledger.run_dir}/", "")


def _is_obsolete(ledger: Ledger, artifact: Artifact, inventory: Inventory) -> bool:
    """Whether an artifact is removed targets of a round whose student exists."""
    if artifact.kind != "targets" or ledger.locate(artifact).exists():
        return False
    # the targets of a retry are in another folder than the student of the round
    number = artifact.path.partition("-")[0]
    students = (path for path in inventory.current if path.endswith(f"/{STUDENT}"))
    return any(path.partition("-")[0] == number for path in students)


def _damaged_checkpoints(run_dir: Path) -> Iterator[Damage]:
    for folder in RunDir(run_dir).all_checkpoints():
        ledger, inside = Ledger(folder), folder.relative_to(run_dir).as_posix()
        inventory = _read_inventory(ledger)
        damaged = [*inventory.broken]
        for artifact, problems in ledger.read_all(list(inventory.current.values())):
            if problems:
                wrong = [_relative(ledger, problem) for problem in problems]
                damaged.append(_damage(artifact, wrong, "redo"))
        for damage in damaged:
            yield damage.model_copy(update={"place": f"{inside}/{damage.place}"})


def _damage(
    artifact: Artifact, problems: Sequence[str], remedy: RepairAction, files: Sequence[str] = ()
) -> Damage:
    return Damage(
        place=artifact.path,
        kind=artifact.kind,
        fingerprint=artifact.fingerprint,
        problems=tuple(problems),
        remedy=remedy,
        files=tuple(files),
    )


def _with_dependents(damage: Damage, artifacts: list[Artifact]) -> Damage:
    found = dependents([damage.fingerprint], artifacts)
    return damage.model_copy(update={"dependents": tuple(artifact.path for artifact in found)})


def _notes(inventory: Inventory, gone: list[str], strays: Strays) -> Iterator[Note]:
    superseded = [f"{artifact.path} ({artifact.digest[:12]})" for artifact in inventory.superseded]
    notes: dict[NoteKind, list[str]] = {
        "superseded": superseded,
        "gone": gone,
        "debris": strays.debris,
        "foreign": strays.foreign,
    }
    for kind, places in notes.items():
        if places:
            yield Note(kind=kind, places=tuple(places))


def lineage_problem(run_dir: Path, artifact: Artifact, inventory: Inventory) -> str | None:
    """Describe a mismatch between a student and its teacher; None if they match.

    The manifest of a student contains the digests of its teacher, which is the student of an
    earlier round or the run's original teacher, and of another student that it started from.

    Args:
        run_dir: run directory.
        artifact: artifact of any kind whose files match its record; only students are checked.
        inventory: all records.
    """
    if artifact.kind != "student":
        return None
    known = inventory.by_key
    parents = [known[key] for parent in artifact.parents if (key := parent[:KEY_LENGTH]) in known]
    try:
        manifest = read_manifest(run_dir / artifact.path)
    except BundleError as error:
        return str(error)
    own = manifest.lineage
    if own.round is None or f"{ROUNDS}/{own.round:02d}-" not in artifact.path:
        return f"lineage.round: {own.round} in its manifest does not match its folder"
    # a parent of the same round is the failed student that was extended, not the teacher
    bundles = [
        parent
        for parent in parents
        if parent.kind in _BUNDLES
        and f"{ROUNDS}/{own.round:02d}-" not in parent.path
        and parent.digest != own.start
    ]
    if len(artifact.parents) == len(parents) and len(bundles) != 1:
        return f"its record names {len(bundles)} teachers instead of one"
    return next((p for parent in bundles if (p := _contradiction(run_dir, manifest, parent))), None)


def _contradiction(run_dir: Path, student: Manifest, teacher: Artifact) -> str | None:
    own = student.lineage
    if own.parent != teacher.digest:
        return (
            f"lineage.parent: {str(own.parent)[:12]} in its manifest, but the teacher in its "
            f"record ({teacher.path}) is {teacher.digest[:12]}"
        )
    if teacher.kind == "teacher":
        return None
    if own.round == 0:
        return f"the teacher of round 0 is the run's original, but {teacher.path} is a student"
    try:
        above = read_manifest(run_dir / teacher.path)
    except BundleError:
        return None  # reported as a damage of the teacher itself
    if not _may_follow(student, above):
        return (
            f"it belongs to round {own.round}, but its teacher {teacher.path} to round "
            f"{above.lineage.round}"
        )
    return None


def _may_follow(student: Manifest, teacher: Manifest) -> bool:
    own, above = student.lineage.round, teacher.lineage.round
    if own is None or above is None:
        return False
    return own > above


def dependents(keys: Collection[str], artifacts: Sequence[Artifact]) -> list[Artifact]:
    """Return the artifacts computed from others, directly or indirectly, in their order.

    Args:
        keys: fingerprints of the others, or the first characters, as in names of record files.
        artifacts: artifacts to search.
    """
    children: dict[str, list[Artifact]] = {}
    for artifact in artifacts:
        for parent in artifact.parents:
            children.setdefault(parent[:KEY_LENGTH], []).append(artifact)
    found: set[str] = set()
    waiting = [key[:KEY_LENGTH] for key in keys]
    while waiting:
        for child in children.pop(waiting.pop(), []):
            found.add(child.fingerprint)
            waiting.append(child.fingerprint[:KEY_LENGTH])
    return [artifact for artifact in artifacts if artifact.fingerprint in found]


def remove_damaged(run_dir: Path, damaged: Iterable[Damage]) -> list[Artifact]:
    """Remove damaged artifacts, records and files by their remedies.

    Dependents are kept. Stages are deterministic, so an artifact computed again usually has the
    same bytes and its dependents remain valid. With other bytes, their fingerprints no longer
    match, because fingerprints include the digests of parents, and the run computes them again.

    Args:
        run_dir: run directory, locked by this process.
        damaged: result of an examination under the same lock.

    Returns:
        The removed artifacts, which the next run computes again.
    """
    removed: list[Artifact] = []
    for damage in damaged:
        if damage.remedy == "redo":
            is_checkpoint = damage.kind == "checkpoint"
            ledger = Ledger((run_dir / damage.place).parent if is_checkpoint else run_dir)
            found = [a for a in ledger.records() if a.fingerprint == damage.fingerprint]
            for artifact in found:
                ledger.forget(artifact)
            removed += [] if is_checkpoint else found
        places = {"drop record": (damage.place,), "remove file": damage.files}
        for place in places.get(damage.remedy, ()):
            (run_dir / place).unlink(missing_ok=True)
            sync((run_dir / place).parent)
    return removed
