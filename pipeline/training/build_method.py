"""From a round's plan to the method that runs it."""

from pipeline.config import UNIFORM
from pipeline.diffusion.loss import LossWeight
from pipeline.methods.denoising import Denoising
from pipeline.methods.guidance import GuidanceDistillation
from pipeline.methods.method import DistillationMethod
from pipeline.methods.progressive import ProgressiveDistillation
from pipeline.models.family import ModelFamily
from pipeline.training.round_plan import RoundPlan


def method_of(plan: RoundPlan, family: ModelFamily) -> DistillationMethod:
    """The method of a round, with everything the plan decides filled in."""
    weight = LossWeight(plan.loss_weight)
    if plan.method == "denoising":
        return Denoising(
            loss_weight=weight,
            null_condition=family.null_row,
            label_dropout=plan.label_dropout,
        )
    if plan.w is None:
        raise TypeError(f"{plan.title} distils guidance and has no law of w")
    if plan.method == "guidance":
        return GuidanceDistillation(loss_weight=weight, w=plan.w, time=plan.time or UNIFORM)
    if plan.grid is None or plan.teacher_grid is None:
        raise TypeError(f"{plan.title} halves steps and has no step counts")
    return ProgressiveDistillation(
        loss_weight=weight,
        w=plan.w,
        grid=plan.grid,
        teacher_grid=plan.teacher_grid,
        on_policy_fraction=plan.on_policy_fraction,
        on_policy_source=plan.on_policy_source,
    )
