"""A round's teacher has to be the student of the round before: looked at before it is asked."""

from pathlib import Path

from pipeline.bundle import read_manifest
from pipeline.errors import BundleError
from pipeline.ledger import Artifact, Ledger
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan


def check_teacher(run_dir: Path, plan: RoundPlan, teacher: Artifact) -> None:
    """Refuse a teacher that is damaged, or of another place in the chain.

    Args:
        run_dir: the run directory.
        plan: the round it is to teach.
        teacher: its bundle.

    Raises:
        BundleError: files changed since the commit, or its manifest says something else.
    """
    ledger = Ledger(run_dir)
    damage = ledger.damage(teacher)
    if damage:
        raise BundleError(f"{plan.title}: its teacher is damaged, {damage}; run stepfold repair")
    manifest = read_manifest(ledger.locate(teacher))
    index = manifest.lineage.round
    told = f"a {manifest.role}" if index is None else f"the {manifest.role} of round {index}"
    is_first = plan.parent in (None, TEACHER_ROUND)
    expected = "a teacher" if is_first else f"the student of round {plan.parent}"
    # an adopted teacher says nothing of rounds, or something of its own
    if (manifest.role == "teacher") != is_first or (not is_first and index != plan.parent):
        raise BundleError(
            f"{plan.title}: its teacher has to be {expected}; the manifest in {teacher.path} says "
            f"it is {told}. Run stepfold repair"
        )
    if is_first:
        return
    above = manifest.lineage.parent
    if above not in {artifact.digest for artifact in ledger.records()}:
        raise BundleError(
            f"{plan.title}: the manifest in {teacher.path} names {str(above)[:12]} as its own "
            "teacher, which this run never had. Run stepfold repair"
        )
