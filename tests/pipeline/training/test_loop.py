"""A round is a function of its plan: interrupted or not, it ends with the same bytes."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.bundle import Manifest
from pipeline.config import Recipe, WDistribution
from pipeline.config.profile import EngineConfig
from pipeline.data.shards.reader import SampleShards
from pipeline.errors import DivergenceError, InfraError
from pipeline.methods.method import Networks, NoisedBatch
from pipeline.models.assemble import family_of, network_denoiser
from pipeline.models.denoiser import Denoiser
from pipeline.tensors import Latent
from pipeline.tracking import JsonlTracker, read_metrics
from pipeline.training.batches import BatchSource, OnlineSource, method_of
from pipeline.training.checkpoint import Checkpoints, claim
from pipeline.training.ema_optimiser import OptimiserPlan
from pipeline.training.engines import TorchEngine
from pipeline.training.loop import RoundInputs, train_round
from pipeline.training.plan import plan_rounds

Train = Callable[..., dict[str, Tensor]]


class StoppedError(Exception):
    """Simulates the death of the process."""


class StoppingSource(BatchSource):
    """A source that stops before an update, like a kill."""

    def __init__(self, source: BatchSource, update: int) -> None:
        self.source, self.position = source, update * 32

    def at(self, first: int, count: int) -> tuple[NoisedBatch, Latent]:
        if first >= self.position:
            raise StoppedError
        return self.source.at(first, count)


class PoisonedSource(StoppingSource):
    """A source whose targets are NaN from an update on."""

    def at(self, first: int, count: int) -> tuple[NoisedBatch, Latent]:
        draws, target = self.source.at(first, count)
        return draws, target * math.nan if first >= self.position else target


@pytest.fixture(scope="module")
def train_in(recipe: Recipe, manifest: Manifest, teacher: Denoiser, samples: SampleShards) -> Train:
    plan = plan_rounds(recipe)[0]
    family = family_of(manifest)
    told = manifest.model_copy(update={"role": "student", "w": WDistribution()})

    def run(
        folder: Path,
        wrap: Callable[[BatchSource], BatchSource] = lambda source: source,
        claimed: str = "one",
        engine_class: Callable[[nn.Module, OptimiserPlan], TorchEngine] = TorchEngine,
        rate: float = 1.0,
    ) -> dict[str, Tensor]:
        optimiser = OptimiserPlan(
            learning_rate=rate * plan.training.learning_rate,
            total_updates=plan.training.updates,
            clip_norm=plan.training.clip_norm,
            ema_decay=plan.training.ema_decay,
        )
        engine = engine_class(family.student_of(family.build(), (0.0, 4.0)), optimiser)
        student = network_denoiser(told, engine.module)
        method = method_of(plan, family)
        networks = Networks(student, teacher)
        source: Any = OnlineSource(
            method, networks, student.schedule, samples, plan.stream, engine.device
        )
        claim(folder / "checkpoints", claimed)
        train_round(
            RoundInputs(plan=plan, method=method, networks=networks, source=wrap(source)),
            engine,
            Checkpoints(folder / "checkpoints", "key", 2, "one"),
            EngineConfig(checkpoint_every=8, log_every=1),
            lambda seen: JsonlTracker(folder / "metrics.jsonl", seen),
        )
        return engine.full_weights()

    return run


@pytest.fixture(scope="module")
def undisturbed(train_in: Train, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return train_in(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def train(train_in: Train, tmp_path: Path) -> Train:
    return partial(train_in, tmp_path)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def updates_logged(folder: Path) -> int:
    """Check that every logged loss is finite; return their number."""
    losses = [line["train/loss"] for line in read_metrics(folder / "metrics.jsonl")]
    assert all(math.isfinite(loss) for loss in losses)
    return len(losses)


def last_checkpoint(folder: Path) -> Path:
    return max((folder / "checkpoints").glob("update-*"))


@pytest.mark.parametrize("stop", [3, 8, 20, 29])
def test_stopped_and_resumed_is_never_stopped(
    train: Train, undisturbed: dict[str, Tensor], tmp_path: Path, stop: int
) -> None:
    with pytest.raises(StoppedError):
        train(lambda source: StoppingSource(source, stop))
    assert same(train(), undisturbed)
    points = [line["samples_seen"] for line in read_metrics(tmp_path / "metrics.jsonl")]
    assert points == [32 * update for update in range(1, 31)]


def test_a_damaged_checkpoint_is_left_aside(
    train: Train, undisturbed: dict[str, Tensor], tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        train(lambda source: StoppingSource(source, 26))
    for file in last_checkpoint(tmp_path).rglob("*"):
        file.write_bytes(b"rotten")
    assert same(train(), undisturbed)


def test_staged_files_of_dead_attempts_are_cleared_and_never_read(
    train: Train, undisturbed: dict[str, Tensor], tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    for name in (".staging-dead", "ledger", "update-0000008"):  # the last without a record
        (folder / name).mkdir(parents=True)
    (folder / ".staging-dead" / "state.pt").write_bytes(b"half")
    (folder / "ledger" / ("a" * 32 + ".json")).write_text('{"kind": "checkpoi')  # half-written
    (folder / "ledger" / ".b.json.0123.tmp").write_text("{")
    assert same(train(), undisturbed)
    assert not (folder / ".staging-dead").exists()


def test_a_loss_that_is_not_finite_stops_before_the_update(train: Train, tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match=r"the loss is nan at update 17.*last checkpoint"):
        train(lambda source: PoisonedSource(source, 17))
    assert updates_logged(tmp_path) == 17
    assert last_checkpoint(tmp_path).name == "update-0000016"


class PoisonedEngine(TorchEngine):
    """An engine with a non-finite gradient of a finite loss."""

    def __init__(self, bad: float, module: nn.Module, plan: OptimiserPlan) -> None:
        super().__init__(module, plan)
        self.bad, self.updates = bad, 0
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


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stops_before_the_update(
    train: Train, undisturbed: dict[str, Tensor], tmp_path: Path, bad: float
) -> None:
    said = r"round 0.*, update 17: the gradient norm is (nan|inf).*Lower learning_rate"
    with pytest.raises(DivergenceError, match=said):
        train(engine_class=partial(PoisonedEngine, bad))
    assert updates_logged(tmp_path) == 17
    assert last_checkpoint(tmp_path).name == "update-0000016"
    assert same(train(), undisturbed)  # the last good checkpoint is sound


def test_a_rate_a_thousand_times_too_large_is_stopped_with_advice(
    train: Train, tmp_path: Path
) -> None:
    with pytest.raises(DivergenceError, match=r"training diverged.*learning_rate"):
        train(rate=1000)
    assert updates_logged(tmp_path) < 30


class OvertakenEngine(TorchEngine):
    """An engine that is superseded while it writes."""

    def save(self, folder: Path, state: dict[str, Any]) -> None:
        super().save(folder, state)
        claim(folder.parent, "two")


@pytest.mark.parametrize("how", [{"claimed": "two"}, {"engine_class": OvertakenEngine}])
def test_an_attempt_that_was_superseded_commits_nothing(
    train: Train, tmp_path: Path, how: dict[str, Any]
) -> None:
    with pytest.raises(InfraError, match=r"held by attempt two"):
        train(**how)
    assert list((tmp_path / "checkpoints").glob("update-*")) == []
