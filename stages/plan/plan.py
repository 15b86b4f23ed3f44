"""Dry run of a recipe: the state of every stage, with the reason, and its cost."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Literal

from pipeline.bundle import read_manifest
from pipeline.config import Recipe
from pipeline.data.latents import read_latents_info
from pipeline.data.shards.dataset_info import read_info
from pipeline.data.sources.datasets import count_source, load_source
from pipeline.ledger import Artifact, Ledger
from pipeline.run_dir import layout
from pipeline.shapes import LatentShape
from pipeline.training.plan import plan_decoders, plan_teacher
from pipeline.training.round_plan import RoundPlan
from stages.chain import Inputs, Operations, StageId, Step, Students, walk
from stages.data.encode import encode_key
from stages.data.shard import shard_key
from stages.evaluation.encoders import encoders_key
from stages.evaluation.evaluate import report_key
from stages.evaluation.sample_sets import SampleInputs
from stages.export.export import export_key, model_card_facts
from stages.gate.attempts import GateContext, find_accepted, refusal_of_promoted
from stages.plan.costs import calls_of_teacher, data_cost, gate_costs, report_cost
from stages.plan.sizes import trained_shape
from stages.rounds.train import find_student
from stages.teacher.adopt import adopt_key, adopted_components_key
from stages.teacher.components import components_key
from stages.workspace import Workspace, data_notes

_FLOAT_BYTES = {"float32": 4, "float16": 2}
_RECORD_OVERHEAD = 32  # t and w in float64, tuple and sample in int64


@dataclass(frozen=True)
class PlanRow:
    """One stage of a run: done or to do, the reason, and its cost.

    Attributes:
        step: the stage.
        state: whether its result is committed.
        reason: digest of the result, or why the stage is to do.
        updates: optimiser updates.
        tuples: pregenerated targets.
        bytes: size of these targets.
        teacher_evaluations: network evaluations of the teacher, one sample each.
        student_evaluations: network evaluations of the student, one sample each.
    """

    step: Step
    state: Literal["done", "to do"]
    reason: str
    updates: int = 0
    tuples: int = 0
    bytes: int = 0
    teacher_evaluations: int = 0
    student_evaluations: int = 0


@dataclass(frozen=True)
class Sizes:
    """Inputs of costs besides the recipe.

    Attributes:
        train: number of training samples.
        total: number of training and held-out samples.
        shape: shape of a sample as the network receives it.
        takes_w: whether the first teacher has an input for w, so that guidance is one evaluation.
    """

    train: int
    total: int
    shape: LatentShape
    takes_w: bool = False


def plan_run(work: Workspace) -> list[PlanRow]:
    """Return one row for each stage of the chain, in order.

    A stage after an unfinished one cannot be looked up, because its fingerprint contains the
    content of its inputs; it is to do.
    """
    recipe, ledger = work.recipe, work.ledger
    data = ledger.find(shard_key(recipe))
    return _plan_rows(_PlanOperations(work, _sizes(recipe, ledger, data), data))


def plan_notes(work: Workspace, rows: Sequence[PlanRow]) -> tuple[str, ...]:
    """Return the notes on the committed data, or on the data as listed by the source.

    Args:
        work: the run.
        rows: the rows of `plan_run`.

    Raises:
        DataError: the source is missing, or does not match the recipe.
    """
    recipe = work.recipe
    done = {row.step.stage for row in rows if row.state == "done"}
    stages = {StageId.DATA: layout.DATA, StageId.ENCODE: layout.LATENTS}
    stages |= {StageId.TEACHER: layout.TEACHER}
    places = [place for stage, place in stages.items() if stage in done]
    known = data_notes(work.layout, places)
    reads_files = "path" in type(recipe.data).model_fields
    if StageId.ENCODE in done or not reads_files:
        return known
    source = load_source(recipe.data, recipe.run.seed, recipe.teacher.network)
    found = known if StageId.DATA in done else source.findings.sentences
    components = _components_of(work)
    if source.texts is None or components is None:
        return found
    from pipeline.models.stock.long_prompts import long_prompts_note  # imports diffusers

    note = long_prompts_note(components, source.texts, "caption")
    return (*found, note) if note else found


def _components_of(work: Workspace) -> Path | None:
    """Return the directory of the text encoders: the teacher's pipeline, or those of the run."""
    if work.recipe.teacher.pipeline is not None:
        return Path(work.recipe.teacher.pipeline)
    own = work.run_dir / layout.COMPONENTS
    return own if own.is_dir() else None


