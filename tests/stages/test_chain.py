"""The chain of stages: order, identities, and recorded states."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Recipe
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.run_dir import layout
from pipeline.run_dir.events import Events
from pipeline.training.plan import plan_rounds
from pipeline.training.round_plan import Retry, RoundPlan
from stages import chain
from stages.chain import (
    Inputs,
    Operations,
    StageId,
    Step,
    Students,
    recorded_states,
    round_steps,
    walk,
)
from stages.plan.plan import plan_run
from stages.workspace import Workspace
from tests.support.recipes import shipped_recipe

ENCODERS = "encoding={steps: [4, 2], updates: 2, batch_size: 8}"
GATE = "gate={num_samples: 50, w: [1], on_fail: [extend, retry], extend: {share: 0.5}}"
SHORT = ("halving.steps=[4, 2]", "halving.updates=2")
FROM_ZERO = "guidance.w={min: 0, max: 7, mass_at_min: 0.1}"  # encoders are unguided


class Noted(Operations[str]):
    """Records each call with its inputs; a result is the name of its stage."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def _note(self, name: str, *given: str | None) -> str:
        self.calls.append(f"{name}({', '.join(str(each) for each in given)})")
        return name

    def data(self) -> str:
        return self._note("data")

    def components(self, data: str) -> str:
        return self._note("components", data)

    def encode(self, data: str, components: str) -> str:
        return self._note("latents", data, components)

    def teacher(self, samples: str) -> str:
        return self._note("teacher", samples)

    def round(self, plan: RoundPlan, inputs: Inputs[str]) -> str:
        given = (inputs.data, inputs.components, inputs.samples, inputs.teacher)
        return self._note(f"student {plan.index}", *given)

    def evaluate(self, students: Students[str]) -> str:
        return self._note("report", students.data, students.components, *students.bundles())

    def publish(self, report: str) -> None:
        self._note("publish", report)

    def encoders(self, students: Students[str]) -> None:
        self._note("encoders", *students.bundles())

    def export(self, plan: RoundPlan, student: str, components: str | None, report: str) -> None:
        self._note(f"export {plan.sampling_target}", student, components, report)

    def page(self) -> None:
        self._note("page")


def calls(recipe: Recipe, **options: Any) -> list[str]:
    noted = Noted()
    walk(recipe, noted, **options)
    return noted.calls


# Encoders start from the student of stage 1 and are evaluated after the report.
PIXELS = [
    "data()",
    "teacher(data)",
    "student 0(data, None, data, teacher)",
    "student 1(data, None, data, student 0)",
    "student 2(data, None, data, student 0)",
    "report(data, None, teacher, student 0, student 1, student 2)",
    "publish(report)",
    "encoders(teacher, student 0, student 1, student 2)",
    "page()",
]
# Students of digits are on pixels; a script samples each of a fixed number of steps.
DIGITS = [
    "data()",
    "teacher(data)",
    "student 0(data, None, data, teacher)",
    "student 1(data, None, data, student 0)",
    "report(data, None, teacher, student 0, student 1)",
    "publish(report)",
    "export 2-steps(student 1, None, report)",
    "page()",
]
# Latents come between the data and the teacher, and students are exported.
LATENTS = [
    "data()",
    "components(data)",
    "latents(data, components)",
    "teacher(latents)",
    "student 0(data, components, latents, teacher)",
    "student 1(data, components, latents, student 0)",
    "report(data, components, teacher, student 0, student 1)",
    "publish(report)",
    "export 2-steps(student 1, components, report)",
    "page()",
]


@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [("gaussian", (ENCODERS,), PIXELS), ("digits", (), DIGITS), ("captions", (), LATENTS)],
)
def test_stages_are_called_in_order_with_their_inputs(
    name: str, more: tuple[str, ...], expected: list[str]
) -> None:
    assert calls(shipped_recipe(name, *SHORT, *more)) == expected


@pytest.mark.parametrize(("name", "last"), [("gaussian", "data"), ("captions", "latents")])
def test_a_walk_may_end_at_the_teacher(name: str, last: str) -> None:
    walked = calls(shipped_recipe(name), until=StageId.TEACHER)
    assert walked[-1] == f"teacher({last})"
    assert not any(call.startswith("student") for call in walked)


