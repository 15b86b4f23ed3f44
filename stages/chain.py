"""The chain of stages, defined once: order, identities and titles.

`walk` calls an `Operations` for every stage in order. The flow runs the stages, `stepfold plan`
looks them up and counts their cost, `stepfold status` lists them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from pipeline.config import Recipe
from pipeline.ledger import Artifact
from pipeline.run_dir import layout
from pipeline.run_dir.events import Events
from pipeline.training.gate_policy import rules_of
from pipeline.training.plan import plan_decoders, plan_rounds
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan
from pipeline.wording import format_count
from stages.workspace import Workspace

T = TypeVar("T")


class StageId(StrEnum):
    """Identity of a stage in events, timing, outbox and task names; `Step.title` is for display."""

    DATA = "data"
    COMPONENTS = "components"
    ENCODE = "encode"
    TEACHER = "teacher"
    TARGETS = "targets"
    TRAIN = "train"
    JUDGE = "judge"
    PROMOTE = "promote"
    EVALUATE = "evaluate"
    PUBLISH = "publish"
    ENCODERS = "encoders"
    EXPORT = "export"
    PAGE = "page"


_TITLES = {
    StageId.DATA: "shard the data",
    StageId.COMPONENTS: "components",
    StageId.ENCODE: "encode the data",
    StageId.TEACHER: "teacher",
    StageId.TARGETS: "generate targets",
    StageId.TRAIN: "train",
    StageId.JUDGE: "quality gate",
    StageId.PROMOTE: "promote",
    StageId.EVALUATE: "evaluate",
    StageId.PUBLISH: "publish the report",
    StageId.ENCODERS: "evaluate the encoders",
    StageId.EXPORT: "export the pipeline",
    StageId.PAGE: "write the page",
}


@dataclass(frozen=True)
class Step:
    """One stage of a run; `plan` is its round or attempt, None outside rounds."""

    stage: StageId
    plan: RoundPlan | None = None

    @property
    def id(self) -> str:
        """Identity, such as `data`, `rounds/01-16-to-8/train` or `export/4-steps`."""
        if self.plan is None or self.plan.index == TEACHER_ROUND:
            return self.stage.value
        if self.stage is StageId.EXPORT:
            return f"{self.stage.value}/{self.plan.sampling_target}"
        return f"{self.plan.folder}/{self.stage.value}"

    @property
    def title(self) -> str:
        """Display title, such as `round 1: 16 -> 8 steps, train`."""
        if self.plan is None or self.plan.index == TEACHER_ROUND:
            return _TITLES[self.stage]
        if self.stage is StageId.EXPORT:
            return f"{_TITLES[self.stage]} of {format_count(self.plan.student_steps or 0, 'step')}"
        return f"{self.plan.title}, {_TITLES[self.stage]}"

    @property
    def part(self) -> str:
        """Title within its round."""
        return _TITLES[self.stage]


def train_step(plan: RoundPlan) -> Step:
    """Return the training step of a round; for the teacher's own round, the stage `teacher`."""
    return Step(StageId.TEACHER if plan.index == TEACHER_ROUND else StageId.TRAIN, plan)


def round_steps(recipe: Recipe, plan: RoundPlan) -> tuple[Step, ...]:
    """Return the steps of a round without retries, in order."""
    stages = [StageId.TRAIN]
    if plan.targets.mode == "pregenerated":
        stages.insert(0, StageId.TARGETS)
    if rules_of(recipe, plan) is not None:
        stages.append(StageId.JUDGE)
    return tuple(Step(stage, plan) for stage in [*stages, StageId.PROMOTE])


@dataclass(frozen=True)
class Inputs(Generic[T]):
    """Inputs of a round.

    Attributes:
        data: the sharded data set.
        components: the stock pipeline without its network; None for a pixel-space teacher.
        samples: training samples: latents, or `data` itself.
        teacher: teacher bundle of the round.
        start: student whose weights the round starts from; None for the teacher's.
    """

    data: T
    components: T | None
    samples: T
    teacher: T
    start: T | None = None


@dataclass(frozen=True)
class Students(Generic[T]):
    """Inputs of the stages after the rounds.

    Attributes:
        data: the sharded data set.
        components: the stock pipeline without its network; None for a pixel-space teacher.
        teacher: the first teacher.
        by_round: the student of every round, by round index.
    """

    data: T
    components: T | None
    teacher: T
    by_round: Mapping[int, T]

    def decoders(self, recipe: Recipe) -> tuple[T, ...]:
        """Return the students that generate samples, in order."""
        return tuple(self.by_round[plan.index] for plan in plan_decoders(recipe))

    def bundles(self) -> tuple[T, ...]:
        """Return the teacher, then the students of all rounds."""
        return (self.teacher, *self.by_round.values())


class Operations(Protocol[T]):
    """Implementation of every stage; T is an artifact, or its placeholder."""

    def data(self) -> T:
        """Shard the data set."""

    def components(self, data: T) -> T:
        """Train or adopt the components around the network."""

    def encode(self, data: T, components: T) -> T:
        """Encode the data set to latents and text embeddings."""

    def teacher(self, samples: T) -> T:
        """Train or adopt the teacher."""

    def round(self, plan: RoundPlan, inputs: Inputs[T]) -> T:
        """Run a round to its accepted student."""

    def evaluate(self, students: Students[T]) -> T:
        """Compare the students with the teacher in a report."""

    def publish(self, report: T) -> None:
        """Log the report to the tracker."""

    def encoders(self, students: Students[T]) -> None:
        """Evaluate the encoders."""

    def export(self, plan: RoundPlan, student: T, components: T | None, report: T) -> None:
        """Export a student as a stock pipeline, or without components with a sampling script."""

    def page(self) -> None:
        """Write the HTML report."""


