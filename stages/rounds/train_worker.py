"""Ray Train worker of a round: build the parts from a JSON job, train, save the student."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from infra.deepspeed.engine import DeepSpeedEngine, join_group, partition_over_workers
from infra.process.watchdog import Watchdog, WatchedEngine
from pipeline.bundle import Manifest, read_manifest
from pipeline.config.profile import EngineConfig
from pipeline.data.latents import open_samples
from pipeline.documents import Document
from pipeline.methods.method import Networks
from pipeline.models.assemble import (
    family_of,
    load_denoiser,
    load_module,
    network_denoiser,
    save_bundle,
)
from pipeline.models.denoiser import Denoiser
from pipeline.sampling.preview import Preview, draw_preview
from pipeline.tensors import Condition
from pipeline.tracking import JsonlTracker
from pipeline.training.batches import BatchSource, OnlineSource, TargetSource, method_of
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.ema_optimiser import OptimiserPlan
from pipeline.training.engines import TrainEngine
from pipeline.training.loop import RoundInputs, train_round
from pipeline.training.monitors import check_finite
from pipeline.training.round_plan import RoundPlan


class RoundJob(Document):
    """One round of training, as sent to the workers.

    Attributes:
        plan: the round.
        key: fingerprint of the student.
        attempt: identity of the driver's attempt, see `pipeline.training.checkpoint.claim`.
        manifest: the student's manifest.
        teacher: teacher bundle; None when a teacher is trained from data.
        start: bundle of the student to start from; None to start from the teacher.
        data: data set folder.
        targets: target shards in order; None to compute targets online.
        output: directory for the student bundle.
        checkpoints: folder of the round's checkpoints.
        metrics: metrics file of the round.
        engine: engine configuration.
        preview: preview samples drawn after the bundle is saved; None for no preview.
    """

    plan: RoundPlan
    key: str
    attempt: str
    manifest: Manifest
    teacher: str | None
    start: str | None = None
    data: str
    targets: tuple[str, ...] | None
    output: str
    checkpoints: str
    metrics: str
    engine: EngineConfig
    preview: Preview | None = None


OpenEngine = Callable[[nn.Module, OptimiserPlan], TrainEngine]


def train(payload: dict[str, Any]) -> None:
    """Train one round on this rank; rank 0 writes the student bundle to `output`."""
    job = RoundJob.model_validate(payload)
    join_group()
    with Watchdog(dist.get_world_size()) as watchdog:

        def open_engine(module: nn.Module, plan: OptimiserPlan) -> TrainEngine:
            engine = DeepSpeedEngine(
                module,
                plan,
                global_batch=job.plan.training.batch_size,
                zero_stage=job.engine.zero_stage,
                precision=job.engine.precision,
            )
            return WatchedEngine(engine, watchdog)

        train_with(job, open_engine)


def train_with(job: RoundJob, open_engine: OpenEngine) -> None:
    """Train one round on an engine that `open_engine` creates."""
    plan = job.plan
    student_module = _initial_student(job)
    if job.engine.gradient_checkpointing:
        family_of(job.manifest).checkpoint_gradients(student_module)
    engine = open_engine(
        student_module,
        OptimiserPlan(
            learning_rate=plan.learning_rate,
            total_updates=plan.training.updates,
            clip_norm=plan.training.clip_norm,
            ema_decay=plan.training.ema_decay,
            betas=plan.training.betas,
            weight_decay=plan.training.weight_decay,
            schedule=plan.training.schedule,
            warmup=plan.training.warmup,
        ),
    )
    student = network_denoiser(job.manifest, engine.module)
    samples = open_samples(Path(job.data), "train")
    method = method_of(plan, family_of(job.manifest, samples.null))
    networks = Networks(student, _load_teacher(job, engine.device))
    if job.targets is not None:
        tars = [Path(tar) for tar in job.targets]
        source: BatchSource = TargetSource(tars, samples, plan.stream, engine.device)
    else:
        source = OnlineSource(
            method, networks, student.schedule, samples, plan.stream, engine.device
        )
    train_round(
        RoundInputs(plan=plan, method=method, networks=networks, source=source),
        engine,
        Checkpoints(Path(job.checkpoints), job.key, job.engine.keep_checkpoints, job.attempt),
        job.engine,
        lambda samples_seen: JsonlTracker(Path(job.metrics), samples_seen),
    )
    weights = engine.full_weights()
    if engine.rank == 0:
        # only a teacher needs the null condition, for guidance
        _save(job, weights, samples.null if job.teacher is None else None)
        if job.preview is not None:
            draw_preview(job.preview, Path(job.output))


def _initial_student(job: RoundJob) -> nn.Module:
    """Build the network as it is at the start of the round; the same on every rank."""
    torch.manual_seed(job.plan.seed)
    family = family_of(job.manifest)
    if job.teacher is None:
        return family.build()
    teacher = Path(job.start or job.teacher)
    module = load_module(teacher, read_manifest(teacher))
    if job.start is None and job.plan.new_w_range is not None:
        module = family.student_of(module, job.plan.new_w_range)
    return module.requires_grad_(requires_grad=True).train()


def _load_teacher(job: RoundJob, device: torch.device) -> Denoiser | None:
    """Load the teacher where targets are computed during training."""
    if job.teacher is None or job.targets is not None:
        return None
    wrap = partition_over_workers if job.engine.split_teacher else None
    return load_denoiser(Path(job.teacher), device, wrap)[1]


def _save(job: RoundJob, weights: dict[str, Tensor], null: Condition | None) -> None:
    check_finite(weights, job.plan.title)
    module = _initial_student(job)
    module.load_state_dict(weights, strict=True)
    save_bundle(Path(job.output), job.manifest, module.eval(), null)
