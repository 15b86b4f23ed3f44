"""What follows a student that failed the gate: decided from the recipe and what was tried.

Nothing is remembered but what is committed, so a run that was killed decides as it would have.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.config import GateRules, Recipe, Remedy
from pipeline.evaluation.verdicts.gate_documents import RoundVerdict
from pipeline.ledger import Artifact
from pipeline.training.round_plan import TEACHER_ROUND, Again, RoundPlan


def rules_of(recipe: Recipe, plan: RoundPlan) -> GateRules | None:
    """The gate of a round; None where the recipe has none, or no student that draws is made."""
    if recipe.gate is None or plan.direction != "decode" or plan.index == TEACHER_ROUND:
        return None
    return recipe.gate.rules(plan.index, "guidance" if plan.method == "guidance" else "halving")


@dataclass(frozen=True)
class Judged:
    """One attempt at a round and what the gate says of it.

    Attributes:
        plan: the attempt.
        student: its student; None if training broke off because its numbers went bad.
        record: the committed verdict.
        verdict: what it says.
        answer: what a person said when the verdict was no; None if nobody did.
    """

    plan: RoundPlan
    student: Artifact | None
    record: Artifact
    verdict: RoundVerdict
    answer: bool | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether its student may teach."""
        return self.student is not None and (self.verdict.passed or self.answer is True)


Attempt = Callable[[RoundPlan], Judged | None]
"""Make and judge the student of a plan; None, if it only looks and finds none, ends the search."""

Decide = Callable[[Judged, Sequence[Again], Remedy], None]
"""Told of every failed attempt, what was tried before it, and what follows."""


def settle(
    plan: RoundPlan,
    rules: GateRules,
    attempt: Attempt,
    ask: Callable[[Judged], bool | None],
    decide: Decide = lambda judged, tried, remedy: None,  # noqa: ARG005
) -> Judged | None:
    """Go from attempt to attempt until a student is accepted or nothing is left to try.

    Args:
        plan: the round.
        rules: its gate.
        attempt: see `Attempt`.
        ask: put the question to a person; None if there is no answer to be had.
        decide: see `Decide`.

    Returns:
        The accepted attempt, or the last failed one; None if `attempt` ended the search.
    """
    tried: list[Again] = []
    current = plan
    while True:
        judged = attempt(current)
        if judged is None or judged.is_accepted:
            return judged
        remedy = next_remedy(rules, tried, judged)
        decide(judged, tried, remedy)
        if remedy == "ask":
            answer = ask(judged)
            judged = Judged(judged.plan, judged.student, judged.record, judged.verdict, answer)
            if answer is not False:
                return judged
            remedy = next_remedy(rules, tried, judged)
            decide(judged, tried, remedy)
        if remedy == "stop":
            return judged
        again = _again(rules, tried, judged, remedy)
        tried.append(again)
        current = _over(plan, rules, again)


def next_remedy(rules: GateRules, tried: Sequence[Again], judged: Judged) -> Remedy:
    """The first remedy of the recipe that is not used up.

    Where training broke off there is no student to train on or to show. A person's no is not asked
    for twice.
    """
    left = {
        "extend": judged.student is not None and _count(tried, "extended") < rules.extend.times,
        "retry": _count(tried, "retried") < rules.retry.times,
        "ask": judged.student is not None and judged.answer is None,
        "stop": True,
    }
    return next((remedy for remedy in rules.on_fail if left[remedy]), "stop")


def _count(tried: Sequence[Again], kind: str) -> int:
    return sum(again.kind == kind for again in tried)


def _again(rules: GateRules, tried: Sequence[Again], judged: Judged, remedy: Remedy) -> Again:
    if remedy == "retry":
        number = _count(tried, "retried") + 1
        return Again(kind="retried", number=number, rate=rules.retry.factor**number)
    if judged.student is None:
        raise TypeError("there is no student to train on")
    return Again(
        kind="extended",
        number=_count(tried, "extended") + 1,
        rate=judged.plan.again.rate if judged.plan.again else 1.0,
        start=judged.student.digest,
    )


def _over(plan: RoundPlan, rules: GateRules, again: Again) -> RoundPlan:
    """The round done over; extended it takes a share of its updates more."""
    share = rules.extend.share if again.kind == "extended" else 1.0
    updates = max(1, round(plan.training.updates * share))
    training = plan.training.model_copy(update={"updates": updates})
    return plan.model_copy(update={"again": again, "training": training})
