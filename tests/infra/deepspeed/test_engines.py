"""Every engine meets the same contract, and all give the same numbers."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from infra.deepspeed.engine import DeepSpeedEngine
from pipeline.errors import ConfigError, DivergenceError, InfraError
from pipeline.training.ema_optimiser import OptimiserPlan
from tests.support.training_cases import (
    BATCH,
    ENGINES,
    PLAN,
    UPDATES,
    ZERO,
    difference,
    make_engine,
    network,
    train,
)

BFLOAT16 = tuple(f"zero{stage}-bfloat16" for stage in (1, 2, 3))


@pytest.mark.parametrize("name", ENGINES)
class TestEveryEngine:
    def test_anneals_its_rate_linearly_to_zero(self, name):
        plan = OptimiserPlan(learning_rate=0.5, total_updates=4, clip_norm=1.0)
        engine = make_engine(name, plan=plan)
        assert [rate for _, _, rate in train(engine, 0, 4)] == [0.5, 0.375, 0.25, 0.125]
        assert engine.learning_rate == 0

    def test_returns_the_norm_before_clipping(self, name):
        module = network()
        trained = [p for p in module.parameters() if p.requires_grad]
        random = torch.Generator().manual_seed(0)
        x, y = torch.randn(2, BATCH, 6, generator=random)
        (module(x) - y).square().mean().backward()
        expected = float(torch.cat([p.grad.flatten() for p in trained]).norm())
        (_, norm, _), *_ = train(make_engine(name), 0, 1)
        assert norm == pytest.approx(expected, rel=1e-6)
        assert norm > PLAN.clip_norm

    def test_clips_to_the_norm(self, name):
        # Adam does not see the scale of its first gradient, but it sees the second one's share
        loose = OptimiserPlan(learning_rate=1e-2, total_updates=20, clip_norm=1e9)
        tight = OptimiserPlan(learning_rate=1e-2, total_updates=20, clip_norm=0.1)
        ends = []
        for plan in (loose, tight):
            engine = make_engine(name, plan=plan)
            train(engine, 0, 5)
            ends.append(engine.full_weights())
        assert difference(*ends) > 1e-4

    def test_continues_bit_for_bit_from_a_checkpoint(self, name, tmp_path):
        whole, stopped, resumed = make_engine(name), make_engine(name), make_engine(name)
        log = train(whole, 0, UPDATES)
        train(stopped, 0, 4)
        stopped.save(tmp_path, {"update": 4})
        random = torch.rand(3)
        train(resumed, 7, 9)  # a state of its own, which loading must replace
        assert resumed.load(tmp_path) == {"update": 4}
        assert torch.equal(torch.rand(3), random)  # it is restored
        assert train(resumed, 4, UPDATES) == log[4:]
        ours, theirs = resumed.full_weights(), whole.full_weights()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
        suffixes = {file.suffix for file in tmp_path.rglob("*") if file.is_file()}
        assert suffixes <= {".pt", ".safetensors"}  # data and no scripts

    def test_gives_all_weights_and_buffers_by_the_modules_names(self, name):
        engine = make_engine(name)
        assert (engine.rank, engine.world_size) == (0, 1)
        assert engine.mean(torch.tensor(3.0)) == 3.0
        weights = engine.full_weights()
        expected = network().state_dict()
        assert difference(weights, expected) == 0
        assert all(weights[key].dtype == expected[key].dtype for key in expected)
        train(engine, 0, 3)
        assert torch.equal(engine.full_weights()["2.bias"], expected["2.bias"])  # not trained

    def test_averages_the_weights_as_written_by_hand(self, name):
        plain = make_engine(name, plan=OptimiserPlan(1e-2, 20, 0.1))
        path = _weights_after_each_update(name)
        shares = [0.9**age for age in reversed(range(len(path)))]  # none of the start's
        average = {
            key: sum(share * weights[key] for share, weights in zip(shares, path, strict=True))
            / sum(shares)
            if value.is_floating_point()
            else value
            for key, value in path[-1].items()
        }
        averaging = make_engine(name)
        assert train(averaging, 0, 5) == train(plain, 0, 5)  # it only watches
        assert difference(averaging.full_weights(), average) < 1e-6

    def test_does_not_update_on_a_gradient_that_is_not_finite(self, name):
        engine = make_engine(name, plan=OptimiserPlan(1e-2, 20, 0.1))
        train(engine, 0, 2)
        x = torch.full((BATCH, 6), math.inf)
        engine.backward(engine.module(x).square().mean())
        with pytest.raises(DivergenceError, match="the gradient norm is"):
            engine.step()
        reference = make_engine(name, plan=OptimiserPlan(1e-2, 20, 0.1))
        train(reference, 0, 2)
        assert difference(engine.full_weights(), reference.full_weights()) == 0


def _weights_after_each_update(name: str) -> list[dict[str, torch.Tensor]]:
    engine, path = make_engine(name, plan=OptimiserPlan(1e-2, 20, 0.1)), []
    for update in range(5):
        train(engine, update, update + 1)
        path.append({key: value.clone() for key, value in engine.full_weights().items()})
    return path


@pytest.mark.parametrize("name", ZERO)
def test_zero_gives_the_numbers_of_plain_torch(name):
    reference, engine = make_engine("torch"), make_engine(name)
    expected, log = train(reference, 0, UPDATES), train(engine, 0, UPDATES)
    assert all(norm > PLAN.clip_norm for _, norm, _ in expected)  # clipping was at work
    for (loss, norm, rate), (loss_0, norm_0, rate_0) in zip(log, expected, strict=True):
        assert abs(loss - loss_0) < 1e-6
        assert norm == pytest.approx(norm_0, rel=1e-5)
        assert rate == rate_0
    # Adam divides by the size of a gradient, so rounding shows where gradients are small
    assert difference(engine.full_weights(), reference.full_weights()) < 1e-4


@pytest.mark.parametrize("name", BFLOAT16)
def test_bfloat16_keeps_float32_masters_and_continues_bit_for_bit(name, tmp_path):
    reference, engine, resumed = make_engine("torch"), make_engine(name), make_engine(name)
    train(reference, 0, UPDATES)
    train(engine, 0, 4)
    engine.save(tmp_path, {"update": 4})
    log = train(engine, 4, UPDATES)
    resumed.load(tmp_path)
    assert train(resumed, 4, UPDATES) == log
    assert next(engine.module.parameters()).dtype == torch.bfloat16
    weights = engine.full_weights()
    trained = weights["0.weight"]
    assert trained.dtype == torch.float32
    assert not torch.equal(trained, trained.bfloat16().float())
    # 8 bits of mantissa in activations and gradients; an update moves a weight by 1e-2 at most
    assert difference(weights, reference.full_weights()) < 5e-2
    x = torch.full((BATCH, 6), math.nan, dtype=torch.bfloat16)
    engine.backward(engine.module(x).float().square().mean())
    with pytest.raises(DivergenceError):
        engine.step()


def test_stage_0_has_no_masters_for_bfloat16():
    with pytest.raises(ConfigError, match="zero_stage 1, 2 or 3"):
        make_engine("zero0-bfloat16")


def test_an_empty_folder_is_no_checkpoint(tmp_path: Path):
    with pytest.raises(InfraError, match="no DeepSpeed checkpoint"):
        make_engine("zero1").load(tmp_path)


def test_layers_used_twice_are_given_once():
    shared = nn.Linear(6, 6)
    module = nn.Sequential(shared, nn.SiLU(), shared)
    engine = DeepSpeedEngine(module, PLAN, global_batch=BATCH, zero_stage=1)
    train(engine, 0, 2)
    weights = engine.full_weights()
    assert weights.keys() == module.state_dict().keys()
    assert torch.equal(weights["0.weight"], weights["2.weight"])
    module.load_state_dict(weights, strict=True)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_network_of_an_odd_number_of_weights_is_trained(stage):
    module = nn.Linear(2, 1)  # three weights; DeepSpeed's buckets come in pairs
    before = module.weight.detach().clone()
    engine = DeepSpeedEngine(module, PLAN, global_batch=4, zero_stage=stage)
    engine.backward(engine.module(torch.ones(4, 2)).square().mean())
    engine.step()
    after = engine.full_weights()["weight"]
    assert torch.isfinite(after).all()
    assert not torch.equal(after, before)
