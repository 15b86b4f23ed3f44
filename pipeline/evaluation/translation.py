"""Pictures of one condition made pictures of another: encoded to noise, drawn from it again.

What a picture is drawn from holds what its condition does not say, such as whose hand a digit is
written by, so that drawing from it under another condition keeps that.
"""

from dataclasses import dataclass

import torch

from pipeline.diffusion.inversion import encode
from pipeline.evaluation.editing import draw_on, latents_of
from pipeline.evaluation.sampling import BundleSampler, Images, LabelArray
from pipeline.tensors import Latent

Asked = LabelArray | tuple[str, ...]

UNGUIDED = 0.0
"""The w that pictures are encoded at: guidance would push them away from where they are."""


@dataclass(frozen=True)
class Translator:
    """An encoder and a decoder of the same number of steps; for a teacher, both are itself.

    Attributes:
        encoder: opened; goes from pictures to noise.
        decoder: opened; draws from noise.
        steps: N each way.
    """

    encoder: BundleSampler
    decoder: BundleSampler
    steps: int

    def check(self, w: float) -> None:
        """Refuse what one of the two was not made for.

        Raises:
            BundleError: wrong direction, number of steps or guidance weight.
        """
        self.encoder.manifest.check_use(self.steps, UNGUIDED, "encode")
        self.decoder.check(steps=self.steps, w=w, sampler="ddim")

    def evaluations(self, w: float) -> int:
        """Network evaluations for one picture, both ways."""
        there = self.encoder.evaluations(steps=self.steps, w=UNGUIDED)
        return there + self.decoder.evaluations(steps=self.steps, w=w)

    @torch.inference_mode()
    def encode(self, pictures: Images, source: Asked) -> Latent:
        """What the pictures are drawn from under the conditions `source`, `[n, *latent]`."""
        opened = self.encoder
        condition = opened.condition(source)
        told = torch.full((len(pictures),), UNGUIDED, dtype=torch.float64, device=opened.device)
        return encode(
            latents_of(opened, pictures),
            opened.denoiser.schedule,
            self.steps,
            lambda z, level: opened.denoiser(z, level, condition, told),
        )

    @torch.inference_mode()
    def decode(self, noise: Latent, target: Asked, w: float) -> Images:
        """Pictures drawn from noise under the conditions `target` at guidance weight w."""
        condition = self.decoder.condition(target)
        drawn = draw_on(self.decoder, noise, condition, w, steps=self.steps, taken=self.steps)
        return self.decoder.finished(drawn)
