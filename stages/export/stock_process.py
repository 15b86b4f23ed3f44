"""Sample with stock diffusers only; run by path, so that this project is not imported.

    python stock_process.py FOLDER

reads FOLDER/calls.json and FOLDER/pictures.safetensors, writes FOLDER/drawn.safetensors.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file


def draw(folder: Path) -> None:
    """Load the pipeline and make every call, each from the same starting noise."""
    work = json.loads((folder / "calls.json").read_text(encoding="utf-8"))
    pictures = load_file(folder / "pictures.safetensors")
    pipeline = DiffusionPipeline.from_pretrained(
        work["directory"], dtype=torch.float32, local_files_only=True, use_safetensors=True
    ).to(work["device"])
    drawn = {}
    for name, call in work["calls"].items():
        noise = torch.Generator().manual_seed(work["seed"])
        drawn[name] = pipeline(**call, **pictures, generator=noise).images.cpu().contiguous()
    save_file(drawn, folder / "drawn.safetensors")


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
