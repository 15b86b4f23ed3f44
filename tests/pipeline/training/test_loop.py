"""A round is a function of its plan: interrupted or not, it ends with the same bytes."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from pipeline.bundle import Lineage
from pipeline.config import Recipe, WDistribution
from pipeline.data.shards.reader import SampleShards
from pipeline.documents import apply_override, build, read_yaml
from pipeline.errors import DivergenceError, InfraError
from pipeline.methods.method import NoisedBatch
from pipeline.models.assemble import denoiser_of, family_of, fresh_manifest, network_denoiser
from pipeline.tensors import Latent
from pipeline.tracking import JsonlTracker, read_metrics
from pipeline.training.batches import BatchSource, OnlineSource
from pipeline.training.build_method import method_of
from pipeline.training.checkpoint import Checkpoints, claim
from pipeline.training.engines import OptimiserPlan, TorchEngine
from pipeline.training.loop import Intervals, RoundInputs, train_round
from pipeline.training.plan import plan_rounds
from stages.data.shard import shard
from stages.workspace import Workspace

RECIPES = Path(__file__).resolve().parents[3] / "flows" / "recipes"


class StoppedError(Exception):
    """The process went away here."""


class StoppingSource(BatchSource):
    """A source that is cut off at a position, as a kill would."""

    def __init__(self, source: BatchSource, position: float) -> None:
        self.source = source
        self.position = position

    def at(self, first: int, count: int) -> tuple[NoisedBatch, Latent]:
        if first >= self.position:
            raise StoppedError
        return self.source.at(first, count)


class PoisonedSource(StoppingSource):
    """A source whose targets are not numbers from a position on."""

    def at(self, first: int, count: int) -> tuple[NoisedBatch, Latent]:
        draws, target = self.source.at(first, count)
        return draws, target * math.nan if first >= self.position else target


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    tree = read_yaml(RECIPES / "gaussian.yaml")
    for override in ("guidance.updates=30", "guidance.batch_size=32", "guidance.ema_decay=0.9"):
        apply_override(tree, override)
    return build(Recipe, tree, "gaussian.yaml")


@pytest.fixture(scope="module")
def data(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("data")
    return run_dir / shard(Workspace(run_dir, recipe)).value.path


Train = Callable[..., dict[str, Tensor]]


@pytest.fixture
def train(recipe: Recipe, data: Path, tmp_path: Path) -> Train:
    plan = plan_rounds(recipe)[0]
    lineage = Lineage(run="test", round=None, parent=None)
    manifest = fresh_manifest(recipe.teacher, 3, (2, 1, 1), lineage)
    family = family_of(manifest)
    told = manifest.model_copy(update={"role": "student", "w": WDistribution()})

    def run(
        wrap: Callable[[BatchSource], BatchSource] = lambda source: source,
        attempt: str = "one",
        claimed: str | None = None,
        engine_class: type[TorchEngine] = TorchEngine,
        rate: float = 1.0,
    ) -> dict[str, Tensor]:
        teacher = family.build()
        engine = engine_class(
            family.student_of(teacher, (0.0, 4.0)),
            OptimiserPlan(
                learning_rate=rate * plan.training.learning_rate,
                total_updates=plan.training.updates,
                clip_norm=plan.training.clip_norm,
                ema_decay=plan.ema_decay,
            ),
        )
        student = network_denoiser(told, engine.module)
        method = method_of(plan, family)
        source: Any = OnlineSource(
            method,
            student,
            denoiser_of(manifest, teacher),
            SampleShards(data, "train"),
            plan.stream,
            engine.device,
        )
        folder = tmp_path / "checkpoints"
        claim(folder, claimed or attempt)
        train_round(
            RoundInputs(plan=plan, method=method, student=student, source=wrap(source)),
            engine,
            Checkpoints(folder, "key", 2, attempt),
            Intervals(checkpoint_every=8, log_every=1),
            lambda seen: JsonlTracker(tmp_path / "metrics.jsonl", seen),
        )
        return engine.full_weights()

    return run


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("stop", [3, 8, 20, 29])
def test_stopped_and_resumed_is_never_stopped(train: Train, tmp_path: Path, stop: int) -> None:
    with pytest.raises(StoppedError):
        train(lambda source: StoppingSource(source, stop * 32))
    resumed = train()
    points = [line["samples_seen"] for line in read_metrics(tmp_path / "metrics.jsonl")]
    assert points == [32 * update for update in range(1, 31)]
    for leftover in (tmp_path / "checkpoints/ledger").glob("*.json"):
        leftover.unlink()
    assert same(resumed, train())


def test_a_damaged_checkpoint_is_left_aside(train: Train, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train(lambda source: StoppingSource(source, 26 * 32))
    newest = max((tmp_path / "checkpoints").glob("update-*"))
    for file in newest.rglob("*"):
        file.write_bytes(b"rotten")
    resumed = train()
    for leftover in (tmp_path / "checkpoints/ledger").glob("*.json"):
        leftover.unlink()
    assert same(resumed, train())


def test_what_dead_attempts_staged_is_cleared_and_never_read(train: Train, tmp_path: Path) -> None:
    undisturbed = train()
    folder = tmp_path / "checkpoints"
    shutil.rmtree(folder)
    (folder / ".staging-dead").mkdir(parents=True)
    (folder / ".staging-dead" / "state.pt").write_bytes(b"half")
    (folder / "ledger").mkdir()
    (folder / "ledger" / ("a" * 32 + ".json")).write_text('{"kind": "checkpoi')  # half-written
    (folder / "ledger" / ".b.json.0123.tmp").write_text("{")
    (folder / "update-0000008").mkdir()  # without a record
    assert same(train(), undisturbed)
    assert not (folder / ".staging-dead").exists()


class OtherEngine(TorchEngine):
    """The same engine as if its state were divided in another way."""

    @property
    def layout(self) -> str:
        return "two processes"


def test_a_checkpoint_of_another_layout_is_left_aside(train: Train) -> None:
    with pytest.raises(StoppedError):
        train(lambda source: StoppingSource(source, 26 * 32))
    elsewhere = train(engine_class=OtherEngine)  # from the beginning
    assert same(elsewhere, train())


def test_a_loss_that_is_not_finite_stops_before_the_update(train: Train, tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match=r"the loss is nan at update 17.*last checkpoint"):
        train(lambda source: PoisonedSource(source, 17 * 32))
    losses = [line["train/loss"] for line in read_metrics(tmp_path / "metrics.jsonl")]
    assert len(losses) == 17
    assert all(math.isfinite(loss) for loss in losses)
    assert max(p.name for p in (tmp_path / "checkpoints").glob("update-*")) == "update-0000016"


class PoisonedEngine(TorchEngine):
    """An engine one of whose gradients goes bad on the way back, while the loss is sound."""

    bad: ClassVar[float] = math.nan

    def __init__(self, module: nn.Module, plan: OptimiserPlan) -> None:
        super().__init__(module, plan)
        self.updates = 0
        next(module.parameters()).register_hook(self._poison)

    def _poison(self, gradient: Tensor) -> Tensor:
        return gradient * self.bad if self.updates == 17 else gradient

    def step(self) -> float:
        before = [p.detach().clone() for p in self.module.parameters()]
        try:
            norm = super().step()
        except DivergenceError:
            # no step was made
            assert all(map(torch.equal, before, self.module.parameters()))
            raise
        self.updates += 1
        return norm


class InfiniteEngine(PoisonedEngine):
    """The same with infinity."""

    bad = math.inf


@pytest.mark.parametrize("engine_class", [PoisonedEngine, InfiniteEngine])
def test_a_gradient_that_is_not_finite_stops_before_the_update(
    train: Train, tmp_path: Path, engine_class: type[TorchEngine]
) -> None:
    said = r"round 0.*, update 17: the gradient norm is (nan|inf).*Lower learning_rate"
    with pytest.raises(DivergenceError, match=said):
        train(engine_class=engine_class)
    assert len(list(read_metrics(tmp_path / "metrics.jsonl"))) == 17
    assert max(p.name for p in (tmp_path / "checkpoints").glob("update-*")) == "update-0000016"
    resumed = train()  # the last good checkpoint is sound
    for leftover in (tmp_path / "checkpoints/ledger").glob("*.json"):
        leftover.unlink()
    assert same(resumed, train())


def test_a_rate_a_thousand_times_too_large_is_stopped_with_advice(
    train: Train, tmp_path: Path
) -> None:
    with pytest.raises(DivergenceError, match=r"training diverged.*learning_rate"):
        train(rate=1000)
    losses = [line["train/loss"] for line in read_metrics(tmp_path / "metrics.jsonl")]
    assert len(losses) < 30
    assert all(math.isfinite(loss) for loss in losses)


def test_an_attempt_that_was_superseded_cannot_write(train: Train) -> None:
    with pytest.raises(InfraError, match=r"held by attempt two"):
        train(attempt="one", claimed="two")


class OvertakenEngine(TorchEngine):
    """An engine that is superseded while it writes."""

    def save(self, folder: Path, state: dict[str, Any]) -> None:
        super().save(folder, state)
        claim(folder.parent, "two")


def test_an_attempt_superseded_while_it_writes_commits_nothing(
    train: Train, tmp_path: Path
) -> None:
    with pytest.raises(InfraError, match=r"held by attempt two"):
        train(engine_class=OvertakenEngine)
    assert list((tmp_path / "checkpoints").glob("update-*")) == []
