"""The tasks of every chain, one for each stage."""

from flows.orchestration.artifacts import show_links, show_round, training_shown
from flows.orchestration.stage_task import perform, skipped, stage_task, telling
from flows.run import MadeRound, Run
from flows.tracking.rounds import (
    promotion_of,
    round_run,
    tell_accepted,
    tell_missed,
    tell_result,
    tracked_round,
)
from pipeline.ledger import Artifact, Ledger
from pipeline.training.gate_policy import rules_of
from pipeline.training.plan import plan_teacher
from pipeline.training.round_plan import RoundPlan
from stages.chain import TARGETS
from stages.data import encode, shard
from stages.evaluation import encoders, evaluate, publish
from stages.evaluation.sample_sets import Subject
from stages.export import export
from stages.report import page
from stages.rounds import promote, train
from stages.rounds.targets import pregenerate
from stages.teacher import adopt, components


@stage_task
def shard_task(run: Run, label: str) -> Artifact:
    """The data set as shards."""
    show_links(run)
    found = Ledger(run.run_dir).find(shard.shard_key(run.recipe))
    if found:
        return skipped(run, label, found)
    return perform(run, label, lambda: shard.shard(run.recipe, run.run_dir))


@stage_task
def teacher_task(run: Run, label: str, data: Artifact) -> Artifact:
    """The guided teacher: trained here, or taken in."""
    plan = plan_teacher(run.recipe)
    if plan is None:
        found = Ledger(run.run_dir).find(adopt.adopt_key(run.recipe, data))
        if found:
            return skipped(run, label, found)
        return perform(run, label, lambda: adopt.adopt(run.run_dir, run.recipe, data))
    return _train(run, label, plan, data, None, None)


def targets_of(
    run: Run, plan: RoundPlan, data: Artifact, teacher: Artifact
) -> tuple[Artifact, ...] | None:
    """The round's targets; None, and no stage, where they are computed online."""
    if run.recipe.targets.mode == "online":
        return None
    return pregenerate_task(run, plan.title + TARGETS, plan, data, teacher)


@stage_task
def pregenerate_task(
    run: Run, label: str, plan: RoundPlan, data: Artifact, teacher: Artifact
) -> tuple[Artifact, ...] | None:
    """The round's targets, made ahead, unless nobody needs them any more."""
    if train.find_student(run.run_dir, run.recipe, run.profile, plan, data, teacher):
        return skipped(run, label, None)

    return perform(
        run,
        label,
        lambda: pregenerate(
            run.run_dir,
            run.recipe,
            run.profile,
            plan,
            data=data,
            teacher=teacher,
            progress=telling(run, label),
        ),
    )


@stage_task
def distill_task(
    run: Run,
    label: str,
    plan: RoundPlan,
    data: Artifact,
    teacher: Artifact,
    targets: tuple[Artifact, ...] | None,
) -> Artifact:
    """The round's student."""
    return _train(run, label, plan, data, teacher, targets)


def _train(
    run: Run,
    label: str,
    plan: RoundPlan,
    data: Artifact,
    teacher: Artifact | None,
    targets: tuple[Artifact, ...] | None,
) -> Artifact:
    found = train.find_student(run.run_dir, run.recipe, run.profile, plan, data, teacher)
    if found:
        return skipped(run, label, found)
    with tracked_round(run, plan), training_shown(run, label):
        made = perform(
            run,
            label,
            lambda: train.distill(
                run.run_dir,
                run.recipe,
                run.profile,
                plan,
                data=data,
                teacher=teacher,
                targets=targets,
            ),
        )
    show_round(run, plan, tell_result(run, plan, made))
    return made


@stage_task
def promote_task(run: Run, label: str, made: MadeRound, teacher: Artifact) -> MadeRound:
    """The student becomes the next round's teacher, if it deserves it.

    Without MLflow it is checked and goes on all the same; its registration is owed.
    """
    if Ledger(run.run_dir).find(promote.promotion_key(made.student)):
        return skipped(run, label, made)

    def work() -> MadeRound:
        promote.accept(
            run.run_dir,
            made.plan,
            student=made.student,
            teacher=teacher,
            keep_targets=run.recipe.targets.keep,
        )
        register(run, made)
        return made

    return perform(run, label, work)


def register(run: Run, made: MadeRound) -> None:
    """Register the student of a round, as made by the attempt that it came from."""
    with run.owed.telling(promotion_of(made.plan)):
        round_id = round_run(run, made.accepted, is_at_work=False)
        if rules_of(run.recipe, made.plan):
            tell_accepted(run, made)
        registry = promote.Registry(run.store, run.recipe.run.name, round_id)
        promote.register(run.run_dir, made.plan, made.student, registry)


