"""Planned evaluations: those of the gate equal those of its samples."""

from pathlib import Path

import pytest

from pipeline.config import GateConfig, WDistribution
from pipeline.ledger import Ledger
from pipeline.training.plan import plan_rounds
from pipeline.training.round_plan import TEACHER_ROUND
from stages.evaluation.sample_sets import SampleInputs
from stages.gate.judge import Candidate, judge
from stages.plan.costs import calls_of_teacher, gate_costs
from stages.plan.plan import committed_sizes, round_rows
from stages.report.stage_costs import costs_of
from stages.workspace import Workspace
from tests.chains.test_round_kinds import chain
from tests.support.gate_case import workers_here
from tests.support.small_run import small_recipe

NUM = 12


@pytest.mark.parametrize(
    ("w", "expected"),
    [
        (WDistribution(min=0, max=4, mass_at_min=0.25), 1.75),
        (WDistribution(min=1, max=4), 2),
        (WDistribution(min=0, max=0, mass_at_min=0), 1),
        (WDistribution(values=(0, 1, 2, 4)), 1.75),
    ],
)
def test_a_target_takes_one_evaluation_at_w_0_and_two_elsewhere(
    w: WDistribution, expected: float
) -> None:
    first, second = plan_rounds(small_recipe())[:2]
    guided = first.model_copy(update={"config": first.config.model_copy(update={"w": w})})
    assert calls_of_teacher(guided, takes_w=False) == pytest.approx(expected)
    assert calls_of_teacher(guided, takes_w=True) == 1
    assert calls_of_teacher(second, takes_w=False) == 1


def test_planned_evaluations_equal_those_of_the_samples(tmp_path: Path) -> None:
    recipe, (teacher, *students) = chain(tmp_path)
    gated = recipe.model_copy(update={"gate": GateConfig(num_samples=NUM, w=(0.0, 2.0))})
    ledger, plans = Ledger(tmp_path), plan_rounds(gated)
    (data,) = [each for each in ledger.records() if each.kind == "data"]
    sizes, planned = committed_sizes(tmp_path), gate_costs(gated)
    drawn_before, expected = 0, {}
    for plan, student in zip(plans, students, strict=True):
        taught_by = teacher if plan.parent == TEACHER_ROUND else students[plan.parent or 0]
        judge(
            Workspace(tmp_path, gated),
            Candidate(plan, student, taught_by, SampleInputs(data, None)),
            workers_here(),
        )
        sets = [each for each in ledger.records() if "/gate-" in each.path]
        drawn = sum(each.details["evaluations"] * each.details["count"] for each in sets)
        assert drawn - drawn_before == sum(planned[plan.index].values()), plan.title
        drawn_before = drawn
        trained = [
            row.teacher_evaluations + row.student_evaluations for row in round_rows(plan, sizes)
        ]
        expected[plan.title] = sum(trained) + sum(planned[plan.index].values())
    rows = costs_of(tmp_path, gated, {})
    assert {row.title: row.evaluations for row in rows if row.title in expected} == expected
