"""The whole chain: data -> teacher -> guidance -> halvings -> report.

A network of latents has components around it: they come after the data and encode it, and at the
end every student is put back between them as a stock pipeline.

Run it as `stepfold run RECIPE`, as `python flows/full_distillation.py RECIPE`, or as a Prefect
deployment: the typed recipe is the flow's parameter, so Prefect refuses a bad one first.
"""

import runpy
import sys

from prefect import flow

from flows.orchestration.notifications import notify_failure
from flows.quality_gate import gated_student
from flows.run import MadeRound, Run, run_path
from flows.session import open_run
from flows.tasks import (
    components_task,
    distill_task,
    encode_task,
    evaluate_task,
    export_task,
    page_task,
    promote_task,
    publish_task,
    shard_task,
    targets_of,
    teacher_task,
    translate_task,
)
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.ledger import Artifact
from pipeline.training.gate_policy import rules_of
from pipeline.training.plan import plan_decoders, plan_rounds
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan
from stages.chain import DISTIL, PROMOTE
from stages.evaluation.encoders import LABEL as ENCODERS_LABEL
from stages.evaluation.sample_sets import Subject
from stages.export.export import export_label


@flow(
    name="full-distillation",
    flow_run_name="{recipe.run.name}",
    persist_result=False,
    on_failure=[notify_failure],
    on_crashed=[notify_failure],
)
def full_distillation(
    recipe: Recipe,
    profile: Profile = Profile(),  # noqa: B008 (frozen)
    run_dir: str = "",
    *,
    accept_changes: bool = False,
) -> str:
    """Distil a guided teacher into few-step students, from wherever the run directory stands.

    Args:
        recipe: what to run.
        profile: where to run it.
        run_dir: the run directory; `<storage.root>/<run.name>` if empty.
        accept_changes: go on with a recipe that differs from the one the directory was started
            with, keeping every round whose fingerprint still matches.

    Returns:
        The run directory.

    Raises:
        StepfoldError: see `pipeline.errors` for what each kind means.
    """
    path = run_path(recipe, profile, run_dir)
    with open_run(recipe, profile, path, accept_changes=accept_changes) as run:
        data = shard_task(run, "shard the data")
        components, samples = None, data
        if recipe.teacher.has_components:
            components = components_task(run, "components", data)
            samples = encode_task(run, "encode the data", data, components)
        first = teacher_task(run, "teacher", samples)
        made: dict[int | None, Artifact] = {TEACHER_ROUND: first}
        rounds: list[MadeRound] = []
        for plan in plan_rounds(recipe):
            teacher = made[plan.parent]
            done = distill_round(run, plan, plan.title, samples, teacher, data, components)
            rounds.append(done)
            made[plan.index] = done.student
        students = [done.student for done in rounds]
        decoders = tuple(made[plan.index] for plan in plan_decoders(recipe))
        report = evaluate_task(run, "evaluate", data, first, decoders, components)
        publish_task(run, "publish the report", report, tuple(rounds))
        if recipe.encoding is not None:
            bundles = (first, *students)
            translate_task(run, ENCODERS_LABEL, data, bundles, components)
        if components is not None:
            for plan, student in zip(plan_decoders(recipe), decoders, strict=True):
                if plan.exported_steps is not None:
                    label = export_label(plan.exported_steps)
                    export_task(run, label, plan, student, components, report)
        page_task(run, "write the page")
    return str(path)


@flow(name="round", flow_run_name="{title}", persist_result=False)
def distill_round(
    run: Run,
    plan: RoundPlan,
    title: str,
    data: Artifact,
    teacher: Artifact,
    source: Artifact,
    components: Artifact | None,
) -> MadeRound:
    """One round: the teacher's targets, the student's training, its promotion.

    Where the recipe has a gate, the student has to come through it first, or another in its place.
    The gate draws images: it is asked what `source` asks, by way of `components`.
    """
    rules = rules_of(run.recipe, plan)
    if rules is not None:
        subject = Subject(source, components)
        made = gated_student(run, rules, plan, data, teacher, subject)
        return promote_task(run, title + PROMOTE, made, teacher)
    targets = targets_of(run, plan, data, teacher)
    student = distill_task(run, title + DISTIL, plan, data, teacher, targets)
    made = MadeRound(plan, ((plan, student),))
    return promote_task(run, title + PROMOTE, made, teacher)


@flow(
    name="train-teacher",
    flow_run_name="{recipe.run.name} teacher",
    persist_result=False,
    on_failure=[notify_failure],
    on_crashed=[notify_failure],
)
def train_teacher(
    recipe: Recipe,
    profile: Profile = Profile(),  # noqa: B008 (frozen)
    run_dir: str = "",
    *,
    accept_changes: bool = False,
) -> str:
    """Train (or take in) the guided teacher of a recipe; arguments as in `full_distillation`."""
    path = run_path(recipe, profile, run_dir)
    with open_run(recipe, profile, path, accept_changes=accept_changes) as run:
        data = shard_task(run, "shard the data")
        samples = data
        if recipe.teacher.has_components:
            components = components_task(run, "components", data)
            samples = encode_task(run, "encode the data", data, components)
        teacher_task(run, "teacher", samples)
    return str(path)


if __name__ == "__main__":
    # by name: the command line imports this flow, not the other way round
    sys.argv[1:1] = ["run"]
    runpy.run_module("flows.cli.app", run_name="__main__", alter_sys=True)