@stage_task
def evaluate_task(
    run: Run,
    label: str,
    data: Artifact,
    teacher: Artifact,
    students: tuple[Artifact, ...],
    parts: Artifact | None,
) -> Artifact:
    """The report: every student against the teacher and the training-free samplers."""
    key = evaluate.report_key(run.recipe, Subject(data, parts), teacher, students)
    found = Ledger(run.run_dir).find(key)
    if found:
        return skipped(run, label, found)
    return perform(
        run,
        label,
        lambda: evaluate.evaluate(
            run.run_dir,
            run.recipe,
            run.profile,
            data=data,
            teacher=teacher,
            students=students,
            components=parts,
            progress=telling(run, label),
        ),
    )


@stage_task
def translate_task(
    run: Run,
    label: str,
    data: Artifact,
    bundles: tuple[Artifact, ...],
    parts: Artifact | None,
) -> Artifact:
    """The encoders' report: there and back, by students and by the teacher."""
    subject = Subject(data, parts)
    found = Ledger(run.run_dir).find(encoders.translation_key(run.recipe, subject, bundles))
    if found:
        return skipped(run, label, found)

    def work() -> Artifact:
        report = encoders.translate(
            run.run_dir,
            run.recipe,
            run.profile,
            bundles=bundles,
            subject=subject,
            progress=telling(run, label),
        )
        page.forget_page(run.run_dir)  # it does not tell of these encoders
        folder = Ledger(run.run_dir).locate(report)
        with run.owed.telling(label):
            files = [folder / name for name in sorted(report.files)]
            run.store.files(run.chain_id, files, encoders.FOLDER)
        return report

    return perform(run, label, work)


@stage_task
def publish_task(run: Run, label: str, report: Artifact, rounds: tuple[MadeRound, ...]) -> None:
    """The report, in MLflow, and what MLflow has missed before."""

    def work() -> None:
        tell_missed(run, rounds)
        for made in rounds:
            if not Ledger(run.run_dir).find(promote.promotion_key(made.student)):
                register(run, made)
        with run.owed.telling(label):
            ids = {
                made.plan.index: round_run(run, made.accepted, is_at_work=False) for made in rounds
            }
            publish.publish(
                run.run_dir, report, store=run.store, chain_id=run.chain_id, round_ids=ids
            )
            for round_id in ids.values():
                run.store.finish(round_id, "FINISHED", unless_ended=True)

    perform(run, label, work)


@stage_task
def page_task(run: Run, label: str) -> None:
    """The page of the run, beside its report and in MLflow; a new report takes the old one away."""
    path = page.page_of(run.run_dir)
    if path.is_file() and label not in run.owed.all():
        return skipped(run, label, None)

    def work() -> None:
        if not path.is_file():
            page.write_page(run.run_dir, run.recipe)
        with run.owed.telling(label):
            run.store.files(run.chain_id, [path], "report")

    return perform(run, label, work)


@stage_task
def components_task(run: Run, label: str, data: Artifact) -> Artifact:
    """What surrounds a network of latents in its stock pipeline: taken in, or trained here."""
    recipe, run_dir = run.recipe, run.run_dir
    is_given = recipe.teacher.pipeline is not None
    if is_given:
        key = adopt.adopted_components_key(recipe)
    else:
        key = components.components_key(recipe, data)
    found = Ledger(run_dir).find(key)
    if found:
        return skipped(run, label, found)
    if is_given:
        return perform(run, label, lambda: adopt.adopt_components(run_dir, recipe))
    return perform(
        run,
        label,
        lambda: components.components(run_dir, recipe, data=data, progress=telling(run, label)),
    )


@stage_task
def encode_task(run: Run, label: str, data: Artifact, parts: Artifact) -> Artifact:
    """The data as the network sees it: latents and embedded captions."""
    found = Ledger(run.run_dir).find(encode.encode_key(run.recipe, data, parts))
    if found:
        return skipped(run, label, found)
    return perform(
        run,
        label,
        lambda: encode.encode(
            run.run_dir,
            run.recipe,
            run.profile,
            data=data,
            components=parts,
            progress=telling(run, label),
        ),
    )


@stage_task
def export_task(
    run: Run, label: str, plan: RoundPlan, student: Artifact, parts: Artifact, report: Artifact
) -> Artifact:
    """The student as a stock pipeline that draws what we draw, with its numbers on its card."""
    stated = export.report_facts(run.run_dir, report, plan)
    found = Ledger(run.run_dir).find(export.export_key(student, parts, stated))
    if found:
        return skipped(run, label, found)
    return perform(
        run, label, lambda: export.export_student(run.run_dir, student, parts, facts=stated)
    )
