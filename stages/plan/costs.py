"""Network evaluations of drawing samples: by a data-generating teacher, the report and the gate."""

from pipeline.config import PromptsData, Recipe
from pipeline.config.samplers import evaluations_per_step
from pipeline.training.gate_policy import rules_of
from pipeline.training.plan import plan_decoders
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan

Cost = dict[str, int]
"""Evaluations of one sample each, by field of `PlanRow`."""


def data_cost(recipe: Recipe, total: int) -> Cost:
    """Return the evaluations of a teacher that samples the data; empty for data with images."""
    if not isinstance(recipe.data, PromptsData):
        return {}
    calls = recipe.data.steps * _calls(recipe, recipe.data.w)
    return {"teacher_evaluations": total * calls}


def report_cost(recipe: Recipe) -> Cost:
    """Return the evaluations of a report: the teacher twice, training-free samplers, students."""
    evaluation = recipe.evaluation
    students = sum(plan.sampling_steps for plan in plan_decoders(recipe))
    per_step = sum(map(evaluations_per_step, evaluation.samplers))
    baselines = per_step * sum(evaluation.baseline_steps)
    solver_steps = 2 * recipe.teacher.reference_steps + baselines
    return {
        "teacher_evaluations": evaluation.num_samples
        * solver_steps
        * sum(_calls(recipe, w) for w in evaluation.w),
        "student_evaluations": evaluation.num_samples * students * len(evaluation.w),
    }


def gate_costs(recipe: Recipe) -> dict[int, Cost]:
    """Return the evaluations of the gate in each round, by round index.

    At every guidance weight the gate draws the student, its teacher, and the teacher from other
    noise; samples of an earlier round's gate are reused. Retries, which draw their own student's
    samples, are not included.
    """
    steps: dict[int | None, int] = {TEACHER_ROUND: recipe.any_steps}
    drawn: set[tuple[int | None, bool]] = set()
    costs: dict[int, Cost] = {}
    for plan in plan_decoders(recipe):
        steps[plan.index] = plan.sampling_steps
        rules = rules_of(recipe, plan)
        if recipe.gate is None or rules is None or not rules.asks_samples:
            continue
        sets = {(plan.parent, False), (plan.parent, True)} - drawn
        drawn |= sets | {(plan.index, False)}
        num, weights = recipe.gate.num_samples, recipe.gate_weights
        is_guided = plan.parent == TEACHER_ROUND
        calls = sum(_calls(recipe, w) for w in weights) if is_guided else len(weights)
        costs[plan.index] = {
            "teacher_evaluations": num * len(sets) * steps[plan.parent] * calls,
            "student_evaluations": num * steps[plan.index] * len(weights),
        }
    return costs


def calls_of_teacher(plan: RoundPlan, *, takes_w: bool) -> float:
    """Return the evaluations of a round's teacher per call; `takes_w`: of the first teacher."""
    if plan.parent != TEACHER_ROUND or takes_w:
        return 1.0
    return 2.0 if plan.w is None else 2 - plan.w.unguided_share


def _calls(recipe: Recipe, w: float) -> int:
    """Return the evaluations of the first teacher per step."""
    return 1 if w == 0 or recipe.teacher.network.takes_w else 2