def committed_sizes(run_dir: Path) -> Sizes:
    """Return the sizes of a run with committed data and teacher.

    Raises:
        DataError: the run has no data.
        BundleError: the run has no teacher.
    """
    train, total = _committed_counts(run_dir / layout.DATA)
    if (run_dir / layout.LATENTS).is_dir():  # an image may have several, with a mask each
        train = read_latents_info(run_dir / layout.LATENTS).splits["train"].count
    teacher = read_manifest(run_dir / layout.TEACHER)
    return Sizes(train, total, teacher.latent_shape, takes_w=teacher.is_w_conditioned)


def plan_from_scratch(recipe: Recipe, sizes: Sizes) -> list[PlanRow]:
    """Return the rows of a run without any committed stage; no source is read."""
    with tempfile.TemporaryDirectory() as empty:
        return _plan_rows(_PlanOperations(Workspace(Path(empty), recipe), sizes, None))


def _plan_rows(operations: "_PlanOperations") -> list[PlanRow]:
    walk(operations.work.recipe, operations)
    return operations.rows


@dataclass
class _PlanOperations(Operations[Artifact | None]):
    """Looks every stage up and collects its row; None is a missing artifact."""

    work: Workspace
    sizes: Sizes
    found_data: Artifact | None
    rows: list[PlanRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._gates = gate_costs(self.work.recipe)

    def _row(
        self,
        step: Step,
        artifact: Artifact | None,
        reason: str,
        **counts: int,
    ) -> Artifact | None:
        self.rows.append(_row(step, artifact, reason, **counts))
        return artifact

    def data(self) -> Artifact | None:
        return self._row(Step(StageId.DATA), self.found_data, "not in this run directory yet")

    def components(self, data: Artifact | None) -> Artifact | None:
        recipe, found = self.work.recipe, None
        if recipe.teacher.pipeline is not None:
            found = self.work.ledger.find(adopted_components_key(recipe))
        elif data:
            found = self.work.ledger.find(components_key(recipe, data))
        return self._row(Step(StageId.COMPONENTS), found, "not in this run directory yet")

    def encode(self, data: Artifact | None, components: Artifact | None) -> Artifact | None:
        recipe, found = self.work.recipe, None
        if data and components:
            found = self.work.ledger.find(encode_key(recipe, data, components))
        cost = data_cost(recipe, self.sizes.total)
        reason = "not encoded with these components yet"
        return self._row(Step(StageId.ENCODE), found, reason, **cost)

    def teacher(self, samples: Artifact | None) -> Artifact | None:
        plan, found = plan_teacher(self.work.recipe), None
        if samples and plan is None:
            found = self.work.ledger.find(adopt_key(self.work.recipe, samples))
        elif samples and plan is not None:
            found = find_student(self.work, plan, samples, None)
        return self._row(
            Step(StageId.TEACHER, plan),
            found,
            "no teacher of this recipe and data is committed",
            updates=plan.training.updates if plan else 0,
            student_evaluations=plan.samples_seen if plan else 0,
        )

    def round(self, plan: RoundPlan, inputs: Inputs[Artifact | None]) -> Artifact | None:
        student, trained, reason = None, None, "its teacher is not finished"
        refusal = ""
        is_ready = plan.init_from is None or inputs.start is not None
        if inputs.samples and inputs.teacher and inputs.data and is_ready:
            plan = plan.starting_from(inputs.start)
            sample_inputs = SampleInputs(inputs.data, inputs.components)
            context = GateContext(self.work, inputs.samples, inputs.teacher, sample_inputs)
            student = find_accepted(context, plan)
            refusal = "" if student else refusal_of_promoted(context, plan)
            trained = student or context.find_student(plan)
            reason = "no student of this plan and teacher is committed"
        self.rows += round_rows(plan, self.sizes, trained, reason)
        if plan.index in self._gates:
            if trained:
                reason = (
                    f"its promoted student {refusal}"
                    if refusal
                    else "its student has not passed the gate"
                )
            self._row(Step(StageId.JUDGE, plan), student, reason, **self._gates[plan.index])
        return student

    def evaluate(self, students: Students[Artifact | None]) -> Artifact | None:
        recipe, report, reason = self.work.recipe, None, "not all students are finished"
        decoders = [each for each in students.decoders(recipe) if each]
        if students.data and students.teacher and len(decoders) == len(plan_decoders(recipe)):
            sample_inputs = SampleInputs(students.data, students.components)
            report = self.work.ledger.find(
                report_key(recipe, sample_inputs, students.teacher, decoders)
            )
            reason = "no report of these students is committed"
        return self._row(Step(StageId.EVALUATE), report, reason, **report_cost(recipe))

    def publish(self, report: Artifact | None) -> None:
        """Costs nothing."""

    def encoders(self, students: Students[Artifact | None]) -> None:
        report = None
        bundles = [bundle for bundle in students.bundles() if bundle]
        if students.data and len(bundles) == len(students.bundles()):
            sample_inputs = SampleInputs(students.data, students.components)
            report = self.work.ledger.find(encoders_key(self.work.recipe, sample_inputs, bundles))
        self._row(Step(StageId.ENCODERS), report, "no report of these encoders is committed")

    def export(
        self,
        plan: RoundPlan,
        student: Artifact | None,
        components: Artifact | None,
        report: Artifact | None,
    ) -> None:
        exported = None
        has_parts = components is not None or not self.work.recipe.teacher.has_components
        if student and has_parts and report:
            facts = model_card_facts(self.work.run_dir, report, plan)
            exported = self.work.ledger.find(export_key(student, components, facts))
        self._row(Step(StageId.EXPORT, plan), exported, "not exported yet")

    def page(self) -> None:
        """Costs nothing."""


def _sizes(recipe: Recipe, ledger: Ledger, data: Artifact | None) -> Sizes:
    """Return the committed sizes, or those expected from the source."""
    if data is not None:
        train, total = _committed_counts(ledger.locate(data))
    else:
        total = count_source(recipe)[0]
        train = round(total * (1 - recipe.data.holdout))
    train *= recipe.samples_per_image
    takes_w = recipe.teacher.network.takes_w
    return Sizes(train, total, trained_shape(recipe), takes_w=takes_w)


def _committed_counts(data: Path) -> tuple[int, int]:
    """Return the number of training samples, and of all samples."""
    counts = {name: split.count for name, split in read_info(data).splits.items()}
    return counts["train"], sum(counts.values())


def round_rows(
    plan: RoundPlan,
    sizes: Sizes,
    student: Artifact | None = None,
    reason: str = "",
) -> list[PlanRow]:
    """Return the rows of a round: targets, unless computed online, and training.

    Without a committed `student`, they are to do for the `reason`.
    """
    rows = []
    calls = plan.config.evaluations_per_target * calls_of_teacher(plan, takes_w=sizes.takes_w)
    online = plan.targets.mode == "online"
    if not online:
        tuples = plan.passes(sizes.train) * sizes.train
        rows.append(
            _row(
                Step(StageId.TARGETS, plan),
                student,
                reason,
                tuples=tuples,
                bytes=tuples * _record_bytes(plan, sizes.shape),
                teacher_evaluations=round(tuples * calls),
            )
        )
    rows.append(
        _row(
            Step(StageId.TRAIN, plan),
            student,
            reason,
            updates=plan.training.updates,
            student_evaluations=round(plan.samples_seen * plan.config.evaluations_per_sample),
            teacher_evaluations=round(plan.samples_seen * calls) if online else 0,
        )
    )
    return rows


def _record_bytes(plan: RoundPlan, shape: LatentShape) -> int:
    return 2 * prod(shape) * _FLOAT_BYTES[plan.targets.dtype] + _RECORD_OVERHEAD


def _row(step: Step, artifact: Artifact | None, reason: str, **counts: int) -> PlanRow:
    if artifact:
        return PlanRow(step, "done", f"committed as {artifact.digest[:12]}")
    return PlanRow(step, "to do", reason, **counts)
