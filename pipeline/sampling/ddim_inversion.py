"""Pictures of one condition made pictures of another: encoded to noise, drawn from it again.

What a picture is drawn from holds what its condition does not say, such as whose hand a digit is
written by, so that drawing from it under another condition keeps that. What there is beside it: to
noise a picture part of the way, and to draw on from there under another condition.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.diffusion.inversion import encode
from pipeline.errors import BundleError
from pipeline.randomness import RowRandom
from pipeline.sampling.editing import Wish, draw_on, edit, latents_of
from pipeline.sampling.sampler import BundleSampler, Images, LabelArray
from pipeline.tensors import Latent

Asked = LabelArray | tuple[str, ...]

UNGUIDED = 0.0
"""The w that pictures are encoded at: guidance would push them away from where they are."""


@dataclass(frozen=True)
class Sources:
    """Pictures, what they are, and what they are to become.

    Attributes:
        pictures: float32 `[n, h, w, c]` in [-1, 1].
        source: the condition of each.
        labels: the class of each, int64 `[n]`.
        target: the condition it is to be given.
        target_labels: the class of that.
    """

    pictures: Images
    source: Asked
    labels: LabelArray
    target: Asked
    target_labels: LabelArray

    def rows(self, first: int, count: int) -> "Sources":
        """Some of them, at most `count`."""
        part = slice(first, first + count)
        return Sources(
            self.pictures[part],
            self.source[part],
            self.labels[part],
            self.target[part],
            self.target_labels[part],
        )


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
            BundleError: wrong direction, number of steps or guidance weight; or a network that
                draws into pictures, or that predicts the sample.
        """
        if self.decoder.paints_into_pictures:
            raise BundleError("an inpainting network draws into a picture; use stepfold inpaint")
        if self.encoder.manifest.prediction_type == "sample":
            raise BundleError(
                "a network that predicts the sample says nothing of the noise where an encoder "
                "starts, at the data themselves; use one that predicts v, epsilon or a flow"
            )
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

    def turn(
        self, sources: Sources, weights: Sequence[float], seed: int, first: int
    ) -> list[Images]:
        """The pictures drawn again as they were; by w what becomes of them; by w others, anew.

        Args:
            sources: the pictures.
            weights: guidance weights of the way back.
            seed: of the noise that others are drawn from.
            first: which picture of all the first of these is.

        Raises:
            BundleError: one of the two networks was not made for this.
        """
        for w in weights:
            self.check(w)
        noise = self.encode(sources.pictures, sources.source)
        other = RowRandom((seed,), first, len(noise)).normal("z_1", *noise.shape[1:]).to(noise)
        return [
            self.decode(noise, sources.source, UNGUIDED),
            *(self.decode(noise, sources.target, w) for w in weights),
            *(self.decode(other, sources.target, w) for w in weights),
        ]


@dataclass(frozen=True)
class Editor:
    """A network that redraws pictures from parts of the way; see `edit`.

    Attributes:
        opened: draws from noise.
        steps: N of its grid.
        taken: how many of them each edit takes, in 1..N.
    """

    opened: BundleSampler
    steps: int
    taken: tuple[int, ...]

    def evaluations(self, w: float, taken: int) -> int:
        """Network evaluations for one picture."""
        return self.opened.evaluations(steps=taken, w=w)

    def turn(
        self, sources: Sources, weights: Sequence[float], seed: int, first: int
    ) -> list[Images]:
        """By steps taken and then by w what becomes of the pictures; by w others, anew.

        All of them are from the same noise, so that N steps taken are what is drawn anew.

        Args:
            sources: the pictures.
            weights: guidance weights.
            seed: of the noise.
            first: which picture of all the first of these is.

        Raises:
            BundleError: the network was not made for this.
        """

        def drawn(taken: int, w: float) -> Images:
            wish, pictures = Wish(sources.target, w, seed), sources.pictures
            return edit(self.opened, pictures, wish, steps=self.steps, taken=taken, first=first)

        ends = (*self.taken, self.steps)
        by_taken = {taken: [drawn(taken, w) for w in weights] for taken in dict.fromkeys(ends)}
        return [images for taken in ends for images in by_taken[taken]]
