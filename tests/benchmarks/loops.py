"""The compared training loops: a round of the product, and a single-file script."""

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from infra.deepspeed.engine import DeepSpeedEngine
from pipeline.config import TrainingConfig
from pipeline.config.profile import EngineConfig
from pipeline.methods.method import DistillationMethod, Networks, NoisedBatch
from pipeline.models.assemble import family_of, network_denoiser
from pipeline.models.unet.unet import embed_w
from pipeline.tracking import JsonlTracker
from pipeline.training.batches import TargetSource, method_of
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.ema_optimiser import OptimiserPlan
from pipeline.training.engines import TorchEngine, TrainEngine
from pipeline.training.loop import RoundInputs, train_round
from tests.benchmarks.harness import Arm
from tests.benchmarks.sizes import W_DIM, Size, Targets

OPTIMISER = OptimiserPlan(learning_rate=1e-4, total_updates=1_000_000, clip_norm=1.0)
TIMESTEPS = 1024
LOG_EVERY = 10


class OpenRound:
    """A halving round on pregenerated targets, as `stages.rounds.train_worker` puts it together.

    Args:
        size: network and batch.
        targets: its target shards.
        folder: where its numbers are logged.
        deepspeed: ZeRO-1 on DeepSpeed, else the reference engine in plain torch.
    """

    def __init__(
        self, size: Size, targets: Targets, folder: Path, *, deepspeed: bool = True
    ) -> None:
        manifest = size.manifest()
        module = size.module().train()
        self.engine: TrainEngine
        if deepspeed:
            self.engine = DeepSpeedEngine(
                module, OPTIMISER, global_batch=size.batch, zero_stage=1, precision="float32"
            )
        else:
            self.engine = TorchEngine(module, OPTIMISER)
        self._folder = folder
        self._plan = size.plan()
        self.method: DistillationMethod = method_of(self._plan, family_of(manifest))
        self.student = network_denoiser(manifest, self.engine.module)
        self.source = TargetSource(
            targets.tars, targets.samples(), self._plan.stream, self.engine.device
        )
        self.batch = size.batch

    def updates(self, count: int) -> None:
        """Run `train_round` itself for `count` updates from the start of the round's order."""
        training = TrainingConfig(updates=count, batch_size=self.batch)
        plan = self._plan.model_copy(update={"training": training})
        train_round(
            RoundInputs(plan, self.method, Networks(self.student), self.source),
            self.engine,
            Checkpoints(self._folder / "checkpoints", "none", keep=1, attempt="benchmark"),
            EngineConfig(checkpoint_every=10**9, log_every=LOG_EVERY),
            lambda seen: JsonlTracker(self._folder / "metrics.jsonl", seen),
        )


def in_memory(draws: NoisedBatch, velocity: Tensor) -> dict[str, Tensor]:
    """A round's draws and targets in memory, as in a research script."""
    label = draws.condition["label"]
    return {"z_t": draws.z_t, "velocity": velocity, "t": draws.t, "w": draws.w, "label": label}


def plain_loop(model: nn.Module, data: dict[str, Tensor], batch: int, *, fused: bool) -> Arm:
    """The loop of a single-file research script: a network, tensors in memory, Adam.

    The same network, batch, loss, clipping and annealing as a round, and one number read in ten
    updates. Nothing of the product but the embedding of w, which stock pipelines have too.

    Args:
        model: a student UNet, trained where it is.
        data: what `in_memory` returns, on the model's device.
        batch: samples of an update.
        fused: use Adam's fused kernel; without it torch's default on this device.
    """
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True if fused else None)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 1_000_000)
    losses: list[float] = []

    def train(updates: int) -> None:
        order = torch.randperm(len(data["t"])).repeat(1 + updates * batch // len(data["t"]))
        for step in range(updates):
            rows = order[step * batch : (step + 1) * batch]
            loss = loss_of(model, {name: column[rows] for name, column in data.items()})
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            if step % LOG_EVERY == 0:
                losses.append(loss.item())

    return train


def loss_of(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The truncated-SNR weighted squared error of the velocity."""
    t = batch["t"].float()
    prediction = model(
        batch["z_t"],
        t * TIMESTEPS - 1,
        encoder_hidden_states=None,
        class_labels=batch["label"],
        timestep_cond=embed_w(batch["w"], W_DIM),
        return_dict=False,
    )[0]
    angle = t * math.pi / 2
    weight = torch.maximum(angle.cos() ** 2, angle.sin() ** 2)
    return (weight * (prediction - batch["velocity"]).square().flatten(1).mean(1)).mean()
