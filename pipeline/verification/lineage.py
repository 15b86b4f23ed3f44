"""Who was made from whom: parents exist, and students name their teachers by content."""

from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.bundle import Manifest, read_manifest
from pipeline.errors import BundleError
from pipeline.ledger import KEY_LENGTH, Artifact
from pipeline.verification.inventory import Inventory

_BUNDLES = ("teacher", "student")


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
