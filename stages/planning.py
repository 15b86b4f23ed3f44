"""What a run would do: each stage, done or not and why, and what it costs in counts and bytes."""

from pathlib import Path

from infra.profile import Profile
from pipeline.config import DigitCanvasesData, DigitsData, GaussianData, Recipe
from pipeline.data.counting import count_source
from pipeline.data.shards import read_info
from pipeline.ledger import Artifact, Ledger
from pipeline.training.plan import RoundPlan, plan_rounds, plan_teacher
from pipeline.training.plan_row import PlanRow
from stages.adopt import adopt_key
from stages.distill import find_student
from stages.evaluate import report_key
from stages.shard import shard_key

_FLOAT_BYTES = {"float32": 4, "float16": 2}
_RECORD_OVERHEAD = 40  # t and w in float64, tuple, sample and label in int64


def describe(recipe: Recipe, profile: Profile, run_dir: Path) -> list[PlanRow]:
    """One row for each stage of the chain, in order.

    A stage after one that is not done cannot be looked up (its fingerprint holds the content of
    its inputs), so it is to do.
    """
    ledger = Ledger(run_dir)
    data = ledger.find(shard_key(recipe))
    count = _train_count(recipe, ledger, data)
    rows = [_row("shard the data", data, "not in this run directory yet")]
    teacher = _teacher(recipe, profile, run_dir, data)
    training = plan_teacher(recipe)
    rows.append(
        _row(
            "teacher",
            teacher,
            "no teacher of this recipe and data is committed",
            updates=training.training.updates if training else 0,
            student_evaluations=training.samples_seen if training else 0,
        )
    )
    rows += _rounds(recipe, profile, ledger, (data, teacher), count)
    return rows


def _rounds(
    recipe: Recipe,
    profile: Profile,
    ledger: Ledger,
    origin: tuple[Artifact | None, Artifact | None],
    count: int,
) -> list[PlanRow]:
    """The rounds and the report, given the data and the first teacher as far as they are done."""
    data, teacher = first = origin
    rows, students = [], []
    for plan in plan_rounds(recipe):
        student, reason = None, "its teacher is to do"
        if data and teacher:
            student = find_student(ledger.run_dir, recipe, profile, plan, data, teacher)
            reason = "no student of this plan and teacher is committed"
        rows += _round_rows(recipe, plan, student, reason, count)
        students += [student] if student else []
        teacher = student
    report, reason = None, "the students are not all done"
    if data and first[1] and teacher:
        report = ledger.find(report_key(recipe, data, first[1], students))
        reason = "no report on these students is committed"
    rows.append(_row("evaluate", report, reason, **_evaluation_cost(recipe)))
    return rows


def _teacher(
    recipe: Recipe, profile: Profile, run_dir: Path, data: Artifact | None
) -> Artifact | None:
    if data is None:
        return None
    plan = plan_teacher(recipe)
    if plan is None:
        return Ledger(run_dir).find(adopt_key(recipe, data))
    return find_student(run_dir, recipe, profile, plan, data, None)


def _train_count(recipe: Recipe, ledger: Ledger, data: Artifact | None) -> int:
    if data is None:
        return _expected_train_count(recipe)
    return read_info(ledger.locate(data)).splits["train"].count


def _round_rows(
    recipe: Recipe, plan: RoundPlan, student: Artifact | None, reason: str, count: int
) -> list[PlanRow]:
    rows = []
    calls = (plan.folded or 1) * (2 if plan.method == "guidance" else 1)
    online = recipe.targets.mode == "online"
    if not online:
        tuples = recipe.passes(plan.training, count) * count
        rows.append(
            _row(
                f"{plan.title}, pre-generate targets",
                student,
                reason,
                tuples=tuples,
                bytes=tuples * _record_bytes(recipe),
                teacher_evaluations=tuples * calls,
            )
        )
    rows.append(
        _row(
            f"{plan.title}, distil",
            student,
            reason,
            updates=plan.training.updates,
            student_evaluations=plan.samples_seen,
            teacher_evaluations=plan.samples_seen * calls if online else 0,
        )
    )
    return rows


def _evaluation_cost(recipe: Recipe) -> dict[str, int]:
    """Network evaluations of a report: teacher twice at its reference, samplers, students."""
    asked = recipe.evaluation
    students = recipe.halving.first_steps + sum(recipe.halving.steps[1:])
    solver_steps = 2 * recipe.teacher.reference_steps + 2 * sum(asked.baseline_steps)
    calls = sum(1 if w == 0 else 2 for w in asked.w)
    return {
        "teacher_evaluations": asked.num_samples * solver_steps * calls,
        "student_evaluations": asked.num_samples * students * len(asked.w),
    }


def _expected_train_count(recipe: Recipe) -> int:
    return round(count_source(recipe)[0] * (1 - recipe.data.holdout))


def _record_bytes(recipe: Recipe) -> int:
    match recipe.data:
        case DigitsData():
            numbers = 64
        case DigitCanvasesData(size=size):
            numbers = 3 * size**2
        case GaussianData():
            means = getattr(recipe.teacher.network, "means", ((0.0,),))
            numbers = len(means[0])
        case folder:
            numbers = folder.channels * folder.size**2
    return 2 * numbers * _FLOAT_BYTES[recipe.targets.dtype] + _RECORD_OVERHEAD


def _row(
    label: str,
    artifact: Artifact | None,
    reason: str,
    **counts: int,
) -> PlanRow:
    zero = dict.fromkeys(
        ("updates", "tuples", "bytes", "teacher_evaluations", "student_evaluations"), 0
    )
    if artifact:
        return PlanRow(
            label=label, state="done", reason=f"committed as {artifact.digest[:12]}", **zero
        )
    return PlanRow(label=label, state="to do", reason=reason, **(zero | counts))
