"""Progressive distillation of a guided teacher in one file: online, plain torch, targets in x.

Written from the published descriptions for comparison, not from anybody's code: stage 1 of Meng et
al. 2022 (arXiv:2210.03142, Algorithm 1), then Salimans & Ho 2022 (arXiv:2202.00512, Algorithm 2)
with its target x~ by inversion and the truncated-SNR loss. The teacher is asked in the loop.
"""

import copy
import math
from collections.abc import Callable, Iterator

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from tests.benchmarks.peers_plan import Budget, Draw

T, W_DIM = 1024, 64


def distil(teacher: nn.Module, budget: Budget) -> Draw:
    """All rounds; the sampler knows the step counts of the halvings."""
    torch.manual_seed(budget.seed)
    student = with_w(teacher)
    train(student, budget, budget.stage_one, lambda batch: guided_target(teacher, batch, budget))
    students = {}
    for _, steps, updates in budget.halvings:
        frozen = copy.deepcopy(student).requires_grad_(False)
        train(student, budget, updates, lambda batch, f=frozen, n=steps: jump_target(f, batch, n))
        students[steps] = copy.deepcopy(student)
    return lambda z, labels, w, steps: ddim(students[steps], z, labels, w, steps)


def with_w(teacher: nn.Module) -> nn.Module:
    """A copy of the teacher that is told w, and does not listen yet."""
    student = UNet2DConditionModel.from_config(teacher.config, time_cond_proj_dim=W_DIM)
    student.load_state_dict(teacher.state_dict(), strict=False)
    nn.init.zeros_(student.time_embedding.cond_proj.weight)
    return student


def embed(w: Tensor) -> Tensor:
    half = W_DIM // 2
    frequencies = torch.exp(torch.arange(half) * (-math.log(10000.0) / (half - 1)))
    angles = 1000 * w[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def levels(t: Tensor) -> tuple[Tensor, Tensor]:
    angle = (t * math.pi / 2).reshape(-1, 1, 1, 1)
    return angle.cos(), angle.sin()


def ask(model: nn.Module, z: Tensor, t: Tensor, labels: Tensor, w: Tensor | None) -> Tensor:
    cond = None if w is None else embed(w)
    return model(z, t * T - 1, None, class_labels=labels, timestep_cond=cond, return_dict=False)[0]


def batches(budget: Budget, updates: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for _ in range(updates):
        rows = torch.randint(len(budget.x), (budget.batch,))
        w = budget.w_max * torch.rand(budget.batch)
        w[torch.rand(budget.batch) < budget.mass_at_zero] = 0
        yield budget.x[rows], budget.labels[rows], w


def train(student: nn.Module, budget: Budget, updates: int, target: Callable[..., object]) -> None:
    """Truncated SNR: max(SNR, 1) on x."""
    student.train()
    optimizer = torch.optim.Adam(student.parameters(), lr=budget.learning_rate)
    anneal = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / updates)
    for batch in batches(budget, updates):
        z, t, x_target = target(batch)
        _, labels, w = batch
        alpha, sigma = levels(t)
        x = alpha * z - sigma * ask(student, z, t, labels, w)
        weight = torch.maximum((alpha / sigma) ** 2, torch.ones(()))
        loss = (weight * (x - x_target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        anneal.step()
    student.eval()


@torch.no_grad()
def guided_target(
    teacher: nn.Module, batch: tuple[Tensor, ...], budget: Budget
) -> tuple[Tensor, ...]:
    x, labels, w = batch
    t = (torch.randint(T, (len(x),)) + 1) / T
    alpha, sigma = levels(t)
    z = alpha * x + sigma * torch.randn_like(x)
    both = torch.cat([labels, torch.full_like(labels, budget.null)])
    v_c, v_u = ask(teacher, torch.cat([z, z]), torch.cat([t, t]), both, None).chunk(2)
    weight = w.reshape(-1, 1, 1, 1)
    return z, t, alpha * z - sigma * ((1 + weight) * v_c - weight * v_u)


@torch.no_grad()
def jump_target(teacher: nn.Module, batch: tuple[Tensor, ...], steps: int) -> tuple[Tensor, ...]:
    x, labels, w = batch
    t = (torch.randint(steps, (len(x),)) + 1) / steps
    alpha, sigma = levels(t)
    z = alpha * x + sigma * torch.randn_like(x)
    middle = step(teacher, z, t, t - 0.5 / steps, labels, w)
    end = step(teacher, middle, t - 0.5 / steps, t - 1 / steps, labels, w)
    alpha_end, sigma_end = levels(t - 1 / steps)
    ratio = sigma_end / sigma
    return z, t, (end - ratio * z) / (alpha_end - ratio * alpha)


def step(model: nn.Module, z: Tensor, t: Tensor, s: Tensor, labels: Tensor, w: Tensor) -> Tensor:
    """One DDIM step from t to s."""
    v = ask(model, z, t, labels, w)
    (alpha, sigma), (alpha_s, sigma_s) = levels(t), levels(s)
    return alpha_s * (alpha * z - sigma * v) + sigma_s * (sigma * z + alpha * v)


@torch.no_grad()
def ddim(model: nn.Module, z: Tensor, labels: Tensor, w: float, steps: int) -> Tensor:
    weights = torch.full((len(z),), float(w))
    for i in range(steps, 0, -1):
        t = torch.full((len(z),), i / steps)
        z = step(model, z, t, t - 1 / steps, labels, weights)
    return z
