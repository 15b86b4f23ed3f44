"""What a teacher draws for prompts, where that is all the data there are.

Row i of a split starts from the same noise whoever draws it, so a part that is drawn again has the
same bytes.
"""

from pathlib import Path
from typing import Any

import torch

from pipeline.bundle import Manifest
from pipeline.diffusion.solver import sample
from pipeline.models.assemble import denoiser_of, load_module
from pipeline.randomness import RowRandom
from pipeline.tensors import Condition, Latent

_STREAM = 1
_SPLITS = ("train", "heldout")


class TeacherSamples:
    """The guided teacher, loaded to draw latents of prompts."""

    def __init__(self, how: dict[str, Any], null: Condition, device: torch.device) -> None:
        """Load it.

        Args:
            how: see `stages.drawing.drawing`.
            null: the condition "nothing", one row.
            device: where it runs.

        Raises:
            BundleError: its weights cannot be loaded.
        """
        self._manifest = Manifest.model_validate(how["manifest"])
        module = load_module(Path(how["directory"]), self._manifest).to(device)
        self._denoiser = denoiser_of(self._manifest, module, null)
        self._steps, self._w, self._seed = how["steps"], how["w"], how["seed"]
        self._device = device

    @torch.inference_mode()
    def draw(self, split: str, first: int, condition: Condition) -> Latent:
        """The latents of rows from `first` on, one for each row of the condition, float32."""
        count = len(next(iter(condition.values())))
        path = (self._seed, _STREAM, _SPLITS.index(split))
        noise = RowRandom(path, first, count).normal("z_1", *self._manifest.latent_shape)
        weight = torch.full((count,), self._w, dtype=torch.float64, device=self._device)
        return sample(
            noise.to(self._device),
            self._denoiser.schedule,
            self._steps,
            lambda z_t, level: self._denoiser(z_t, level, condition, weight),
        )
