"""Build the distillation method of a round plan."""

from pipeline.config import UNIFORM
from pipeline.diffusion.loss import LossWeight
from pipeline.methods.denoising import Denoising
from pipeline.methods.guidance import GuidanceDistillation
from pipeline.methods.method import DistillationMethod
from pipeline.methods.progressive import ProgressiveDistillation
from pipeline.models.family import ModelFamily
from pipeline.training.round_plan import RoundPlan


def method_of(plan: RoundPlan, family: ModelFamily) -> DistillationMethod:
    """Build the distillation method of a round.

    Raises:
        TypeError: the plan lacks a value that its method needs.
    """
    weight = LossWeight(plan.loss_weight)
    if plan.method == "denoising":
        return Denoising(
            loss_weight=weight,
            null_condition=family.null_row,
            label_dropout=plan.label_dropout,
        )
    if plan.w is None:
        raise TypeError(f"{plan.title}: w is None; a distillation round needs a w distribution")
    if plan.method == "guidance":
        return GuidanceDistillation(loss_weight=weight, w=plan.w, time=plan.time or UNIFORM)
    if plan.grid is None or plan.teacher_grid is None:
        raise TypeError(f"{plan.title}: step counts are None; a halving needs them")
    return ProgressiveDistillation(
        loss_weight=weight,
        w=plan.w,
        grid=plan.grid,
        teacher_grid=plan.teacher_grid,
        on_policy_fraction=plan.on_policy_fraction,
        on_policy_source=plan.on_policy_source,
    )
