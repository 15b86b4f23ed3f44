"""Check that a round's teacher is undamaged and the student of the previous round."""

from pathlib import Path

from pipeline.bundle import read_manifest
from pipeline.errors import BundleError
from pipeline.ledger import Artifact, Ledger
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan


def check_teacher(run_dir: Path, plan: RoundPlan, teacher: Artifact) -> None:
    """Validate that a teacher is undamaged and belongs to this place in the chain.

    Args:
        run_dir: run directory.
        plan: the round.
        teacher: the teacher's bundle.

    Raises:
        BundleError: its files changed since the commit, or its manifest names another round or
            teacher.
    """
    ledger = Ledger(run_dir)
    damage = ledger.damage(teacher)
    if damage:
        raise BundleError(f"{plan.title}: teacher is damaged, {damage}; run stepfold repair")
    manifest = read_manifest(ledger.locate(teacher))
    index = manifest.lineage.round
    found = f"a {manifest.role}" if index is None else f"the {manifest.role} of round {index}"
    is_first = plan.parent in (None, TEACHER_ROUND)
    expected = "a teacher" if is_first else f"the student of round {plan.parent}"
    # an adopted teacher has no round, or one of another run
    if (manifest.role == "teacher") != is_first or (not is_first and index != plan.parent):
        raise BundleError(
            f"{plan.title}: the manifest in {teacher.path} is of {found}, expected {expected}; "
            "run stepfold repair"
        )
    if is_first:
        return
    above = manifest.lineage.parent
    if above not in {artifact.digest for artifact in ledger.records()}:
        raise BundleError(
            f"{plan.title}: the manifest in {teacher.path} has the unknown parent "
            f"{str(above)[:12]}; run stepfold repair"
        )
