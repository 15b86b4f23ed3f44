"""Export of a class-conditional student without a stock pipeline: U-Net, card, sampling script."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.bundle import Manifest
from pipeline.errors import ConfigError

SCRIPT = "sample.py"

_TEMPLATE = '''"""Sample this student with torch and diffusers: images [n, c, h, w] in [-1, 1].

    python sample.py --steps @COUNT@ --w @MIDDLE@ --labels 0 1 --output images.pt
"""

import argparse
from pathlib import Path

import torch
from diffusers import @SCHEDULER@, UNet2DConditionModel

HERE = Path(__file__).resolve().parent
SHAPE, CLASSES, STEPS = @SHAPE@, @CLASSES@, @STEPS@


@torch.no_grad()
def sample(labels, steps, w, seed=0):
    if steps not in STEPS or not (@ALLOWED@) or not set(labels) <= set(range(CLASSES)):
        raise ValueError(f"use steps in {STEPS}, @ALLOWED@, and labels 0 to {CLASSES - 1}")
    unet = UNet2DConditionModel.from_pretrained(HERE / "unet", use_safetensors=True)
    scheduler = @SCHEDULER@.from_pretrained(HERE / "scheduler")
    scheduler.set_timesteps(@TIMES@)
    x = torch.randn(len(labels), *SHAPE, generator=torch.Generator().manual_seed(seed))
    half = unet.config.time_cond_proj_dim // 2
    rates = torch.exp(torch.arange(half) * -(torch.tensor(10000.0).log() / (half - 1)))
    angles = torch.tensor(float(w)) * 1000.0 * rates
    w_embedding = torch.cat([angles.sin(), angles.cos()]).expand(len(labels), -1)
    given = {"class_labels": torch.tensor(labels), "timestep_cond": w_embedding}
    for t in scheduler.timesteps:  # without timestep_cond the network would ignore w
        x = scheduler.step(unet(x, t, None, **given).sample, t, x).prev_sample
    return x.clamp(-1, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--labels", type=int, nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=@COUNT@)
    parser.add_argument("--w", type=float, default=@MIDDLE@)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="images.pt")
    given = parser.parse_args()
    torch.save(sample(given.labels, given.steps, given.w, given.seed), given.output)
'''


def check_scriptable(manifest: Manifest, bundle: Path) -> None:
    """Validate that a sampling script can be written for a network without a stock pipeline.

    Raises:
        ConfigError: it is not a class-conditional U-Net of pixels, or not a student.
    """
    network = manifest.network
    if not network.has_sampling_script:
        raise ConfigError(
            f"{bundle} has no stock pipeline, only a network; load {manifest.folder}/ with "
            "diffusers directly"
        )
    if manifest.role != "student":
        raise ConfigError(
            f"{bundle} is a guided teacher without a stock pipeline; export one of its students"
        )


def fill_network(folder: Path, bundle: Path, manifest: Manifest, facts: Mapping[str, Any]) -> None:
    """Write network, scheduler, model card with `facts`, and `sample.py` into `folder`."""
    from pipeline.models.stock.card import network_card, supported_steps
    from pipeline.models.stock.schedulers import stock_scheduler

    if manifest.w is None:
        raise ValueError("manifest.w is None; a student was trained with a distribution of w")
    is_flow = manifest.schedule.kind == "rectified_flow"
    # a straight path's times are passed in the call, for any number of steps
    scheduler = stock_scheduler(
        manifest.model_copy(update={"steps": None}) if is_flow else manifest
    )
    folder.mkdir(exist_ok=True)
    shutil.copytree(bundle / manifest.folder, folder / "unet")
    (folder / "scheduler").mkdir()
    text = json.dumps(scheduler, indent=2, sort_keys=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(f"{text}\n", encoding="utf-8")
    values = {
        "SCHEDULER": scheduler["_class_name"],
        "SHAPE": manifest.latent_shape,
        "CLASSES": manifest.num_classes,
        "STEPS": _allowed_steps(manifest),
        "COUNT": supported_steps(manifest)[0],
        "ALLOWED": f"w in {manifest.w.values}"
        if manifest.w.values
        else f"{manifest.w.min} <= w <= {manifest.w.max}",
        "MIDDLE": manifest.w.middle,
        "TIMES": "sigmas=[1 - i / steps for i in range(steps)]" if is_flow else "steps",
    }
    script = _TEMPLATE
    for name, value in values.items():
        script = script.replace(f"@{name}@", str(value))
    (folder / SCRIPT).write_text(script, encoding="utf-8")
    (folder / "README.md").write_text(network_card(manifest, facts), encoding="utf-8")


def _allowed_steps(manifest: Manifest) -> str:
    total = manifest.schedule.num_train_timesteps
    counts = manifest.steps or tuple(
        count for count in range(1, total + 1) if manifest.schedule.holds(count)
    )
    return f"range(1, {total + 1})" if len(counts) == total > 1 else str(counts)
