"""A round of the product, opened so that a benchmark can have it make updates when it likes."""

from pathlib import Path

from infra.deepspeed.engine import DeepSpeedEngine
from pipeline.config import TrainingConfig
from pipeline.config.profile import EngineConfig
from pipeline.methods.method import DistillationMethod
from pipeline.models.assemble import family_of, network_denoiser
from pipeline.tracking import JsonlTracker
from pipeline.training.batches import TargetSource, method_of
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.engines import OptimiserPlan, TorchEngine, TrainEngine
from pipeline.training.loop import RoundInputs, train_round
from tests.benchmarks.sizes import Size, Targets

OPTIMISER = OptimiserPlan(learning_rate=1e-4, total_updates=1_000_000, clip_norm=1.0)
LOG_EVERY = 10


class OpenRound:
    """A halving round on pre-generated targets, as `stages.rounds.train_worker` puts it together.

    Args:
        size: network and batch.
        targets: its target shards.
        folder: where its numbers are logged.
        deepspeed: ZeRO-1 on DeepSpeed, else the reference engine in plain torch.
        precision: of the network under DeepSpeed.
    """

    def __init__(
        self,
        size: Size,
        targets: Targets,
        folder: Path,
        *,
        deepspeed: bool = True,
        precision: str = "float32",
    ) -> None:
        manifest = size.manifest()
        self.engine: TrainEngine
        module = size.module().train()
        if deepspeed:
            self.engine = DeepSpeedEngine(
                module, OPTIMISER, global_batch=size.batch, zero_stage=1, precision=precision
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
            RoundInputs(plan=plan, method=self.method, student=self.student, source=self.source),
            self.engine,
            Checkpoints(self._folder / "checkpoints", "none", keep=1, attempt="benchmark"),
            EngineConfig(checkpoint_every=10**9, log_every=LOG_EVERY),
            lambda seen: JsonlTracker(self._folder / "metrics.jsonl", seen),
        )
