"""One of each: every schedule, family and method there is, so that newcomers are tested unseen."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from pipeline.bundle import Lineage, Manifest
from pipeline.config import (
    GaussianConfig,
    GuidanceWeights,
    Recipe,
    ScheduleConfig,
    TeacherConfig,
)
from pipeline.diffusion.loss import LossWeight
from pipeline.diffusion.prediction import Prediction, PredictionType, interpret
from pipeline.diffusion.schedule import NoiseLevel, NoiseSchedule
from pipeline.documents import build, read_yaml
from pipeline.methods.method import METHODS, DistillationMethod
from pipeline.models.assemble import fresh_manifest, schedule_of
from pipeline.models.denoiser import Denoiser
from pipeline.tensors import Condition, Latent, PerSample, per_sample

RECIPES = sorted((Path(__file__).parent.parent / "flows" / "recipes").glob("*.yaml"))

SCHEDULES: dict[str, NoiseSchedule] = {
    kind: schedule_of(ScheduleConfig(kind=kind))
    for kind in get_args(ScheduleConfig.model_fields["kind"].annotation)
}


def read_recipe(path: Path) -> Recipe:
    return build(Recipe, read_yaml(path), path.name)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def times(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def legal_levels(schedule: NoiseSchedule, kind: PredictionType) -> NoiseLevel:
    """All levels i/T at which an output of that kind determines (x, eps) without amplifying."""
    total = schedule.num_train_timesteps
    level = schedule.at(torch.arange(total + 1, dtype=torch.float64) / total)
    match kind:
        case PredictionType.EPSILON:
            legal = level.alpha > 0
        case PredictionType.SAMPLE:
            legal = level.sigma > 0
        case _:
            legal = torch.ones_like(level.t, dtype=torch.bool)
    return NoiseLevel(t=level.t[legal], alpha=level.alpha[legal], sigma=level.sigma[legal])


def teacher_config(family: str) -> TeacherConfig:
    """A teacher of that family, from the first shipped recipe that has one."""
    for path in RECIPES:
        recipe = read_recipe(path)
        if recipe.teacher.network.family == family:
            return recipe.teacher
    raise LookupError(f"no recipe in flows/recipes uses the family {family}; ship one with it")


def teacher_manifest(family: str) -> Manifest:
    """The manifest of a teacher of that family, for images as small as the demo's."""
    config = teacher_config(family)
    num_classes, shape = 10, (1, 8, 8)
    if isinstance(config.network, GaussianConfig):
        num_classes, shape = len(config.network.means), (len(config.network.means[0]), 1, 1)
    return fresh_manifest(config, num_classes, shape, Lineage(run="test", round=None, parent=None))


def student_manifest(teacher: Manifest, w: GuidanceWeights | None = None) -> Manifest:
    """The manifest of its stage-1 student."""
    return teacher.model_copy(update={"role": "student", "w": w or GuidanceWeights(min=0, max=4)})


_METHOD_FIELDS: dict[str, Any] = {
    "loss_weight": LossWeight.TRUNCATED_SNR,
    "w": GuidanceWeights(min=0, max=4, mass_at_min=0.25),
    "student_steps": 4,
    "null_condition": {"label": torch.tensor([3])},
    "label_dropout": 0.25,
}


def method(name: str, **changes: Any) -> DistillationMethod:
    """A method with ordinary settings; a field that no one here has met must have a default."""
    kind = METHODS.get(name)
    known = {field.name: _METHOD_FIELDS[field.name] for field in fields(kind) if _is_set(field)}
    return kind(**{**known, **changes})


def _is_set(field: Any) -> bool:
    return field.name in _METHOD_FIELDS or field.default is MISSING


def wavy(z_t: Tensor, level: NoiseLevel) -> Tensor:
    """A velocity that is neither linear in z nor in t."""
    t = per_sample(level.t, z_t)
    return torch.sin(2 * z_t + 3 * t) - 0.5 * torch.cos(5 * t * z_t)


class Affine(Denoiser):
    """A denoiser that is told everything and answers with a smooth velocity, different in all."""

    def __init__(self, schedule: NoiseSchedule) -> None:
        self.schedule = schedule
        self.calls = 0

    def __call__(
        self, z_t: Latent, level: NoiseLevel, condition: Condition, w: PerSample
    ) -> Prediction:
        self.calls += 1
        shape = (-1, *[1] * (z_t.ndim - 1))
        slope = (0.3 + 0.1 * condition["label"] + 0.2 * level.t).reshape(shape)
        velocity = slope * z_t + (w - level.t).reshape(shape)
        return interpret(velocity, self.schedule.velocity, z_t, level)

    def evaluations(self, w: float) -> int:
        return 1
