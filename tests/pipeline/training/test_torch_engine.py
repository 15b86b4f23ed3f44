"""Tests of the plain engine alone; `tests/infra/deepspeed/test_engines.py` covers both."""

import pickle  # noqa: TID251 (to show that nothing of the kind is read)

import pytest
import torch
from torch import nn

from pipeline.training.engines import OptimiserPlan, TorchEngine

PLAN = OptimiserPlan(learning_rate=0.1, total_updates=4, clip_norm=1.0)


class Intruder:
    def __reduce__(self):
        return (pytest.fail, ("code in a checkpoint was run",))


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
    module = nn.Linear(2, 1, bias=False)
    engine = TorchEngine(module, OptimiserPlan(0.1, 4, clip_norm=100.0))
    for _ in range(2):
        engine.backward(engine.module(torch.ones(1, 2)).sum())
    assert engine.step() == pytest.approx(2 * 2**0.5)
    engine.backward(engine.module(torch.ones(1, 2)).sum())
    assert engine.step() == pytest.approx(2**0.5)


def test_its_checkpoint_is_read_without_running_code(tmp_path):
    torch.save({"module": Intruder()}, tmp_path / "state.pt")
    engine = TorchEngine(nn.Linear(2, 1), PLAN)
    with pytest.raises(pickle.UnpicklingError):
        engine.load(tmp_path)
