"""On-policy training gives the same student on every engine, also after a resume."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from infra.deepspeed.engine import DeepSpeedEngine
from pipeline.config import Halving, TargetsConfig
from pipeline.config.profile import EngineConfig, Profile
from pipeline.training.checkpoint import claim
from pipeline.training.ema_optimiser import OptimiserPlan
from pipeline.training.engines import TorchEngine
from pipeline.training.plan import plan_rounds
from stages.data.shard import shard
from stages.rounds.train import round_job
from stages.rounds.train_worker import OpenEngine, RoundJob, train_with
from stages.teacher.adopt import adopt, adopt_components
from stages.workspace import Workspace
from tests.support.family_chain import encode_here, resolve, train_here

UPDATES, BATCH = 4, 4


class StoppedError(Exception):
    """Simulates the death of the process."""


class StoppingEngine(DeepSpeedEngine):
    """An engine that stops before the last update."""

    def __init__(self, module: nn.Module, plan: OptimiserPlan, **how: Any) -> None:
        super().__init__(module, plan, **how)
        self.left = UPDATES - 1

    def step(self) -> float:
        if self.left == 0:
            raise StoppedError
        self.left -= 1
        return super().step()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A halving round of a tiny Stable Diffusion with half of the samples on-policy."""
    root = tmp_path_factory.mktemp("own")
    how = {"updates": UPDATES, "batch_size": BATCH, "learning_rate": 0.01}
    halving = Halving(steps=(4, 2), on_policy_fraction=0.5, **how)
    changes = {"halving": halving, "targets": TargetsConfig(mode="online")}
    recipe, run_dir = resolve("sd", root).model_copy(update=changes), root / "run"
    work = Workspace(run_dir, recipe)
    samples = encode_here(work, shard(work).value, adopt_components(work).value)
    guided, plan = plan_rounds(recipe)
    first = train_here(run_dir, recipe, guided, samples, adopt(work, samples).value, None)
    profile = Profile(engine=EngineConfig(checkpoint_every=2))
    return round_job(
        Workspace(run_dir, recipe, profile), plan, data=samples, teacher=first, targets=None
    )


def rms_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Root mean square of the differences of all weights.

    The largest one is no measure: Adam divides by the gradient, so that one that is zero up to
    rounding, and is summed in another order, moves its weight by the learning rate to either side.
    """
    assert one.keys() == other.keys()
    parts = [(one[name] - other[name]).flatten() for name in one]
    return float(torch.cat(parts).square().mean().sqrt())


def zero(stage: int, engine: type[DeepSpeedEngine] = DeepSpeedEngine) -> OpenEngine:
    return partial(engine, global_batch=BATCH, zero_stage=stage)


def train(job: dict[str, Any], engine: OpenEngine, place: Path) -> dict[str, Tensor]:
    places = {key: str(place / key) for key in ("output", "checkpoints", "metrics")}
    claim(place / "checkpoints", job["attempt"])
    train_with(RoundJob.model_validate({**job, **places}), engine)
    return load_file(place / "output/unet/diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def plain(job: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return train(job, TorchEngine, tmp_path_factory.mktemp("torch"))


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_every_stage_meets_the_same_states(
    job: dict[str, Any], plain: dict[str, Tensor], tmp_path: Path, stage: int
) -> None:
    assert rms_difference(train(job, zero(stage), tmp_path), plain) < 1e-5


def test_other_states_would_be_seen(
    job: dict[str, Any], plain: dict[str, Tensor], tmp_path: Path
) -> None:
    config = {**job["plan"]["config"], "on_policy_source": "teacher"}
    theirs = {**job["plan"], "config": config}
    assert rms_difference(train({**job, "plan": theirs}, TorchEngine, tmp_path), plain) > 1e-4


def test_stopped_and_resumed_is_never_stopped(job: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train(job, zero(3, StoppingEngine), tmp_path / "stopped")
    assert list((tmp_path / "stopped/checkpoints").glob("update-*"))
    resumed = train(job, zero(3), tmp_path / "stopped")
    whole = train(job, zero(3), tmp_path / "whole")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
