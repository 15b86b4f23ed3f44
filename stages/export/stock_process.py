"""Sample with stock diffusers only; run by path, so that this project is not imported.

    python stock_process.py FOLDER

reads FOLDER/calls.json and FOLDER/pictures.safetensors, writes FOLDER/drawn.safetensors.
"""

import json
import runpy
import sys
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file


def draw(folder: Path) -> None:
    """Load the pipeline or the directory's script, and make every call from the same noise."""
    work = json.loads((folder / "calls.json").read_text(encoding="utf-8"))
    if work["script"]:
        own = runpy.run_path(str(Path(work["directory"]) / work["script"]))["sample"]
        drawn = {name: own(**call, seed=work["seed"]) for name, call in work["calls"].items()}
        save_file(drawn, folder / "drawn.safetensors")
        return
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
