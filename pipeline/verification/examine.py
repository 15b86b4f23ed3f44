"""Examine a run directory: every record, every file, every count, every number, and who made whom.

Nothing is changed and nothing but the directory is needed: the ledger and the files are enough.
What is damaged can be thrown away, so that a run makes it again.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal

from pipeline.bundle import Manifest, read_manifest
from pipeline.documents import Document
from pipeline.durable import sync
from pipeline.errors import BundleError
from pipeline.ledger import KEY_LENGTH, Artifact, Ledger
from pipeline.verification.contents import content_problem
from pipeline.verification.strays import Strays, find_strays, intruders, is_reserved

_BUNDLES = ("teacher", "student")

Progress = Callable[[int, int], None]

Remedy = Literal["redo", "drop record", "remove file", "make parent"]
"""How to be rid of a damage: throw the artifact away and make it anew; remove a record that is
none; remove files that belong to nothing; make what is missing and keep what is here."""


class Damage(Document):
    """Something that cannot be trusted.

    Attributes:
        place: where, relative to the run directory.
        kind: of the artifact; `record` for a file of the ledger, `checkpoint` inside a round.
        fingerprint: of the artifact, as far as it is known.
        problems: what is wrong, one sentence each.
        remedy: how to be rid of it.
        files: those to remove, if that is the remedy.
        dependents: places of what was made from it, directly or not.
    """

    place: str
    kind: str
    fingerprint: str
    problems: tuple[str, ...]
    remedy: Remedy
    files: tuple[str, ...] = ()
    dependents: tuple[str, ...] = ()


class Note(Document):
    """Something to know that is no damage.

    Attributes:
        kind: `debris` of interrupted work; `foreign` is nothing of ours; `superseded` is of an
            earlier recipe; `gone` are targets whose student is there, so that nobody needs them.
        places: where, relative to the run directory.
    """

    kind: Literal["debris", "foreign", "superseded", "gone"]
    places: tuple[str, ...]


class Verdict(Document):
    """The result of an examination.

    Attributes:
        artifacts: how many were examined.
        files: how many files they have.
        size: bytes in all of them, by their records.
        damaged: what cannot be trusted.
        notes: what else there is to know.
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
    """Sort the records of a ledger, and account for every file of it."""
    ledger, found = Ledger(run_dir), Inventory()
    artifacts, broken = ledger.read()
    for record, problem in broken.items():
        found.broken.append(_broken(ledger, record.stem, problem))
    for artifact in artifacts:
        if not artifact.files or is_reserved(artifact.path):
            why = "is the run's own" if artifact.files else "has no files"
            problem = f"names {artifact.path!r}, which {why}"
            found.broken.append(_broken(ledger, artifact.fingerprint, problem))
            continue
        older = found.current.pop(artifact.path, None)
        found.superseded.extend([older] if older else [])
        found.current[artifact.path] = artifact
    _drop_nested(ledger, found)
    return found


def _drop_nested(ledger: Ledger, found: Inventory) -> None:
    """Records of a place that others lie in: to remove it would remove them."""
    above = {str(folder) for place in found.current for folder in PurePosixPath(place).parents}
    for place in [place for place in found.current if place in above]:
        artifact = found.current.pop(place)
        problem = f"names {place!r}, where other artifacts lie"
        found.broken.append(_broken(ledger, artifact.fingerprint, problem))


def _broken(ledger: Ledger, key: str, problem: str) -> Damage:
    place = ledger.record_path(key).relative_to(ledger.run_dir).as_posix()
    return Damage(
        place=place, kind="record", fingerprint=key, problems=(problem,), remedy="drop record"
    )


def examine(run_dir: Path, progress: Progress = lambda done, total: None) -> Verdict:  # noqa: ARG005
    """Whether everything a run directory holds can be trusted.

    Args:
        run_dir: the run directory; nobody is at work in it.
        progress: told (artifacts examined, artifacts in all).
    """
    ledger, inventory = Ledger(run_dir), take_inventory(run_dir)
    artifacts = list(inventory.current.values())
    gone = [a.path for a in artifacts if _is_gone_on_purpose(ledger, a, inventory)]
    damaged = list(inventory.broken)
    for done, artifact in enumerate(artifacts):
        progress(done, len(artifacts))
        if artifact.path not in gone:
            damaged += _examine(ledger, artifact, inventory)
    progress(len(artifacts), len(artifacts))
    damaged += _damaged_checkpoints(run_dir)
    return Verdict(
        artifacts=len(artifacts),
        files=sum(len(artifact.files) for artifact in artifacts),
        size=sum(file.size for artifact in artifacts for file in artifact.files.values()),
        damaged=tuple(_with_dependents(damage, artifacts) for damage in damaged),
        notes=tuple(_notes(inventory, gone, find_strays(run_dir, artifacts))),
    )


