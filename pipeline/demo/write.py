"""Write trained components as a Stable Diffusion pipeline directory without its U-Net."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
from diffusers import AutoencoderKL, DDIMScheduler
from transformers import CLIPTextModel, CLIPTokenizer

from pipeline.config import PredictionName, ScheduleConfig

_INDEX = {
    "_diffusers_version": diffusers.__version__,
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
_LOCAL_PATH_KEY = "_name_or_path"


@dataclass(frozen=True)
class Parts:
    """The trained components of a pipeline, without its denoising network."""

    autoencoder: AutoencoderKL
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel


def write_components(
    folder: Path, parts: Parts, schedule: ScheduleConfig, prediction: PredictionName, pipeline: str
) -> None:
    """Write the directory with the parts' `save_pretrained`; bytes depend on the arguments alone.

    The scheduler is DDIM as in Stable Diffusion 1.x, on the teacher's table of betas.

    Args:
        folder: an existing directory.
        parts: the trained components.
        schedule: schedule of the teacher; `linear` or `scaled_linear`.
        prediction: prediction type of the teacher.
        pipeline: class name: `StableDiffusionPipeline` or `StableDiffusionInpaintPipeline`.
    """
    parts.autoencoder.save_pretrained(folder / "vae", safe_serialization=True)
    parts.text_encoder.save_pretrained(folder / "text_encoder", safe_serialization=True)
    parts.tokenizer.save_pretrained(folder / "tokenizer")
    # vocab.json and merges.txt, for loaders without support for tokenizer.json
    parts.tokenizer.backend_tokenizer.model.save(str(folder / "tokenizer"))
    _scheduler(schedule, prediction).save_pretrained(folder / "scheduler")
    _write_json(folder / "model_index.json", {"_class_name": pipeline, **_INDEX})
    for path in sorted(folder.rglob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop(_LOCAL_PATH_KEY, None) is not None:
            _write_json(path, content)


def _scheduler(schedule: ScheduleConfig, prediction: PredictionName) -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=schedule.num_train_timesteps,
        beta_schedule=schedule.kind,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        prediction_type=prediction,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
