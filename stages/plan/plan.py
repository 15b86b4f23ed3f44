"""What `stepfold plan` shows of one stage."""

import tempfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt

from pipeline.bundle import read_manifest
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.data.shards.dataset_info import read_info
from pipeline.data.sources.counting import count_source
from pipeline.documents import Document
from pipeline.ledger import Artifact, Ledger
from pipeline.training.plan import plan_decoders, plan_rounds, plan_teacher
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan
from stages.chain import DISTIL, JUDGE, TARGETS
from stages.data.encode import encode_key
from stages.data.shard import shard_key
from stages.evaluation.encoders import LABEL as ENCODERS_LABEL
from stages.evaluation.encoders import translation_key
from stages.evaluation.evaluate import report_key
from stages.evaluation.sample_sets import Subject
from stages.export.export import export_key, export_label, report_facts
from stages.gate.attempts import Setting, find_accepted
from stages.plan.costs import data_cost, gate_costs, report_cost
from stages.plan.sizes import Shape, trained_shape
from stages.rounds.train import find_student
from stages.teacher.adopt import adopt_key, adopted_components_key
from stages.teacher.components import components_key


class PlanRow(Document):
    """One stage of a chain: done or to do, why, and what it costs if it runs.

    Attributes:
        label: the stage as a person calls it.
        state: whether its result is committed.
        reason: what is committed, or why nothing is.
        updates: optimiser updates.
        tuples: targets computed ahead of time.
        bytes: what those occupy.
        teacher_evaluations: network evaluations of the teacher, one sample each.
        student_evaluations: network evaluations of the student, one sample each.
    """

    label: str
    state: Literal["done", "to do"]
    reason: str
    updates: NonNegativeInt = 0
    tuples: NonNegativeInt = 0
    bytes: NonNegativeInt = 0
    teacher_evaluations: NonNegativeInt = 0
    student_evaluations: NonNegativeInt = 0


_FLOAT_BYTES = {"float32": 4, "float16": 2}

_RECORD_OVERHEAD = 32  # t and w in float64, tuple and sample in int64


@dataclass(frozen=True)
class Sizes:
    """What costs depend on besides the recipe.

    Attributes:
        train: samples that are trained on.
        total: those and the held-out ones.
        shape: of a sample as the network sees it.
    """

    train: int
    total: int
    shape: Shape


def committed_sizes(run_dir: Path) -> Sizes:
    """Those of a run that has its data and its teacher, wherever these came from.

    Raises:
        DataError: there are no data.
        BundleError: there is no teacher.
    """
    train, total = _committed_counts(run_dir / "data")
    return Sizes(train, total, read_manifest(run_dir / "teacher").latent_shape)


def describe(recipe: Recipe, profile: Profile, run_dir: Path) -> list[PlanRow]:
    """One row for each stage of the chain, in order.

    A stage after one that is not done cannot be looked up (its fingerprint holds the content of
    its inputs), so it is to do.
    """
    ledger = Ledger(run_dir)
    done = _find_origin(recipe, profile, ledger)
    return _described(recipe, profile, ledger, done, _sizes(recipe, ledger, done.data))


def describe_undone(recipe: Recipe, sizes: Sizes) -> list[PlanRow]:
    """The same rows as if nothing were done, so that all of it is counted; no source is read."""
    with tempfile.TemporaryDirectory() as empty:
        nothing = _Origin(None, None, None, None)
        return _described(recipe, Profile(), Ledger(Path(empty)), nothing, sizes)


def _described(
    recipe: Recipe, profile: Profile, ledger: Ledger, done: "_Origin", sizes: Sizes
) -> list[PlanRow]:
    rows = [_row("shard the data", done.data, "not in this run directory yet")]
    if recipe.teacher.has_components:
        rows.append(_row("components", done.components, "not in this run directory yet"))
        reason = "these components did not encode it yet"
        rows.append(_row("encode the data", done.samples, reason, **data_cost(recipe, sizes.total)))
    training = plan_teacher(recipe)
    rows.append(
        _row(
            "teacher",
            done.teacher,
            "no teacher of this recipe and data is committed",
            updates=training.training.updates if training else 0,
            student_evaluations=training.samples_seen if training else 0,
        )
    )
    rows += _rounds(recipe, profile, ledger, done, sizes)
    return rows


@dataclass(frozen=True)
class _Origin:
    """What the rounds start from, as far as it is done; `samples` is `data` without components."""

    data: Artifact | None
    components: Artifact | None
    samples: Artifact | None
    teacher: Artifact | None


def _find_origin(recipe: Recipe, profile: Profile, ledger: Ledger) -> _Origin:
    data = ledger.find(shard_key(recipe))
    parts, samples = None, data
    if recipe.teacher.has_components:
        parts = _find_components(recipe, ledger, data)
        samples = ledger.find(encode_key(recipe, data, parts)) if data and parts else None
    return _Origin(data, parts, samples, _teacher(recipe, profile, ledger.run_dir, samples))