def _examine(ledger: Ledger, artifact: Artifact, inventory: Inventory) -> Iterator[Damage]:
    """What is wrong with one artifact; its content is only looked at if its files are right."""
    foreign = intruders(ledger.run_dir, artifact)
    if foreign:
        problems = tuple(f"{place} lies in it, but not in its record" for place in foreign)
        found = _damage(artifact, problems, "remove file")
        yield found.model_copy(update={"files": tuple(foreign)})
    wrong = _wrong_files(ledger, artifact)
    if not wrong and not foreign:  # readers refuse what is foreign, whatever they would say else
        told = content_problem(ledger.locate(artifact), artifact) or lineage_problem(
            ledger.run_dir, artifact, inventory
        )
        wrong = [_from_here(ledger, told)] if told else []
    if wrong:
        yield _damage(artifact, tuple(wrong), "redo")
        return
    missing = missing_parents(artifact, inventory)
    if missing:
        names = ", ".join(key[:12] for key in missing)
        problem = f"it was made from {names}, and the ledger has no such record"
        yield _damage(artifact, (problem,), "make parent")


def _wrong_files(ledger: Ledger, artifact: Artifact) -> list[str]:
    found = []
    for name, record in artifact.files.items():
        one = artifact.model_copy(update={"files": {name: record}})
        try:
            problem = ledger.damage(one)
        except OSError as error:
            problem = f"{error.filename} cannot be read ({error.strerror})"
        found += [_from_here(ledger, problem)] if problem else []
    return found


def _from_here(ledger: Ledger, problem: str) -> str:
    return problem.replace(f"{ledger.run_dir}/", "")


def _is_gone_on_purpose(ledger: Ledger, artifact: Artifact, inventory: Inventory) -> bool:
    """Targets without a single file, of a round whose student is there: nobody needs them."""
    if artifact.kind != "targets" or ledger.locate(artifact).exists():
        return False
    # done over, a round lies in another folder than its student
    number = artifact.path.partition("-")[0]
    students = (path for path in inventory.current if path.endswith("/student"))
    return any(path.partition("-")[0] == number for path in students)


def _damaged_checkpoints(run_dir: Path) -> Iterator[Damage]:
    for folder in sorted(run_dir.glob("rounds/*/checkpoints")):
        ledger, inventory = Ledger(folder), take_inventory(folder)
        inside = folder.relative_to(run_dir).as_posix()
        for damage in inventory.broken:
            yield damage.model_copy(update={"place": f"{inside}/{damage.place}"})
        for artifact in inventory.current.values():
            problems = _wrong_files(ledger, artifact)
            if problems:
                moved = artifact.model_copy(update={"path": f"{inside}/{artifact.path}"})
                yield _damage(moved, tuple(problems), "redo")


def _damage(artifact: Artifact, problems: tuple[str, ...], remedy: Remedy) -> Damage:
    return Damage(
        place=artifact.path,
        kind=artifact.kind,
        fingerprint=artifact.fingerprint,
        problems=problems,
        remedy=remedy,
    )


def _with_dependents(damage: Damage, artifacts: list[Artifact]) -> Damage:
    made = dependents([damage.fingerprint], artifacts)
    return damage.model_copy(update={"dependents": tuple(artifact.path for artifact in made)})


def _notes(inventory: Inventory, gone: list[str], strays: Strays) -> Iterator[Note]:
    superseded = [f"{artifact.path} ({artifact.digest[:12]})" for artifact in inventory.superseded]
    if superseded:
        yield Note(kind="superseded", places=tuple(superseded))
    if gone:
        yield Note(kind="gone", places=tuple(gone))
    if strays.debris:
        yield Note(kind="debris", places=tuple(strays.debris))
    if strays.foreign:
        yield Note(kind="foreign", places=tuple(strays.foreign))