def walk(recipe: Recipe, do: Operations[T], *, until: StageId = StageId.PAGE) -> None:
    """Call every stage of a recipe in order.

    Args:
        recipe: the recipe.
        do: implementation of the stages.
        until: `TEACHER` ends the walk at the first teacher.
    """
    data = do.data()
    components: T | None = None
    samples = data
    if recipe.teacher.has_components:
        components = do.components(data)
        samples = do.encode(data, components)
    teacher = do.teacher(samples)
    if until is StageId.TEACHER:
        return
    made: dict[int | None, T] = {TEACHER_ROUND: teacher}
    plans = plan_rounds(recipe)
    for plan in plans:
        start = None if plan.init_from is None else made[plan.init_from]
        inputs = Inputs(data, components, samples, made[plan.parent], start)
        made[plan.index] = do.round(plan, inputs)
    students = Students(data, components, teacher, {plan.index: made[plan.index] for plan in plans})
    report = do.evaluate(students)
    do.publish(report)
    if recipe.has_encoders:
        do.encoders(students)
    for plan in exported_rounds(recipe):
        do.export(plan, made[plan.index], components, report)
    do.page()


def exported_rounds(recipe: Recipe) -> Sequence[RoundPlan]:
    """Return the rounds whose students stock diffusers can sample: by a pipeline, or a script."""
    teacher = recipe.teacher
    if not (teacher.has_components or teacher.network.has_sampling_script):
        return []
    return [plan for plan in plan_decoders(recipe) if plan.exported_steps is not None]


@dataclass(frozen=True)
class StageState:
    """State of a stage in the run directory, its size in bytes, without verifying files."""

    step: Step
    done: bool
    size: int


def recorded_states(work: Workspace) -> list[StageState]:
    """Return the state of every stage of a run, in order, without verifying files."""
    reader = _Recorded(work)
    walk(work.recipe, reader)
    return reader.states


class _Recorded(Operations[Artifact | None]):
    """Reads the newest record of each artifact path, else the events of the stage."""

    def __init__(self, work: Workspace) -> None:
        self.states: list[StageState] = []
        self._work = work
        self._artifacts = work.layout.artifacts()
        events, _ = Events(work.run_dir).read()
        self._ended = {event.stage for event in events if event.kind == "stage_done"}

    def _add(self, step: Step, place: str) -> Artifact | None:
        artifact = self._artifacts.get(place)
        size = sum(file.size for file in artifact.files.values()) if artifact else 0
        self.states.append(StageState(step, artifact is not None, size))
        return artifact

    def _add_ended(self, step: Step, *, done: bool = False) -> None:
        self.states.append(StageState(step, done or step.id in self._ended, 0))

    def data(self) -> Artifact | None:
        return self._add(Step(StageId.DATA), layout.DATA)

    def components(self, data: Artifact | None) -> Artifact | None:  # noqa: ARG002
        return self._add(Step(StageId.COMPONENTS), layout.COMPONENTS)

    def encode(self, data: Artifact | None, components: Artifact | None) -> Artifact | None:  # noqa: ARG002
        return self._add(Step(StageId.ENCODE), layout.LATENTS)

    def teacher(self, samples: Artifact | None) -> Artifact | None:  # noqa: ARG002
        return self._add(Step(StageId.TEACHER), layout.TEACHER)

    def round(self, plan: RoundPlan, inputs: Inputs[Artifact | None]) -> Artifact | None:  # noqa: ARG002
        student = self._artifacts.get(layout.student_of(plan))
        for step in round_steps(self._work.recipe, plan):
            if step.stage is StageId.TRAIN and student is None:
                self._add(step, layout.candidate_of(plan))
            elif step.stage is StageId.TRAIN:
                self._add(step, layout.student_of(plan))
            else:
                # an accepted student implies its targets and its verdict
                implied = student is not None and step.stage is not StageId.PROMOTE
                self._add_ended(step, done=implied)
        return student

    def evaluate(self, students: Students[Artifact | None]) -> Artifact | None:  # noqa: ARG002
        return self._add(Step(StageId.EVALUATE), layout.REPORT)

    def publish(self, report: Artifact | None) -> None:  # noqa: ARG002
        self._add_ended(Step(StageId.PUBLISH))

    def encoders(self, students: Students[Artifact | None]) -> None:  # noqa: ARG002
        self._add(Step(StageId.ENCODERS), layout.ENCODERS)

    def export(
        self,
        plan: RoundPlan,
        student: Artifact | None,  # noqa: ARG002
        components: Artifact | None,  # noqa: ARG002
        report: Artifact | None,  # noqa: ARG002
    ) -> None:
        self._add(Step(StageId.EXPORT, plan), f"{layout.PIPELINES}/{plan.sampling_target}")

    def page(self) -> None:
        self._add_ended(Step(StageId.PAGE), done=self._work.layout.page.is_file())
