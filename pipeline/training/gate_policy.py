"""Quality-gate policy: choose the remedy for a failed student from the recipe and past attempts.

Decisions depend only on committed records, so a resumed run makes the same ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pipeline.config import GateRules, Recipe, Remedy
from pipeline.evaluation.verdicts.gate_documents import RoundVerdict
from pipeline.ledger import Artifact
from pipeline.training.round_plan import TEACHER_ROUND, Retry, RoundPlan


def rules_of(recipe: Recipe, plan: RoundPlan) -> GateRules | None:
    """Return the gate rules of a round; None without a gate, or if the round makes no decoder."""
    if recipe.gate is None or plan.direction != "decode" or plan.index == TEACHER_ROUND:
        return None
    return recipe.gate.rules(plan.index, "guidance" if plan.method == "guidance" else "halving")


@dataclass(frozen=True)
class JudgedAttempt:
    """One attempt at a round and its gate verdict.

    Attributes:
        plan: the attempt's plan.
        student: its student; None if training diverged.
        record: the committed verdict artifact.
        verdict: content of the verdict.
        answer: manual decision on the student (True approves it), which precedes the verdict;
            None if there is no decision.
    """

    plan: RoundPlan
    student: Artifact | None
    record: Artifact
    verdict: RoundVerdict
    answer: bool | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether its student may be the next teacher."""
        accepted = self.verdict.passed if self.answer is None else self.answer
        return self.student is not None and accepted


Attempt = Callable[[RoundPlan], JudgedAttempt | None]
"""Train and judge the student of a plan; a look-up returns None if it is absent: end the search."""

OnFailure = Callable[[JudgedAttempt, Sequence[Retry], Remedy], None]
"""Callback for every failed attempt: the attempt, earlier retries, and the chosen remedy."""


def run_attempts(
    plan: RoundPlan,
    rules: GateRules,
    attempt: Attempt,
    ask: Callable[[JudgedAttempt], bool | None],
    decide: OnFailure = lambda judged, tried, remedy: None,  # noqa: ARG005
) -> JudgedAttempt | None:
    """Run attempts until a student is accepted or no remedy is left.

    Args:
        plan: plan of the round.
        rules: gate rules of the round.
        attempt: see `Attempt`.
        ask: request a manual decision; returns None if there is no decision.
        decide: see `OnFailure`.

    Returns:
        The accepted attempt, or the last failed one; None if `attempt` ended the search.
    """
    tried: list[Retry] = []
    current = plan
    while True:
        judged = attempt(current)
        if judged is None or judged.is_accepted:
            return judged
        remedy = next_remedy(rules, tried, judged)
        decide(judged, tried, remedy)
        if remedy == "ask":
            answer = ask(judged)
            judged = replace(judged, answer=answer)
            if answer is not False:
                return judged
            remedy = next_remedy(rules, tried, judged)
            decide(judged, tried, remedy)
        if remedy == "stop":
            return judged
        again = _plan_retry(rules, tried, judged.plan, judged.student, remedy)
        tried.append(again)
        current = _retried_plan(plan, rules, again)


def next_remedy(rules: GateRules, tried: Sequence[Retry], judged: JudgedAttempt) -> Remedy:
    """Return the first remedy of the recipe that is not used up.

    If training diverged, there is no student to extend or to show. A manual rejection is not
    requested twice.
    """
    left = {
        "extend": judged.student is not None and _count(tried, "extended") < rules.extend.times,
        "retry": _count(tried, "retried") < rules.retry.times,
        "ask": judged.student is not None and judged.answer is None,
        "stop": True,
    }
    return next((remedy for remedy in rules.on_fail if left[remedy]), "stop")


def _count(tried: Sequence[Retry], kind: str) -> int:
    return sum(again.kind == kind for again in tried)


def _plan_retry(
    rules: GateRules,
    tried: Sequence[Retry],
    plan: RoundPlan,
    student: Artifact | None,
    kind: Remedy,
) -> Retry:
    if kind == "retry":
        number = _count(tried, "retried") + 1
        return Retry(kind="retried", number=number, rate=rules.retry.factor**number)
    if student is None:
        raise TypeError("student is None; a round without a student cannot be extended")
    return Retry(
        kind="extended",
        number=_count(tried, "extended") + 1,
        rate=plan.again.rate if plan.again else 1.0,
        start=student.digest,
    )


def _retried_plan(plan: RoundPlan, rules: GateRules, again: Retry) -> RoundPlan:
    """Build the plan of a retry; an extension trains for a fraction of the round's updates."""
    share = rules.extend.share if again.kind == "extended" else 1.0
    return plan.attempt(again, max(1, round(plan.training.updates * share)))
