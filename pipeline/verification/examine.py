"""Examine a run directory: every record, every file, every count, every number, and who made whom.

Nothing is changed and nothing is asked of anybody: the ledger and the files have to be enough.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.ledger import Artifact, Ledger
from pipeline.verification.contents import content_problem
from pipeline.verification.findings import Damage, Note, Remedy, Verdict
from pipeline.verification.inventory import Inventory, take_inventory
from pipeline.verification.lineage import dependents, lineage_problem, missing_parents
from pipeline.verification.strays import Strays, find_strays, intruders

Progress = Callable[[int, int], None]


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
