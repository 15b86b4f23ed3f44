"""Throw away what is damaged, and no more; then what turned out to be made from something else."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.durable import sync
from pipeline.ledger import KEY_LENGTH, Artifact, Ledger
from pipeline.verification.findings import Damage
from pipeline.verification.inventory import Inventory, take_inventory
from pipeline.verification.lineage import dependents


@dataclass(frozen=True)
class Thrown:
    """What was thrown away.

    Attributes:
        artifacts: those to be made anew.
        before: every record there was, which tells later what had been made from them.
    """

    artifacts: tuple[Artifact, ...]
    before: tuple[Artifact, ...]


def throw_away(run_dir: Path, damaged: Iterable[Damage]) -> Thrown:
    """Remove what is damaged as its remedy says.

    What was made from it stays: stages are deterministic, so that an artifact made anew has, as a
    rule, the same bytes, and then nothing that was made from it is wrong.

    Args:
        run_dir: the run directory; nobody else is at work in it.
        damaged: what an examination of it found just now.
    """
    inventory = take_inventory(run_dir)
    before = (*inventory.current.values(), *inventory.superseded)
    artifacts: list[Artifact] = []
    for damage in damaged:
        if damage.remedy == "redo":
            artifacts += _redo(run_dir, damage)
        elif damage.remedy == "drop record":
            _unlink(run_dir / damage.place)
        elif damage.remedy == "remove file":
            for name in damage.files:
                _unlink(run_dir / name)
    return Thrown(tuple(artifacts), before)


def forget_stale(run_dir: Path, thrown: Thrown) -> list[Artifact]:
    """After the thrown was made anew: forget what was made from it, if it came out differently.

    Fingerprints of what is made from an artifact hold its bytes. So a run has made other artifacts
    by now, and nothing will look for these again.

    Args:
        run_dir: the run directory; nobody else is at work in it.
        thrown: what `throw_away` removed.

    Returns:
        What was forgotten.
    """
    inventory = take_inventory(run_dir)
    changed = [old.fingerprint for old in thrown.artifacts if _is_other(old, inventory)]
    left = {*inventory.by_key}
    made = dependents(changed, thrown.before)
    stale = [artifact for artifact in made if artifact.fingerprint[:KEY_LENGTH] in left]
    for artifact in stale:
        if inventory.current.get(artifact.path) == artifact:
            Ledger(run_dir).forget(artifact)
        else:  # what lies there belongs to a newer record
            _unlink(Ledger(run_dir).record_path(artifact.fingerprint))
    return stale


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


def _is_other(old: Artifact, inventory: Inventory) -> bool:
    new = inventory.by_key.get(old.fingerprint[:KEY_LENGTH])
    return new is not None and new.digest != old.digest


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
    sync(path.parent)
