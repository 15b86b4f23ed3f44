"""Image translation by DDIM inversion: encode to noise, then decode under another condition.

The noise holds what the condition does not describe, such as the handwriting of a digit, and
decoding under another condition keeps it. The alternative is SDEdit: noise an image part of the way
and sample from there under another condition.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.diffusion.inversion import encode
from pipeline.errors import BundleError
from pipeline.randomness import RowRandom
from pipeline.sampling.editing import EditTarget, edit, latents_of, sample_from
from pipeline.sampling.sampler import BundleSampler, Images, LabelArray
from pipeline.tensors import Latent

LabelsOrPrompts = LabelArray | tuple[str, ...]

UNGUIDED = 0.0
"""Guidance weight of encoding: guidance would move latents away from the given images."""


@dataclass(frozen=True)
class TranslationInputs:
    """Images to translate, with their source and target conditions.

    Attributes:
        pictures: images, float32 `[n, h, w, c]` in [-1, 1].
        source: condition of each image.
        labels: class of each image, int64 `[n]`.
        target: target condition of each image.
        target_labels: class of each target condition, int64 `[n]`.
    """

    pictures: Images
    source: LabelsOrPrompts
    labels: LabelArray
    target: LabelsOrPrompts
    target_labels: LabelArray

    def rows(self, first: int, count: int) -> "TranslationInputs":
        """Return at most `count` images, starting with row `first`."""
        part = slice(first, first + count)
        return TranslationInputs(
            self.pictures[part],
            self.source[part],
            self.labels[part],
            self.target[part],
            self.target_labels[part],
        )


@dataclass(frozen=True)
class Translator:
    """An encoder and a decoder with the same number of steps; a teacher is both.

    Attributes:
        encoder: maps images to noise.
        decoder: samples images from noise.
        steps: N of each direction.
    """

    encoder: BundleSampler
    decoder: BundleSampler
    steps: int

    def check(self, w: float) -> None:
        """Check that both networks support this use.

        Raises:
            BundleError: wrong direction, number of steps or guidance weight; or an inpainting
                network, or one that predicts the sample.
        """
        if self.decoder.is_inpainting:
            raise BundleError(
                "inpainting networks do not support translation; use stepfold inpaint"
            )
        if self.encoder.manifest.prediction_type == "sample":
            raise BundleError(
                "encoder: sample-prediction networks are undefined at t = 0, where encoding "
                "starts; use a network that predicts v, epsilon or a flow"
            )
        self.encoder.manifest.check_use(self.steps, UNGUIDED, "encode")
        self.decoder.check(steps=self.steps, w=w, sampler="ddim")

    def evaluations(self, w: float) -> int:
        """Return the network evaluations per image, encoding plus decoding."""
        encoding = self.encoder.evaluations(steps=self.steps, w=UNGUIDED)
        return encoding + self.decoder.evaluations(steps=self.steps, w=w)

    @torch.inference_mode()
    def encode(self, pictures: Images, source: LabelsOrPrompts) -> Latent:
        """Encode images to noise under the conditions `source`, `[n, *latent]`."""
        opened = self.encoder
        condition = opened.condition(source)
        w = torch.full((len(pictures),), UNGUIDED, dtype=torch.float64, device=opened.device)
        return encode(
            latents_of(opened, pictures),
            opened.denoiser.schedule,
            self.steps,
            lambda z, level: opened.denoiser(z, level, condition, w),
        )

    @torch.inference_mode()
    def decode(self, noise: Latent, target: LabelsOrPrompts, w: float) -> Images:
        """Decode noise to images under the conditions `target` at guidance weight w."""
        condition = self.decoder.condition(target)
        drawn = sample_from(self.decoder, noise, condition, w, steps=self.steps, taken=self.steps)
        return self.decoder.finished(drawn)

    def turn(
        self, sources: TranslationInputs, weights: Sequence[float], seed: int, first: int
    ) -> list[Images]:
        """Compute reconstructions, translations for each w, and new samples for each w.

        `first` is the index of the first image in the whole set, `seed` that of new noise.

        Returns:
            Reconstructions, then one set of translations per w, then one set of new samples of the
            target conditions per w.

        Raises:
            BundleError: one of the two networks does not support this use.
        """
        for w in weights:
            self.check(w)
        noise = self.encode(sources.pictures, sources.source)
        new = RowRandom((seed,), first, len(noise)).normal("z_1", *noise.shape[1:]).to(noise)
        return [
            self.decode(noise, sources.source, UNGUIDED),
            *(self.decode(noise, sources.target, w) for w in weights),
            *(self.decode(new, sources.target, w) for w in weights),
        ]


@dataclass(frozen=True)
class Editor:
    """A network that edits images by SDEdit at several strengths; see `edit`.

    Attributes:
        opened: the network.
        steps: N of its grid.
        taken: steps that each edit takes, in 1..N.
    """

    opened: BundleSampler
    steps: int
    taken: tuple[int, ...]

    def evaluations(self, w: float, taken: int) -> int:
        """Return the network evaluations per image."""
        return self.opened.evaluations(steps=taken, w=w)

    def turn(
        self, sources: TranslationInputs, weights: Sequence[float], seed: int, first: int
    ) -> list[Images]:
        """Compute edits for each number of steps taken and each w, and new samples for each w.

        All use the same noise, so an edit with N steps taken is a new sample.

        `first` is the index of the first image in the whole set, `seed` that of new noise.

        Returns:
            One set of edits per (steps taken, w), then one set of new samples per w.

        Raises:
            BundleError: the network does not support this use.
        """

        def drawn(taken: int, w: float) -> Images:
            target, pictures = EditTarget(sources.target, w, seed), sources.pictures
            return edit(self.opened, pictures, target, steps=self.steps, taken=taken, first=first)

        counts = (*self.taken, self.steps)
        by_taken = {taken: [drawn(taken, w) for w in weights] for taken in dict.fromkeys(counts)}
        return [images for taken in counts for images in by_taken[taken]]
