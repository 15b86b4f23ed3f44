"""Reactions to a failed student, by recipe and earlier attempts; nothing is trained."""

from typing import Any

import pytest

from pipeline.config import GateConfig
from pipeline.errors import ConfigError
from pipeline.evaluation.verdicts.gate_documents import RoundVerdict
from pipeline.ledger import Artifact, FileRecord
from pipeline.training.gate_policy import JudgedAttempt, rules_of, run_attempts
from pipeline.training.plan import plan_rounds, round_key
from pipeline.training.round_plan import RoundPlan
from tests.support.small_run import small_recipe

PLAN = plan_rounds(small_recipe())[1]
DATA = Artifact(kind="data", fingerprint="a" * 64, path="data", files={})


def failed(plan: RoundPlan, *, diverged: bool = False, answer: bool | None = None) -> JudgedAttempt:
    file = FileRecord(size=1, sha256=plan.folder)
    student = Artifact(kind="student", fingerprint=plan.folder, path="s", files={"w": file})
    return JudgedAttempt(
        plan=plan,
        student=None if diverged else student,
        record=DATA,
        verdict=RoundVerdict(title=plan.title, num_samples=1, seed=0, bad_numbers="bad"),
        answer=answer,
    )


def course(gate: dict[str, Any], diverges: int = 0) -> list[RoundPlan]:
    """Attempts at a round that always fails, the first few by divergence; without approval."""
    made: list[RoundPlan] = []

    def attempt(plan: RoundPlan) -> JudgedAttempt:
        made.append(plan)
        return failed(plan, diverged=len(made) <= diverges)

    run_attempts(PLAN, GateConfig(**gate).rules(1, "halving"), attempt, lambda judged: None)
    return made


def test_remedies_are_used_up_in_order() -> None:
    times = {"extend": {"share": 0.25, "times": 2}, "retry": {"factor": 0.5, "times": 2}}
    made = course({"on_fail": ["extend", "retry", "ask"], **times})
    assert [plan.folder for plan in made] == [
        "rounds/01-4-to-2",
        "rounds/01-4-to-2-extended-1",
        "rounds/01-4-to-2-extended-2",
        "rounds/01-4-to-2-retried-1",
        "rounds/01-4-to-2-retried-2",
    ]
    assert [plan.training.updates for plan in made] == [600, 150, 150, 600, 600]
    assert [plan.learning_rate for plan in made] == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.025])
    # new draws for an extension, the same draws and targets for a retry
    assert [plan.stream for plan in made] == [(0, 2), (0, 2, 1), (0, 2, 2), (0, 2), (0, 2)]
    assert [plan.targets_of == PLAN for plan in made] == [True, False, False, True, True]
    recipe = small_recipe()
    keys = [round_key(plan, recipe, "float32", DATA, DATA) for plan in made]
    assert len(set(keys)) == len(keys)


def test_a_retried_student_is_trained_on_at_its_own_rate() -> None:
    made = course({"on_fail": ["retry", "extend"], "retry": {"factor": 0.5}})
    assert [plan.folder.rpartition("2-")[2] for plan in made[1:]] == ["retried-1", "extended-1"]
    assert made[-1].learning_rate == pytest.approx(0.05)
    assert made[-1].again.start == failed(made[1]).student.digest


def test_a_diverged_round_has_no_student_to_extend_or_show() -> None:
    assert len(course({"on_fail": ["extend", "ask"]}, diverges=1)) == 1
    made = course({"on_fail": ["extend", "retry"]}, diverges=1)
    assert [plan.again.kind for plan in made[1:] if plan.again] == ["retried", "extended"]


def test_a_gate_changes_no_fingerprint() -> None:
    recipe = small_recipe()
    keys = [round_key(plan, recipe, "float32", DATA, DATA) for plan in plan_rounds(recipe)]
    gated = small_recipe("gate={}")
    plans = plan_rounds(gated)
    assert [round_key(plan, gated, "float32", DATA, DATA) for plan in plans] == keys
    assert all(rules_of(gated, plan) is not None for plan in plans)
    assert rules_of(recipe, plans[0]) is None


def test_an_override_of_a_round_precedes_that_of_its_kind() -> None:
    rounds = "{halving: {rms: 0.5, on_fail: ask}, '2': {rms: off}}"
    recipe = small_recipe(f"gate={{rms: 0.2, rounds: {rounds}}}", "evaluation.w=[2, 0, 1]")
    kinds = [recipe.gate.rules(0, "guidance"), *(recipe.gate.rules(i, "halving") for i in (1, 2))]
    assert [rules.rms for rules in kinds] == [0.2, 0.5, False]
    assert [rules.on_fail for rules in kinds] == [("stop",), ("ask",), ("ask",)]
    assert recipe.gate_weights == (0, 1, 2)
    # an override of a round's extension keeps its other keys
    gate = "{on_fail: extend, extend: {share: 0.25, times: 3}, rounds: {'1': {extend: {times: 1}}}}"
    rules_for = small_recipe(f"gate={gate}").gate.rules
    found = [rules_for(index, "halving").extend for index in (1, 2)]
    assert [(each.share, each.times) for each in found] == [(0.25, 1), (0.25, 3)]


def test_the_rounds_of_both_ladders_can_be_named() -> None:
    recipe = small_recipe("halving.sampler=both", "gate={rounds: {'4': {rms: off}}}")
    assert plan_rounds(recipe)[4].sampler == "stochastic"
    assert rules_of(recipe, plan_rounds(recipe)[4]).rms is False
    with pytest.raises(ConfigError, match="use 0 to 4"):
        small_recipe("halving.sampler=both", "gate={rounds: {'5': {rms: off}}}")


@pytest.mark.parametrize(
    ("gate", "complaint"),
    [
        ("{rms: on}", "gate.rms: expected a number above 0, or `off`"),
        ("{rms: 0}", "gate.rms: expected a number above 0, or `off`"),
        ("{on_fail: [stop, ask]}", "gate.on_fail: `stop` must come last"),
        ("{on_fail: [ask, ask]}", "gate.on_fail: .* listed twice"),
        ("{rounds: {'7': {rms: 1}}}", "gate.rounds: unknown round '7'; use 0 to 2"),
        ("{w: [9]}", r"gate.w: \[9.0\] is outside guidance.w"),
        ("{recal: 0.5}", "gate.recal: unknown key; did you mean 'recall'"),
    ],
)
def test_a_gate_that_cannot_be_is_refused(gate: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        small_recipe(f"gate={gate}")