def _find_components(recipe: Recipe, ledger: Ledger, data: Artifact | None) -> Artifact | None:
    if recipe.teacher.pipeline is not None:
        return ledger.find(adopted_components_key(recipe))
    return ledger.find(components_key(recipe, data)) if data else None


def _rounds(
    recipe: Recipe, profile: Profile, ledger: Ledger, done: _Origin, sizes: Sizes
) -> list[PlanRow]:
    """The rounds and the report, given what they start from as far as it is done."""
    data, rows, gates = done.samples, [], gate_costs(recipe)
    made: dict[int | None, Artifact | None] = {TEACHER_ROUND: done.teacher}
    for plan in plan_rounds(recipe):
        teacher = made[plan.parent]
        student, reason = None, "its teacher is to do"
        if data and teacher:
            subject = Subject(done.data or data, done.components)
            setting = Setting(ledger.run_dir, recipe, profile, data, teacher, subject)
            student = find_accepted(setting, plan)
            reason = "no student of this plan and teacher is committed"
        rows += _round_rows(recipe, plan, student, reason, sizes)
        if plan.index in gates:
            rows.append(_row(plan.title + JUDGE, student, reason, **gates[plan.index]))
        made[plan.index] = student
    decoders = [made[plan.index] for plan in plan_decoders(recipe)]
    students = [student for student in decoders if student]
    report, reason = None, "the students are not all done"
    if done.data and done.teacher and all(decoders):
        subject = Subject(done.data, done.components)
        report = ledger.find(report_key(recipe, subject, done.teacher, students))
        reason = "no report on these students is committed"
    rows.append(_row("evaluate", report, reason, **report_cost(recipe)))
    if recipe.encoding is not None:
        rows.append(_encoders_row(recipe, ledger, done, made))
    if recipe.teacher.has_components:
        rows += _export_rows(recipe, ledger, done.components, students, report)
    return rows


def _encoders_row(
    recipe: Recipe, ledger: Ledger, done: _Origin, made: dict[int | None, Artifact | None]
) -> PlanRow:
    report = None
    bundles = [bundle for bundle in made.values() if bundle]
    if done.data and len(bundles) == len(made):
        subject = Subject(done.data, done.components)
        report = ledger.find(translation_key(recipe, subject, bundles))
    return _row(ENCODERS_LABEL, report, "no report on these encoders is committed")


def _export_rows(
    recipe: Recipe,
    ledger: Ledger,
    parts: Artifact | None,
    students: list[Artifact],
    report: Artifact | None,
) -> list[PlanRow]:
    rows = []
    for plan in plan_decoders(recipe):
        if plan.exported_steps is None:
            continue
        exported = None
        if parts and report:
            facts = report_facts(ledger.run_dir, report, plan)
            exported = ledger.find(export_key(students[plan.index], parts, facts))
        rows.append(_row(export_label(plan.exported_steps), exported, "not exported yet"))
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


def _sizes(recipe: Recipe, ledger: Ledger, data: Artifact | None) -> Sizes:
    """As far as they are known; what is not committed yet is expected of the source."""
    if data is not None:
        train, total = _committed_counts(ledger.locate(data))
    else:
        total = count_source(recipe)[0]
        train = round(total * (1 - recipe.data.holdout))
    return Sizes(train, total, trained_shape(recipe))


def _committed_counts(data: Path) -> tuple[int, int]:
    """Samples of a data set that are trained on, and all of them."""
    counts = {name: split.count for name, split in read_info(data).splits.items()}
    return counts["train"], sum(counts.values())


def round_rows(recipe: Recipe, plan: RoundPlan, sizes: Sizes) -> list[PlanRow]:
    """A round of which nothing is done: its targets, unless they are computed online; training."""
    return _round_rows(recipe, plan, None, "", sizes)


def _round_rows(
    recipe: Recipe, plan: RoundPlan, student: Artifact | None, reason: str, sizes: Sizes
) -> list[PlanRow]:
    rows = []
    calls = plan.evaluations_per_target * (2 if plan.method == "guidance" else 1)
    online = recipe.targets.mode == "online"
    if not online:
        tuples = recipe.passes(plan.training, sizes.train) * sizes.train
        rows.append(
            _row(
                plan.title + TARGETS,
                student,
                reason,
                tuples=tuples,
                bytes=tuples * _record_bytes(recipe, sizes.shape),
                teacher_evaluations=round(tuples * calls),
            )
        )
    rows.append(
        _row(
            plan.title + DISTIL,
            student,
            reason,
            updates=plan.training.updates,
            student_evaluations=round(plan.samples_seen * plan.evaluations_per_sample),
            teacher_evaluations=round(plan.samples_seen * calls) if online else 0,
        )
    )
    return rows


def _record_bytes(recipe: Recipe, shape: Shape) -> int:
    return 2 * prod(shape) * _FLOAT_BYTES[recipe.targets.dtype] + _RECORD_OVERHEAD


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
