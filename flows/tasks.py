"""The Prefect tasks of a run, one for each stage."""

from functools import partial

from flows.orchestration.artifacts import show_links, show_round, training_progress
from flows.orchestration.stage_task import StageObserver, emit_notes, finish, skipped, stage_task
from flows.run import CompletedRound, Run
from flows.tracking.round_tracking import (
    deliver_pending,
    log_accepted,
    log_result,
    registration_key,
    round_run_id,
    track_round,
)
from pipeline.ledger import Artifact
from pipeline.run_dir import layout
from pipeline.training.gate_policy import rules_of
from pipeline.training.plan import plan_teacher
from pipeline.training.round_plan import RoundPlan
from stages.chain import StageId, Step
from stages.data.encode import encode
from stages.data.shard import shard
from stages.evaluation import publish
from stages.evaluation.encoders import evaluate_encoders
from stages.evaluation.evaluate import evaluate
from stages.evaluation.sample_sets import SampleInputs
from stages.export.export import export_student, model_card_facts
from stages.report import page
from stages.rounds import promote
from stages.rounds.targets import pregenerate
from stages.rounds.train import find_student, train
from stages.teacher.adopt import adopt, adopt_components
from stages.teacher.components import components as make_components
from stages.teacher.step_check import few_step_notes
from stages.workspace import StageResult


@stage_task
def data_task(run: Run, step: Step) -> Artifact:
    """Shard the data set."""
    show_links(run)
    result = shard(run.workspace, StageObserver(run, step))
    emit_notes(run, step, result.value)
    return finish(run, step, result)


@stage_task
def components_task(run: Run, step: Step, data: Artifact) -> Artifact:
    """Train the components around the network, or copy those of the teacher's pipeline."""
    observer = StageObserver(run, step)
    if run.recipe.teacher.pipeline is not None:
        return finish(run, step, adopt_components(run.workspace, observer))
    return finish(run, step, make_components(run.workspace, data=data, observer=observer))


@stage_task
def encode_task(run: Run, step: Step, data: Artifact, components: Artifact) -> Artifact:
    """Encode the data set to latents and text embeddings."""
    observer = StageObserver(run, step)
    result = encode(run.workspace, data=data, components=components, observer=observer)
    emit_notes(run, step, result.value)
    return finish(run, step, result)


@stage_task
def teacher_task(run: Run, step: Step, samples: Artifact) -> Artifact:
    """Train the guided teacher, or adopt an existing one."""
    plan = plan_teacher(run.recipe)
    if plan is None:
        examine = partial(few_step_notes, run.workspace, samples)
        result = adopt(run.workspace, samples, StageObserver(run, step), examine)
        emit_notes(run, step, result.value)
        return finish(run, step, result)
    found = find_student(run.workspace, plan, samples, None)
    return finish(run, step, _train(run, step, plan, samples, None, None, found))


def round_targets(
    run: Run, plan: RoundPlan, samples: Artifact, teacher: Artifact, student: Artifact | None
) -> tuple[Artifact, ...] | None:
    """Run the targets stage of a round; returns None if targets are computed online."""
    if plan.targets.mode == "online":
        return None
    return targets_task(run, Step(StageId.TARGETS, plan), plan, samples, teacher, student)


@stage_task
def targets_task(
    run: Run,
    step: Step,
    plan: RoundPlan,
    samples: Artifact,
    teacher: Artifact,
    student: Artifact | None,
) -> tuple[Artifact, ...] | None:
    """Generate the targets of a round, unless its student is already committed."""
    if student is not None:
        return skipped(run, step, None)
    observer = StageObserver(run, step)
    result = pregenerate(run.workspace, plan, data=samples, teacher=teacher, observer=observer)
    return finish(run, step, result)


@stage_task
def train_task(
    run: Run,
    step: Step,
    plan: RoundPlan,
    samples: Artifact,
    teacher: Artifact,
    targets: tuple[Artifact, ...] | None,
    student: Artifact | None,
) -> Artifact:
    """Train the student of a round, unless it is already committed."""
    return finish(run, step, _train(run, step, plan, samples, teacher, targets, student))