def every_step(recipe: Recipe) -> list[Step]:
    """All steps of a run in which each round was extended once and retried twice."""
    again = (
        Retry(kind="extended", number=1),
        *(Retry(kind="retried", number=number) for number in (1, 2)),
    )
    tries = [
        plan.model_copy(update={"again": each}) for plan in plan_rounds(recipe) for each in again
    ]
    planned = [state.step for state in recorded_states(Workspace(Path("nowhere"), recipe))]
    return [*planned, *(step for plan in tries for step in round_steps(recipe, plan))]


def both_ladders() -> Recipe:
    return shipped_recipe("captions", "halving.sampler=both", *SHORT, GATE)


def test_no_two_steps_have_the_same_identity() -> None:
    ids = [step.id for step in every_step(both_ladders())]
    assert len(ids) > 40
    assert len(set(ids)) == len(ids)
    assert {"data", "export/2-steps", "rounds/01-4-to-2-retried-2/judge"} <= set(ids)


def test_an_identity_does_not_depend_on_a_title(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = every_step(both_ladders())
    ids, titles = [step.id for step in steps], [step.title for step in steps]
    monkeypatch.setattr(chain, "_TITLES", dict.fromkeys(StageId, "another title"))
    monkeypatch.setattr(RoundPlan, "title", "another round")
    assert all(step.title != title for step, title in zip(steps, titles, strict=True))
    assert [step.id for step in steps] == ids


def commit(run_dir: Path, place: str, content: str = "made") -> Artifact:
    def write(path: Path) -> dict[str, Any]:
        (path / "file").write_text(content)
        return {}

    return Ledger(run_dir).publish("thing", fingerprint({"at": place}), place, write)


def states(work: Workspace) -> tuple[Sequence[str], set[str]]:
    found = recorded_states(work)
    return [state.step.id for state in found], {state.step.id for state in found if state.done}


def test_recorded_states_cover_every_stage(tmp_path: Path) -> None:
    work = Workspace(tmp_path, shipped_recipe("captions", *SHORT, FROM_ZERO, GATE, ENCODERS))
    everything = [
        *("data", "components", "encode", "teacher"),
        *(
            f"{folder}/{stage}"
            for folder in ("rounds/00-guidance", "rounds/01-4-to-2")
            for stage in ("targets", "train", "judge", "promote")
        ),
        *(f"rounds/02-4-to-2-encode/{stage}" for stage in ("targets", "train", "promote")),
        *("evaluate", "publish", "encoders", "export/2-steps", "page"),
    ]
    assert states(work) == (everything, set())
    assert list(tmp_path.iterdir()) == []

    first, second, _ = plan_rounds(work.recipe)
    for place in (layout.DATA, layout.LATENTS, layout.student_of(first)):
        commit(tmp_path, place, content="four")
    commit(tmp_path, layout.candidate_of(second))
    events = Events(tmp_path)
    events.emit("stage_started", stage=Step(StageId.PROMOTE, second).id)
    events.emit("stage_done", stage=Step(StageId.PROMOTE, first).id)
    events.emit("stage_done", stage=Step(StageId.TARGETS, second).id)
    ids, done = states(work)
    assert ids == everything
    assert done == {
        *("data", "encode"),
        *(f"rounds/00-guidance/{stage}" for stage in ("targets", "train", "judge", "promote")),
        *("rounds/01-4-to-2/targets", "rounds/01-4-to-2/train"),
    }
    sizes = {state.step.id: state.size for state in recorded_states(work)}
    assert (sizes["data"], sizes["components"]) == (4, 0)

    for place in (layout.REPORT, layout.ENCODERS, f"{layout.PIPELINES}/2-steps"):
        commit(tmp_path, place)
    work.layout.page.write_text("<html>")
    assert states(work)[1] - done == {"evaluate", "encoders", "export/2-steps", "page"}


@pytest.mark.parametrize("name", ["gaussian", "captions"])
def test_every_step_that_is_planned_is_recorded(name: str, tmp_path: Path) -> None:
    work = Workspace(tmp_path, shipped_recipe(name, *SHORT, FROM_ZERO, GATE, ENCODERS))
    planned = {row.step.id: row.step.title for row in plan_run(work)}
    known = {state.step.id: state.step.title for state in recorded_states(work)}
    assert len(planned) > 8
    assert planned.items() <= known.items()
