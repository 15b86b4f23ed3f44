"""What `stepfold plan` shows of one stage."""

from typing import Literal

from pydantic import NonNegativeInt

from pipeline.documents import Document


class PlanRow(Document):
    """One stage of a chain: done or to do, why, and what it costs if it runs.

    Attributes:
        label: the stage as a person calls it.
        state: whether its result is committed.
        reason: what is committed, or why nothing is.
        updates: optimiser updates.
        tuples: targets computed ahead of time.
        bytes: what those occupy.
        teacher_evaluations: network evaluations of the teacher, one sample each.
        student_evaluations: network evaluations of the student, one sample each.
    """

    label: str
    state: Literal["done", "to do"]
    reason: str
    updates: NonNegativeInt = 0
    tuples: NonNegativeInt = 0
    bytes: NonNegativeInt = 0
    teacher_evaluations: NonNegativeInt = 0
    student_evaluations: NonNegativeInt = 0
