"""Latent-consistency distillation in one file: plain torch, every update asks the teacher online.

Written from the published description for comparison, not from anybody's code: Luo et al. 2023
(arXiv:2310.04378, Algorithm 1): a student that is told w and learns to say the same at both ends of
one guided DDIM step of the teacher, k timesteps long; the far end is answered by an average of the
student; f(z, t) = c_skip z + c_out x is the identity at t = 0 (Song et al. 2023, arXiv:2303.01469);
pseudo-Huber distance. Sampling in several steps answers, noises again to the next time, answers.

Chosen here: 64 times of 1024 (k = 16; the paper has k = 20 of 1000), an average of 0.95 as in the
paper, and the recipe's learning rate, annealed to 0.
"""

import copy
import math

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from tests.benchmarks.peers_plan import Budget, Draw

T, W_DIM = 1024, 64
TIMES, K = 64, 16
AVERAGE = 0.95
SIGMA_DATA, SCALE = 0.5, 10.0
HUBER = 1e-3


def distil(teacher: nn.Module, budget: Budget) -> Draw:
    """As many updates as all rounds of the recipe together."""
    torch.manual_seed(budget.seed)
    student = with_w(teacher).train()
    target = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.Adam(student.parameters(), lr=budget.learning_rate)
    anneal = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / budget.updates)
    for _ in range(budget.updates):
        loss = consistency_loss(student, target, teacher, budget)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        anneal.step()
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 1 - AVERAGE)
    student.eval()
    return lambda z, labels, w, steps: sample(student, z, labels, w, steps)


def with_w(teacher: nn.Module) -> nn.Module:
    """A copy of the teacher that is told w, and does not listen yet."""
    student = UNet2DConditionModel.from_config(teacher.config, time_cond_proj_dim=W_DIM)
    student.load_state_dict(teacher.state_dict(), strict=False)
    nn.init.zeros_(student.time_embedding.cond_proj.weight)
    return student


def consistency_loss(
    student: nn.Module, target: nn.Module, teacher: nn.Module, budget: Budget
) -> Tensor:
    rows = torch.randint(len(budget.x), (budget.batch,))
    x, labels = budget.x[rows], budget.labels[rows]
    w = budget.w_max * torch.rand(len(x))
    w[torch.rand(len(x)) < budget.mass_at_zero] = 0
    n = torch.randint(TIMES, (len(x),)) + 1
    t, s = n / TIMES, (n - 1) * K / T
    alpha, sigma = levels(t)
    z = alpha * x + sigma * torch.randn_like(x)
    with torch.no_grad():
        both = torch.cat([labels, torch.full_like(labels, budget.null)])
        v_c, v_u = ask(teacher, torch.cat([z, z]), torch.cat([t, t]), both, None).chunk(2)
        weight = w.reshape(-1, 1, 1, 1)
        v = (1 + weight) * v_c - weight * v_u
        alpha_s, sigma_s = levels(s)
        z_s = alpha_s * (alpha * z - sigma * v) + sigma_s * (sigma * z + alpha * v)
        answer = consistency(target, z_s, s, labels, w)
    difference = consistency(student, z, t, labels, w) - answer
    return ((difference**2 + HUBER**2).sqrt() - HUBER).mean()


def consistency(model: nn.Module, z: Tensor, t: Tensor, labels: Tensor, w: Tensor) -> Tensor:
    """f(z, t): z itself at t = 0, the network's x from a few timesteps on."""
    scaled = (SCALE * T * t).reshape(-1, 1, 1, 1)
    c_skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
    c_out = scaled / (scaled**2 + SIGMA_DATA**2).sqrt()
    alpha, sigma = levels(t)
    return c_skip * z + c_out * (alpha * z - sigma * ask(model, z, t, labels, w))


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


@torch.no_grad()
def sample(model: nn.Module, z: Tensor, labels: Tensor, w: float, steps: int) -> Tensor:
    """Multistep consistency sampling, Algorithm 3 of the paper."""
    random = torch.Generator().manual_seed(0)
    weights = torch.full((len(z),), float(w))
    x = z
    for i in range(steps, 0, -1):
        t = torch.full((len(z),), i / steps)
        if i < steps:
            alpha, sigma = levels(t)
            z = alpha * x + sigma * torch.randn(z.shape, generator=random)
        x = consistency(model, z, t, labels, weights)
    return x
