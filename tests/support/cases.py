"""One case of every schedule, network and method, so that new ones are tested automatically."""

from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pipeline.bundle import Lineage, Manifest
from pipeline.config import (
    DiTConfig,
    GaussianConfig,
    MMDiTConfig,
    Network,
    Recipe,
    ScheduleConfig,
    TeacherConfig,
    UNetConfig,
    WDistribution,
)
from pipeline.diffusion.grid import Grid
from pipeline.diffusion.loss import LossWeight
from pipeline.diffusion.prediction import Prediction, PredictionType, interpret
from pipeline.diffusion.schedule import NoiseLevel, NoiseSchedule
from pipeline.documents import build, read_yaml
from pipeline.methods.method import METHODS, DistillationMethod
from pipeline.models.assemble import family_of, fresh_manifest, save_bundle, schedule_of
from pipeline.models.denoiser import Denoiser
from pipeline.models.family import FAMILIES
from pipeline.tensors import Condition, Latent, PerSample, per_sample

RECIPES = sorted((Path(__file__).resolve().parents[2] / "flows" / "recipes").glob("*.yaml"))

SCHEDULES: dict[str, NoiseSchedule] = {
    kind: schedule_of(ScheduleConfig(kind=kind))
    for kind in get_args(ScheduleConfig.model_fields["kind"].annotation)
}
SCHEDULES["shifted_flow"] = schedule_of(ScheduleConfig(kind="rectified_flow", shift=3.0))


@cache
def read_recipe(path: Path) -> Recipe:
    return build(Recipe, read_yaml(path), path.name)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def times(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def legal_levels(schedule: NoiseSchedule, kind: PredictionType) -> NoiseLevel:
    """All levels i/T at which an output of that type determines (x, eps) without amplification."""
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
    """A class-conditional teacher of that family, from the first shipped recipe with one."""
    for path in RECIPES:
        teacher = read_recipe(path).teacher
        if teacher.network.family == family and not teacher.network.reads_text:
            return teacher
    raise LookupError(f"no recipe in flows/recipes uses the family {family}; ship one with it")


def _unet(**changes: Any) -> UNetConfig:
    tree = {"block_channels": (8, 16), "norm_groups": 4, "w_embedding_dim": 16, "text_channels": 12}
    return UNetConfig.model_validate({"family": "unet", **tree, "attention_heads": 2, **changes})


def _mmdit(kind: Literal["sd3", "flux"], **changes: Any) -> MMDiTConfig:
    return MMDiTConfig(family="mmdit", kind=kind, text_channels=12, pooled_channels=10, **changes)


_TINY: dict[str, Network] = {
    "dit": DiTConfig(family="dit"),
    "mmdit-flux": _mmdit("flux"),
    "mmdit-sd3": _mmdit("sd3"),
    "unet-inpaint": _unet(image_channels=5),
    "unet-sdxl": _unet(pooled_channels=10),
    "unet-text": _unet(),
}

NETWORKS = ["gaussian", "unet", *_TINY]
"""Names of teachers, by what their networks are and are told."""

TOKENS = 5
"""Length of a prompt."""

BAKED_W = 2.0
"""The w of students that cannot be told it."""


def teacher_manifest(name: str) -> Manifest:
    """The manifest of a teacher, for images of the demo's size; `name` is a key of `NETWORKS`."""
    lineage = Lineage(run="test", round=None, parent=None)
    if name in _TINY:
        return _tiny_manifest(_TINY[name], lineage)
    config = teacher_config(name)
    num_classes, shape = 10, (1, 8, 8)
    if isinstance(config.network, GaussianConfig):
        num_classes, shape = len(config.network.means), (len(config.network.means[0]), 1, 1)
    return fresh_manifest(config, num_classes, shape, lineage)


def _tiny_manifest(network: Network, lineage: Lineage) -> Manifest:
    is_flow = network.family == "mmdit"
    return Manifest(
        role="teacher",
        network=network,
        num_classes=0 if network.reads_text else 10,
        latent_shape=(4, 8, 8),
        schedule=ScheduleConfig(
            kind="rectified_flow" if is_flow else "scaled_linear", num_train_timesteps=1000
        ),
        prediction_type="flow_prediction" if is_flow else "epsilon",
        folder=FAMILIES.get(network.family).folder,
        lineage=lineage,
    )


def student_manifest(teacher: Manifest, w: WDistribution | None = None) -> Manifest:
    """The manifest of its stage-1 student; w is baked in if the network has no input for it."""
    if teacher.network.why_not_w is not None:
        law = WDistribution(min=BAKED_W, max=BAKED_W, mass_at_min=0)
        return teacher.model_copy(update={"role": "student", "w": law, "baked_w": BAKED_W})
    return teacher.model_copy(update={"role": "student", "w": w or WDistribution(min=0, max=4)})


def save_untrained(place: Path, manifest: Manifest) -> Path:
    """Write the bundle of a network before any update, with the same weights on each call."""
    family = family_of(manifest)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = family.build()
        if manifest.role == "student":
            module = family.student_of(module, (0.0, 4.0))
    save_bundle(place, manifest, module)
    return place


def condition_of(manifest: Manifest, count: int) -> Condition:
    """Conditions of a manifest's network, all different."""
    network = manifest.network
    if not network.reads_text:
        return {"label": torch.arange(count) % manifest.num_classes}
    condition = {"text": normal(count, TOKENS, _channels(network, "text"), seed=2).float()}
    if pooled := _channels(network, "pooled"):
        condition["pooled"] = normal(count, pooled, seed=3).float()
    if isinstance(network, UNetConfig) and network.pooled_channels:
        condition["time_ids"] = (
            torch.arange(6.0).repeat(count, 1) * (1 + torch.arange(count))[:, None]
        )
    if isinstance(network, UNetConfig) and network.image_channels:
        _, height, width = manifest.latent_shape
        condition["image"] = normal(count, network.image_channels, height, width, seed=4).float()
    return condition


def null_of(manifest: Manifest) -> Condition | None:
    """The embedding of the empty prompt, for a text-conditioned network."""
    if not manifest.network.reads_text:
        return None
    null = {"text": normal(1, TOKENS, _channels(manifest.network, "text"), seed=5).float()}
    if pooled := _channels(manifest.network, "pooled"):
        null["pooled"] = normal(1, pooled, seed=6).float()
    return null


def _channels(network: Network, kind: Literal["text", "pooled"]) -> int:
    if not isinstance(network, UNetConfig | MMDiTConfig):
        return 0
    return (network.text_channels if kind == "text" else network.pooled_channels) or 0


_METHOD_FIELDS: dict[str, Any] = {
    "loss_weight": LossWeight.TRUNCATED_SNR,
    "w": WDistribution(min=0, max=4, mass_at_min=0.25),
    "grid": Grid(4),
    "teacher_grid": Grid(8),
    "null_condition": {"label": torch.tensor([3])},
    "label_dropout": 0.25,
}


def method(name: str, **changes: Any) -> DistillationMethod:
    """A method with ordinary settings; unknown fields must have a default."""
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
    """A denoiser whose velocity is smooth and depends on all of its inputs."""

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
