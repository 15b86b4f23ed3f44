"""The tasks of every chain, one for each stage."""

from flows.artifacts import show_links, show_round, training_shown
from flows.run import Run
from flows.stage_task import perform, skipped, stage_task, telling
from flows.tracking import (
    round_run,
    tell_missed,
    tell_numbers,
    tell_result,
    tracked_round,
)
from pipeline.ledger import Artifact, Ledger
from pipeline.training.plan import plan_rounds, plan_teacher
from pipeline.training.round_plan import RoundPlan
from stages import adopt, distill, evaluate, page, pregenerate, promote, publish, shard, translate
from stages.sample_sets import Subject


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


@stage_task
def pregenerate_task(
    run: Run, label: str, plan: RoundPlan, data: Artifact, teacher: Artifact
) -> tuple[Artifact, ...] | None:
    """The round's targets, unless they are computed online or nobody needs them any more."""
    student = distill.find_student(run.run_dir, run.recipe, run.profile, plan, data, teacher)
    if student or run.recipe.targets.mode == "online":
        return skipped(run, label, None)

    return perform(
        run,
        label,
        lambda: pregenerate.pregenerate(
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
    found = distill.find_student(run.run_dir, run.recipe, run.profile, plan, data, teacher)
    if found:
        return skipped(run, label, found)
    with tracked_round(run, plan), training_shown(run, label):
        made = perform(
            run,
            label,
            lambda: distill.distill(
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
def promote_task(
    run: Run, label: str, plan: RoundPlan, student: Artifact, teacher: Artifact
) -> Artifact:
    """The student becomes the next round's teacher, if it deserves it.

    Without MLflow it is checked and goes on all the same; its registration is owed.
    """
    if Ledger(run.run_dir).find(promote.promotion_key(student)):
        return skipped(run, label, student)

    def work() -> Artifact:
        promote.accept(
            run.run_dir,
            plan,
            student=student,
            teacher=teacher,
            keep_targets=run.recipe.targets.keep,
        )
        _register(run, plan, student)
        return student

    return perform(run, label, work)


def _register(run: Run, plan: RoundPlan, student: Artifact) -> None:
    with run.owed.telling(f"{plan.title}: promotion"):
        round_id = round_run(run, plan, is_at_work=False)
        registry = promote.Registry(run.store, run.recipe.run.name, round_id)
        promote.register(run.run_dir, plan, student, registry)


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
    key = evaluate.report_key(run.recipe, data, teacher, students)
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
    found = Ledger(run.run_dir).find(translate.translation_key(run.recipe, data, bundles))
    if found:
        return skipped(run, label, found)

    def work() -> Artifact:
        report = translate.translate(
            run.run_dir,
            run.recipe,
            run.profile,
            bundles=bundles,
            subject=Subject(data, parts),
            progress=telling(run, label),
        )
        folder = Ledger(run.run_dir).locate(report)
        with run.owed.telling(label):
            files = [folder / name for name in sorted(report.files)]
            run.store.files(run.chain_id, files, translate.FOLDER)
        return report

    return perform(run, label, work)


@stage_task
def publish_task(run: Run, label: str, report: Artifact, students: tuple[Artifact, ...]) -> None:
    """The report, in MLflow, and what MLflow has missed before."""

    def work() -> None:
        plans = plan_rounds(run.recipe)
        teacher = plan_teacher(run.recipe)
        tell_numbers(run, [*([teacher] if teacher else []), *plans])
        tell_missed(run, plans, students)
        for plan, student in zip(plans, students, strict=True):
            if not Ledger(run.run_dir).find(promote.promotion_key(student)):
                _register(run, plan, student)
        with run.owed.telling(label):
            rounds = {plan.index: round_run(run, plan, is_at_work=False) for plan in plans}
            publish.publish(
                run.run_dir, report, store=run.store, chain_id=run.chain_id, round_ids=rounds
            )
            for round_id in rounds.values():
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