def missing_parents(artifact: Artifact, inventory: Inventory) -> list[str]:
    """Fingerprints of parents that no record speaks of."""
    known = inventory.by_key
    return [parent for parent in artifact.parents if parent[:KEY_LENGTH] not in known]


def lineage_problem(run_dir: Path, artifact: Artifact, inventory: Inventory) -> str | None:
    """Why a student is not its teacher's child; None if it is, or is no student.

    Round k's student names round k-1's by the digest of its files; round 0's names the teacher, and
    the first of a further ladder (encoders, stochastic students) names round 0's.

    Args:
        run_dir: the run directory.
        artifact: of any kind; its own files verify.
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
    if own.round is None or f"rounds/{own.round:02d}-" not in artifact.path:
        return f"its manifest says round {own.round}, which does not lie here"
    # of its own round is a failed student that was trained on, which is no teacher
    bundles = [
        parent
        for parent in parents
        if parent.kind in _BUNDLES and f"rounds/{own.round:02d}-" not in parent.path
    ]
    if len(artifact.parents) == len(parents) and len(bundles) != 1:
        return f"its record names {len(bundles)} teachers, there is one for each student"
    return next((p for parent in bundles if (p := _contradiction(run_dir, manifest, parent))), None)


def _contradiction(run_dir: Path, student: Manifest, teacher: Artifact) -> str | None:
    own = student.lineage
    if own.parent != teacher.digest:
        return (
            f"its manifest names teacher {str(own.parent)[:12]}, the one in its record "
            f"({teacher.path}) is {teacher.digest[:12]}"
        )
    expected = "teacher" if own.round == 0 else "student"
    if teacher.kind != expected:
        return f"it is of round {own.round}, whose teacher is a {expected}; {teacher.path} is not"
    if teacher.kind == "teacher":
        return None
    try:
        above = read_manifest(run_dir / teacher.path)
    except BundleError:
        return None  # reported where it lies
    if not _may_follow(student, above):
        return (
            f"it is of round {own.round}, its teacher {teacher.path} of round {above.lineage.round}"
        )
    return None


def _may_follow(student: Manifest, teacher: Manifest) -> bool:
    own, above = student.lineage.round, teacher.lineage.round
    if own is None or above is None:
        return False
    is_other = (student.direction, student.sampler) != (teacher.direction, teacher.sampler)
    return own == above + 1 or (above == 0 and is_other)


def dependents(keys: Collection[str], artifacts: Sequence[Artifact]) -> list[Artifact]:
    """What was made from artifacts with these fingerprints, directly or not, in their order.

    Args:
        keys: fingerprints, or their first characters as records are named.
        artifacts: what to look among.
    """
    children: dict[str, list[Artifact]] = {}
    for artifact in artifacts:
        for parent in artifact.parents:
            children.setdefault(parent[:KEY_LENGTH], []).append(artifact)
    found: set[str] = set()
    waiting = [key[:KEY_LENGTH] for key in keys]
    while waiting:
        for made in children.pop(waiting.pop(), []):
            found.add(made.fingerprint)
            waiting.append(made.fingerprint[:KEY_LENGTH])
    return [artifact for artifact in artifacts if artifact.fingerprint in found]


def throw_away(run_dir: Path, damaged: Iterable[Damage]) -> list[Artifact]:
    """Remove what is damaged as its remedy says; what a run has to make again.

    What was made from it stays: stages are deterministic, so that an artifact made again has, as a
    rule, the same bytes, and then nothing that was made from it is wrong. With other bytes a run
    finds nothing that was made from the old ones, as fingerprints hold the bytes of parents.

    Args:
        run_dir: the run directory; nobody else is at work in it.
        damaged: what an examination of it found just now.
    """
    artifacts: list[Artifact] = []
    for damage in damaged:
        if damage.remedy == "redo":
            artifacts += _redo(run_dir, damage)
        elif damage.remedy == "drop record":
            _unlink(run_dir / damage.place)
        elif damage.remedy == "remove file":
            for name in damage.files:
                _unlink(run_dir / name)
    return artifacts


def _redo(run_dir: Path, damage: Damage) -> list[Artifact]:
    home, place = run_dir, damage.place
    if damage.kind == "checkpoint":
        home = (run_dir / place).parent
        place = Path(place).name
    artifact = take_inventory(home).current.get(place)
    if artifact is None:
        return []
    Ledger(home).forget(artifact)
    return [artifact] if home == run_dir else []


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
    sync(path.parent)