def _train(
    run: Run,
    step: Step,
    plan: RoundPlan,
    samples: Artifact,
    teacher: Artifact | None,
    targets: tuple[Artifact, ...] | None,
    student: Artifact | None,
) -> StageResult[Artifact]:
    if student is not None:
        return StageResult(student, reused=True)
    observer = StageObserver(
        run, step, partial(track_round, run, plan), partial(training_progress, run, step.title)
    )
    with observer.working():
        trained = train(run.workspace, plan, data=samples, teacher=teacher, targets=targets)
    show_round(run, plan, log_result(run, plan, trained))
    return StageResult(trained, reused=False)


@stage_task
def promote_task(run: Run, step: Step, done: CompletedRound, teacher: Artifact) -> CompletedRound:
    """Check the student of a round and register it as the teacher of the next round.

    If the tracker is unreachable, the registration stays in the outbox and the run continues.
    """
    if run.workspace.ledger.find(promote.promotion_key(done.student)):
        return skipped(run, step, done)
    with StageObserver(run, step).working():
        promote.accept(run.workspace, done.plan, student=done.student, teacher=teacher)
        register(run, done)
    return done


def register(run: Run, done: CompletedRound) -> None:
    """Register the student of a round under the tracked run of its accepted attempt."""
    with run.outbox.delivering(registration_key(done.plan)):
        round_id = round_run_id(run, done.accepted, is_training=False)
        if rules_of(run.recipe, done.plan):
            log_accepted(run, done)
        registry = promote.Registry(run.tracker, run.recipe.run.name, round_id)
        promote.register(run.run_dir, done.plan, done.student, registry)


@stage_task
def evaluate_task(
    run: Run,
    step: Step,
    sample_inputs: SampleInputs,
    teacher: Artifact,
    students: tuple[Artifact, ...],
) -> Artifact:
    """Evaluate every student against the teacher and the training-free samplers."""
    result = evaluate(
        run.workspace,
        data=sample_inputs.data,
        teacher=teacher,
        students=students,
        components=sample_inputs.components,
        observer=StageObserver(run, step),
    )
    return finish(run, step, result)


@stage_task
def encoders_task(
    run: Run, step: Step, sample_inputs: SampleInputs, bundles: tuple[Artifact, ...]
) -> Artifact:
    """Evaluate the encoders by inversion round trips of students and teacher."""
    result = evaluate_encoders(
        run.workspace,
        bundles=bundles,
        sample_inputs=sample_inputs,
        observer=StageObserver(run, step),
    )
    if not result.reused:
        page.remove_page(run.run_dir)  # written without these encoders
        folder = run.workspace.ledger.locate(result.value)
        with run.outbox.delivering(step.id):
            files = [folder / name for name in sorted(result.value.files)]
            run.tracker.log_files(run.chain_id, files, layout.ENCODERS)
    return finish(run, step, result)


@stage_task
def export_task(
    run: Run,
    step: Step,
    plan: RoundPlan,
    student: Artifact,
    components: Artifact | None,
    report: Artifact,
) -> Artifact:
    """Export a student for stock diffusers and check its parity with the student."""
    facts = model_card_facts(run.run_dir, report, plan)
    observer = StageObserver(run, step)
    result = export_student(run.workspace, student, components, facts=facts, observer=observer)
    return finish(run, step, result)


@stage_task
def publish_task(
    run: Run, step: Step, report: Artifact, rounds: tuple[CompletedRound, ...]
) -> None:
    """Deliver pending updates of the tracker and log the report."""
    with StageObserver(run, step).working():
        deliver_pending(run, rounds)
        for each in rounds:
            if not run.workspace.ledger.find(promote.promotion_key(each.student)):
                register(run, each)
        with run.outbox.delivering(step.id):
            ids = {
                each.plan.index: round_run_id(run, each.accepted, is_training=False)
                for each in rounds
            }
            publish.publish(
                run.run_dir, report, tracker=run.tracker, chain_id=run.chain_id, round_ids=ids
            )
            for round_id in ids.values():
                run.tracker.finish(round_id, "FINISHED", unless_ended=True)


@stage_task
def page_task(run: Run, step: Step) -> None:
    """Write the HTML report beside the evaluation report, and log it."""
    path = page.page_of(run.run_dir)
    if path.is_file() and step.id not in run.outbox.pending():
        return skipped(run, step, None)
    with StageObserver(run, step).working():
        if not path.is_file():
            page.write_page(run.run_dir, run.recipe)
        with run.outbox.delivering(step.id):
            run.tracker.log_files(run.chain_id, [path], layout.REPORT)
    return None
