"""Network evaluations that drawing samples costs: data drawn by a teacher, reports, gates."""

from pipeline.config import PromptsData, Recipe
from pipeline.training.gate_policy import rules_of
from pipeline.training.plan import plan_decoders
from pipeline.training.round_plan import TEACHER_ROUND

Cost = dict[str, int]
"""Evaluations of one sample each, by whose network is asked; as `PlanRow` names them."""


def data_cost(recipe: Recipe, total: int) -> Cost:
    """What a teacher costs that draws the data itself, `total` samples; nothing of images."""
    if not isinstance(recipe.data, PromptsData):
        return {}
    calls = recipe.data.steps * _calls(recipe.data.w)
    return {"teacher_evaluations": total * calls}


def report_cost(recipe: Recipe) -> Cost:
    """What a report costs: the teacher twice at its reference steps, samplers, students."""
    asked, halving = recipe.evaluation, recipe.halving
    students = halving.first_steps + len(halving.samplers) * sum(halving.steps[1:])
    baselines = len(asked.samplers) * sum(asked.baseline_steps)
    solver_steps = 2 * recipe.teacher.reference_steps + baselines
    return {
        "teacher_evaluations": asked.num_samples * solver_steps * sum(map(_calls, asked.w)),
        "student_evaluations": asked.num_samples * students * len(asked.w),
    }


def gate_costs(recipe: Recipe) -> dict[int, Cost]:
    """What the gate draws in each round that it is asked something in, by the round's index.

    At every guidance weight the student, its teacher, and its teacher from other noise; what an
    earlier round's gate drew is not drawn again. Of first attempts: another has its student's
    samples drawn besides.
    """
    # who is good at any time is drawn from in the steps that round 1 takes of it
    first = recipe.halving.first_steps
    steps: dict[int | None, int] = {TEACHER_ROUND: first}
    drawn: set[tuple[int | None, bool]] = set()
    costs: dict[int, Cost] = {}
    for plan in plan_decoders(recipe):
        steps[plan.index] = plan.student_steps or first
        rules = rules_of(recipe, plan)
        if recipe.gate is None or rules is None or not rules.asks_samples:
            continue
        sets = {(plan.parent, False), (plan.parent, True)} - drawn
        drawn |= sets | {(plan.index, False)}
        num, weights = recipe.gate.num_samples, recipe.gate_weights
        calls = sum(map(_calls, weights)) if plan.parent == TEACHER_ROUND else len(weights)
        costs[plan.index] = {
            "teacher_evaluations": num * len(sets) * steps[plan.parent] * calls,
            "student_evaluations": num * steps[plan.index] * len(weights),
        }
    return costs


def _calls(w: float) -> int:
    """Evaluations of a guided teacher in one step."""
    return 1 if w == 0 else 2
