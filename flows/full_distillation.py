"""The Prefect flows of a run: data, teacher, guidance, halvings, report, export.

Start one by `stepfold run RECIPE`, by `python flows/full_distillation.py RECIPE`, or as a Prefect
deployment. The typed recipe is the parameter of the flow, so Prefect validates it before the start.
"""

import runpy
import sys

from prefect import flow

from flows.orchestration.notifications import notify_failure
from flows.quality_gate import gated_student, ungated_student
from flows.run import CompletedRound, Run, resolve_run_dir
from flows.session import open_run
from flows.tasks import (
    components_task,
    data_task,
    encode_task,
    encoders_task,
    evaluate_task,
    export_task,
    page_task,
    promote_task,
    publish_task,
    teacher_task,
)
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.ledger import Artifact
from pipeline.training.gate_policy import rules_of
from pipeline.training.round_plan import RoundPlan
from stages.chain import Inputs, Operations, StageId, Step, Students, walk
from stages.evaluation.sample_sets import SampleInputs


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
    """Distil a guided teacher into few-step students; resumes an existing run directory.

    Args:
        recipe: recipe to run.
        profile: compute profile.
        run_dir: run directory; `<storage.root>/<run.name>` if empty.
        accept_changes: continue with a recipe that differs from the stored one; stages with
            unchanged fingerprints are reused.

    Returns:
        The run directory.

    Raises:
        StepfoldError: a stage failed; see `pipeline.errors` for the types.
    """
    return _run(recipe, profile, run_dir, accept_changes=accept_changes, until=StageId.PAGE)


@flow(
    name="train-teacher",
    flow_run_name="{recipe.run.name}",
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
    """Train or adopt the guided teacher of a recipe; arguments as in `full_distillation`."""
    return _run(recipe, profile, run_dir, accept_changes=accept_changes, until=StageId.TEACHER)


def _run(
    recipe: Recipe, profile: Profile, run_dir: str, *, accept_changes: bool, until: StageId
) -> str:
    path = resolve_run_dir(recipe, profile, run_dir)
    with open_run(recipe, profile, path, accept_changes=accept_changes) as run:
        walk(recipe, _Tasks(run), until=until)
    return str(path)


class _Tasks(Operations[Artifact]):
    """Run every stage as a Prefect task, and every round as a subflow."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._rounds: list[CompletedRound] = []

    def data(self) -> Artifact:
        return data_task(self._run, Step(StageId.DATA))

    def components(self, data: Artifact) -> Artifact:
        return components_task(self._run, Step(StageId.COMPONENTS), data)

    def encode(self, data: Artifact, components: Artifact) -> Artifact:
        return encode_task(self._run, Step(StageId.ENCODE), data, components)

    def teacher(self, samples: Artifact) -> Artifact:
        return teacher_task(self._run, Step(StageId.TEACHER), samples)

    def round(self, plan: RoundPlan, inputs: Inputs[Artifact]) -> Artifact:
        done = distill_round(self._run, plan, plan.title, inputs)
        self._rounds.append(done)
        return done.student

    def evaluate(self, students: Students[Artifact]) -> Artifact:
        sample_inputs = SampleInputs(students.data, students.components)
        decoders = students.decoders(self._run.recipe)
        step = Step(StageId.EVALUATE)
        return evaluate_task(self._run, step, sample_inputs, students.teacher, decoders)

    def publish(self, report: Artifact) -> None:
        publish_task(self._run, Step(StageId.PUBLISH), report, tuple(self._rounds))

    def encoders(self, students: Students[Artifact]) -> None:
        sample_inputs = SampleInputs(students.data, students.components)
        encoders_task(self._run, Step(StageId.ENCODERS), sample_inputs, students.bundles())

    def export(
        self, plan: RoundPlan, student: Artifact, components: Artifact | None, report: Artifact
    ) -> None:
        step = Step(StageId.EXPORT, plan)
        export_task(self._run, step, plan, student, components, report)

    def page(self) -> None:
        page_task(self._run, Step(StageId.PAGE))


@flow(name="round", flow_run_name="{title}", persist_result=False)
def distill_round(
    run: Run, plan: RoundPlan, title: str, inputs: Inputs[Artifact]
) -> CompletedRound:
    """Run one round: targets, training, the quality gate if the recipe has one, and promotion.

    `title` is only used as the name of the flow run.
    """
    del title
    samples, teacher = inputs.samples, inputs.teacher
    plan = plan.starting_from(inputs.start)
    sample_inputs = SampleInputs(inputs.data, inputs.components)
    rules = rules_of(run.recipe, plan)
    if rules is None:
        done = ungated_student(run, plan, samples, teacher, sample_inputs)
    else:
        done = gated_student(run, rules, plan, samples, teacher, sample_inputs)
    return promote_task(run, Step(StageId.PROMOTE, plan), done, teacher)


if __name__ == "__main__":
    # by name, because flows must not import the command line
    sys.argv[1:1] = ["run"]
    runpy.run_module("flows.cli.app", run_name="__main__", alter_sys=True)
