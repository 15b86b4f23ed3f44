"""The loop a researcher would write in one file: a network, tensors in memory, Adam.

Nothing of ours but the embedding of w, which stock pipelines have too. It is the yardstick of
`update`: the same network, batch, loss, clipping and annealing, and one number printed in ten.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.methods.method import NoisedBatch
from pipeline.models.unet import embed_w

W_DIM = 64
TIMESTEPS = 1024
LOG_EVERY = 10


def in_memory(draws: NoisedBatch, velocity: Tensor) -> dict[str, Tensor]:
    """A round's draws and targets as a researcher's script would hold them."""
    label = draws.condition["label"]
    return {"z_t": draws.z_t, "velocity": velocity, "t": draws.t, "w": draws.w, "label": label}


def plain_loop(
    model: nn.Module, data: dict[str, Tensor], batch: int, *, fused: bool
) -> Callable[[int], None]:
    """A function that makes updates.

    Args:
        model: a student UNet, trained where it is.
        data: what `in_memory` makes, on the model's device.
        batch: samples of an update.
        fused: Adam's fused kernel; without it torch's default on this device.
    """
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True if fused else None)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 1_000_000)
    losses: list[float] = []

    def train(updates: int) -> None:
        order = torch.randperm(len(data["t"])).repeat(1 + updates * batch // len(data["t"]))
        for step in range(updates):
            rows = order[step * batch : (step + 1) * batch]
            loss = loss_of(model, {name: column[rows] for name, column in data.items()})
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            if step % LOG_EVERY == 0:
                losses.append(loss.item())

    return train


def loss_of(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The truncated-SNR weighted squared error of the velocity."""
    t = batch["t"].float()
    prediction = model(
        batch["z_t"],
        t * TIMESTEPS - 1,
        encoder_hidden_states=None,
        class_labels=batch["label"],
        timestep_cond=embed_w(batch["w"], W_DIM),
        return_dict=False,
    )[0]
    angle = t * math.pi / 2
    weight = torch.maximum(angle.cos() ** 2, angle.sin() ** 2)
    return (weight * (prediction - batch["velocity"]).square().flatten(1).mean(1)).mean()
