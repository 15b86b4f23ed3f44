"""The optimiser is AdamW and, if asked, an average beside it."""

import pytest
import torch
from torch import nn

from pipeline.training.optimiser import AveragingAdam

DECAY = 0.75


def parameters() -> list[nn.Parameter]:
    random = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=random)) for shape in ((3, 4), (5,), (2,))]


def update(optimiser: torch.optim.Optimizer, number: int) -> None:
    random = torch.Generator().manual_seed(100 + number)
    *trained, _ = optimiser.param_groups[0]["params"]  # the last one never has a gradient
    for parameter in trained:
        parameter.grad = torch.randn(parameter.shape, generator=random)
    optimiser.step()


def test_it_is_adamw_without_decay():
    ours, theirs = parameters(), parameters()
    optimiser = AveragingAdam(ours, learning_rate=0.1, ema_decay=DECAY)
    reference = torch.optim.AdamW(theirs, lr=0.1, betas=(0.9, 0.999), weight_decay=0.0)
    for number in range(5):
        update(optimiser, number)
        update(reference, number)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_the_average_starts_at_the_weights_and_follows_them():
    trained = parameters()
    optimiser = AveragingAdam(trained, learning_rate=0.1, ema_decay=DECAY)
    expected = [p.detach().clone() for p in trained]
    for number in range(5):
        update(optimiser, number)
        expected = [
            DECAY * average + (1 - DECAY) * p.detach()
            for average, p in zip(expected, trained, strict=True)
        ]
    optimiser.adopt_average()
    for average, p in zip(expected, trained, strict=True):
        torch.testing.assert_close(p.detach(), average)


def test_what_has_no_gradient_stays_itself():
    trained = parameters()
    optimiser = AveragingAdam(trained, learning_rate=0.1, ema_decay=DECAY)
    update(optimiser, 0)
    optimiser.adopt_average()
    assert torch.equal(trained[-1], parameters()[-1])


def test_without_a_decay_nothing_is_averaged():
    trained = parameters()
    optimiser = AveragingAdam(trained, learning_rate=0.1, ema_decay=0.0)
    update(optimiser, 0)
    before = [p.detach().clone() for p in trained]
    optimiser.adopt_average()
    assert all(torch.equal(p, b) for p, b in zip(trained, before, strict=True))
    assert set(optimiser.state[trained[0]]) == {"step", "exp_avg", "exp_avg_sq"}


@pytest.mark.parametrize("stop", [1, 3])
def test_its_state_continues_bit_for_bit(stop):
    whole, first = parameters(), parameters()
    uninterrupted = AveragingAdam(whole, learning_rate=0.1, ema_decay=DECAY)
    interrupted = AveragingAdam(first, learning_rate=0.1, ema_decay=DECAY)
    for number in range(6):
        update(uninterrupted, number)
    for number in range(stop):
        update(interrupted, number)
    second = [nn.Parameter(p.detach().clone()) for p in first]
    resumed = AveragingAdam(second, learning_rate=9.9, ema_decay=DECAY)
    resumed.load_state_dict(interrupted.state_dict())
    for number in range(stop, 6):
        update(resumed, number)
    for optimiser in (uninterrupted, resumed):
        optimiser.adopt_average()
    assert all(torch.equal(one, other) for one, other in zip(whole, second, strict=True))
