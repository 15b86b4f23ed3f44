"""A round that is done: its student, and every attempt that it took to get one."""

from dataclasses import dataclass

from pipeline.ledger import Artifact
from pipeline.training.round_plan import RoundPlan

Attempt = tuple[RoundPlan, Artifact | None]
"""A round as it was tried, and its student; None where training broke off."""


@dataclass(frozen=True)
class MadeRound:
    """A round whose student may teach.

    Attributes:
        plan: the round as it is in the recipe.
        attempts: what was tried, in order; the last is the one whose student was let through.
            Without a gate there is one, and it is the plan.
    """

    plan: RoundPlan
    attempts: tuple[Attempt, ...]

    @property
    def accepted(self) -> RoundPlan:
        """The attempt that made the student; numbers of the student belong to it."""
        return self.attempts[-1][0]

    @property
    def student(self) -> Artifact:
        """The student of the round."""
        student = self.attempts[-1][1]
        if student is None:
            raise TypeError(f"{self.plan.title}: a round without a student is not done")
        return student
