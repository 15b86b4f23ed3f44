"""The torch engine and its optimiser: AdamW with an optional moving average.

`tests/infra/deepspeed/test_engines.py` covers both engines.
"""

import pickle  # noqa: TID251 (to show that nothing of the kind is read)

import pytest
import torch
from torch import nn

from pipeline.training.ema_optimiser import AveragingAdam, OptimiserPlan
from pipeline.training.engines import TorchEngine

PLAN = OptimiserPlan(learning_rate=0.1, total_updates=4, clip_norm=1.0)
DECAY = 0.75


def parameters() -> list[nn.Parameter]:
    random = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=random)) for shape in ((3, 4), (5,), (2,))]


def averaging(trained: list[nn.Parameter], rate: float = 0.1, decay: float = DECAY):
    return AveragingAdam(trained, learning_rate=rate, ema_decay=decay)


def update(optimiser: torch.optim.Optimizer, *numbers: int) -> None:
    *trained, _ = optimiser.param_groups[0]["params"]  # the last one never has a gradient
    for number in numbers:
        random = torch.Generator().manual_seed(100 + number)
        for parameter in trained:
            parameter.grad = torch.randn(parameter.shape, generator=random)
        optimiser.step()


@pytest.mark.parametrize("decay", [DECAY, 0.9999])
def test_it_is_adamw_without_decay_and_the_average_is_of_the_weights_after_each_update(decay):
    ours, theirs = parameters(), parameters()
    optimiser = averaging(ours, decay=decay)
    reference = torch.optim.AdamW(theirs, lr=0.1, betas=(0.9, 0.999), weight_decay=0.0)
    passed: list[list[torch.Tensor]] = []
    for number in range(5):
        update(optimiser, number)
        update(reference, number)
        passed.append([p.detach().clone() for p in ours])
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    optimiser.adopt_average()
    shares = [decay**age for age in reversed(range(5))]
    for found, *weights in zip(ours, *passed, strict=True):
        parts = (share * p for share, p in zip(shares, weights, strict=True))
        torch.testing.assert_close(found.detach(), sum(parts) / sum(shares))
    assert torch.equal(ours[-1], parameters()[-1])  # has no gradient, and stays itself


def test_each_parameter_is_averaged_over_its_own_updates():
    trained = parameters()
    optimiser = averaging(trained, decay=0.9999)
    update(optimiser, 0)
    trained[0].grad = None
    trained[1].grad = torch.ones(5)
    optimiser.step()
    only = trained[0].detach().clone()
    optimiser.adopt_average()
    torch.testing.assert_close(trained[0].detach(), only)


def test_without_a_decay_nothing_is_averaged():
    trained = parameters()
    optimiser = averaging(trained, decay=0.0)
    update(optimiser, 0)
    before = [p.detach().clone() for p in trained]
    optimiser.adopt_average()
    assert all(map(torch.equal, trained, before))
    assert set(optimiser.state[trained[0]]) == {"step", "exp_avg", "exp_avg_sq"}


@pytest.mark.parametrize("stop", [1, 3])
def test_its_state_continues_bit_for_bit(stop):
    whole, first = parameters(), parameters()
    uninterrupted, interrupted = averaging(whole), averaging(first)
    update(uninterrupted, *range(6))
    update(interrupted, *range(stop))
    second = [nn.Parameter(p.detach().clone()) for p in first]
    resumed = averaging(second, rate=9.9)
    resumed.load_state_dict(interrupted.state_dict())
    update(resumed, *range(stop, 6))
    for optimiser in (uninterrupted, resumed):
        optimiser.adopt_average()
    assert all(map(torch.equal, whole, second))


def test_one_update_is_the_first_step_of_adam():
    module = nn.Linear(3, 1, bias=False)
    before = module.weight.detach().clone()
    engine = TorchEngine(module, PLAN)
    x = torch.tensor([[1.0, -2.0, 3.0]])
    engine.backward(engine.module(x).sum())
    norm = engine.step()
    assert norm == pytest.approx(14**0.5)
    # the first step of Adam is the rate times the sign of the gradient, which is x
    torch.testing.assert_close(module.weight.detach(), before - 0.1 * x.sign())
    assert engine.learning_rate == pytest.approx(0.075)


def test_gradients_add_up_until_the_step():
    engine = TorchEngine(nn.Linear(2, 1, bias=False), OptimiserPlan(0.1, 4, clip_norm=100.0))
    for backwards in (2, 1):
        for _ in range(backwards):
            engine.backward(engine.module(torch.ones(1, 2)).sum())
        assert engine.step() == pytest.approx(backwards * 2**0.5)


class Intruder:
    def __reduce__(self):
        return (pytest.fail, ("code in a checkpoint was run",))


def test_its_checkpoint_is_read_without_running_code(tmp_path):
    torch.save({"module": Intruder()}, tmp_path / "state.pt")
    engine = TorchEngine(nn.Linear(2, 1), PLAN)
    with pytest.raises(pickle.UnpicklingError):
        engine.load(tmp_path)
