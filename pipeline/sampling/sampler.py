"""Sample a bundle from indexed noise: row i of a seed is the same noise for every network.

Teacher and student are thus comparable image by image, and results do not depend on how rows are
divided among workers. A network of latents is sampled with its pipeline's components, which encode
prompts and decode latents.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from pipeline.bundle import Manifest
from pipeline.config.samplers import evaluations_per_step
from pipeline.diffusion.ddim import Noise
from pipeline.diffusion.prediction import Prediction
from pipeline.diffusion.schedule import NoiseLevel
from pipeline.errors import BundleError, DivergenceError
from pipeline.models.assemble import load_denoiser
from pipeline.models.stock.stock_pipeline import STOCK, StockPipeline
from pipeline.randomness import RowRandom
from pipeline.sampling.solvers import SAMPLERS, SamplingTask, check_sampler, default_sampler
from pipeline.tensors import Condition, Latent

Images = Float32[np.ndarray, "_ *axes c"]
"""Finished samples, channels last, float32: images of pixels in [-1, 1], or samples of other axes,
which may exceed this."""

LabelArray = Int64[np.ndarray, "_"]


def channels_first(images: Images) -> Float32[Tensor, "_ c *axes"]:
    """Convert samples to the layout of networks, channels first."""
    return torch.from_numpy(images).movedim(-1, 1).contiguous()


def channels_last(x: Float32[Tensor, "_ c *axes"]) -> Images:
    """Convert samples from the layout of networks, channels last."""
    images: Images = x.movedim(1, -1).contiguous().numpy()
    return images


def balanced_labels(num: int, num_classes: int) -> LabelArray:
    """Build `num` sorted labels; the counts of any two classes differ by at most one."""
    return np.sort(np.arange(num, dtype=np.int64) % num_classes)


class BundleSampler:
    """A loaded bundle; reuse it to sample repeatedly without reloading.

    A teacher is sampled under guidance, a student is conditioned on w.

    Attributes:
        name: name of the bundle's directory, for messages.
        manifest: description and valid range of use.
        denoiser: the network.
        device: device of the network.
        stock: the stock pipeline's components; None for a standalone network.
    """

    def __init__(
        self,
        bundle: Path,
        device: torch.device | None = None,
        components: Path | None = None,
    ) -> None:
        """Load a bundle.

        Args:
            bundle: its directory.
            device: device to run on; None for the process's GPU if any, else the CPU.
            components: directory of the stock pipeline's components; None for a standalone
                network.

        Raises:
            BundleError: not a bundle, or its pipeline needs components and there are none.
        """
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.name = bundle.name
        self.manifest, self.denoiser = load_denoiser(bundle, self.device)
        self.stock: StockPipeline | None = None
        if self.manifest.pipeline is not None:
            if components is None:
                raise BundleError(
                    f"{bundle} produces latents of a {self.manifest.pipeline}; pass --components "
                    "with the directory of its other parts"
                )
            self.stock = STOCK.get(self.manifest.pipeline)(components, self.device)

    def check(self, *, steps: int, w: float, sampler: str | None = None) -> None:
        """Check that the network supports this use; the default sampler is its own.

        Raises:
            BundleError: step count, guidance weight or sampler is not supported by this bundle.
            ConfigError: the sampler does not exist.
        """
        sampler = sampler or default_sampler(self.manifest)
        SAMPLERS.get(sampler)
        self.manifest.check_use(steps, w)
        check_sampler(self.manifest, sampler)

    @property
    def is_inpainting(self) -> bool:
        """Whether it is an inpainting network, which takes a masked image as input."""
        return self.manifest.network.is_inpainting

    def evaluations(self, *, steps: int, w: float, sampler: str = "ddim") -> int:
        """Return the network evaluations per sample."""
        return steps * evaluations_per_step(sampler) * self.denoiser.evaluations(w)

    def sample(
        self,
        *,
        steps: int,
        w: float,
        conditions: LabelArray | Sequence[str],
        seed: int,
        sampler: str | None = None,
        batch_size: int = 256,
        first: int = 0,
        pictures: Images | None = None,
        allow_nonfinite: bool = False,
    ) -> Images:
        """Draw one sample for each label or prompt, float32 `[n, *axes, c]`.

        Args:
            steps: solver steps.
            w: guidance weight; 0 is unguided, diffusers' guidance_scale is 1 + w.
            conditions: class of each sample, int64 `[n]`, or prompt of each sample.
            seed: seed of the starting noise; the same seed gives the same noise for every bundle.
            sampler: `ddim`, `stochastic`, or for a teacher `dpm++` or `unipc`; default: its own.
            batch_size: samples computed together; affects memory and rounding only.
            first: row of the first sample in the seed's noise stream.
            pictures: for an inpainting network, one image per prompt; a rectangle of each, chosen
                by the seed, is masked.
            allow_nonfinite: return samples with NaN or infinity too, for a caller that judges them.

        Raises:
            DivergenceError: a sample is not finite.
            BundleError: step count, guidance weight, sampler, label or prompt is not supported by
                this bundle, or `pictures` is missing or not supported.
        """
        sampler = sampler or default_sampler(self.manifest)
        self.check(steps=steps, w=w, sampler=sampler)
        self.check_conditions(conditions)
        if self.is_inpainting != (pictures is not None):
            raise BundleError(
                "inpainting networks need images, and other networks do not support them; use "
                "stepfold inpaint for inpainting networks and stepfold sample for others"
            )
        parts = []
        for at in range(0, len(conditions), batch_size):
            rows, origin = slice(at, at + batch_size), (seed, first + at)
            batch = conditions[rows]
            condition = self.condition(batch)
            if pictures is not None:
                condition |= self._extra_inputs(pictures[rows], origin)
            parts.append(self._batch(steps, w, sampler, condition, (*origin, len(batch))))
        if not parts:
            channels, *axes = self.manifest.latent_shape
            return np.zeros((0, *axes, channels), np.float32)
        images = np.concatenate(parts)
        if not allow_nonfinite:
            check_finite(images, f"samples of {self.name}, steps={steps} w={w:g}", first)
        return images

    def check_conditions(self, conditions: LabelArray | Sequence[str]) -> None:
        """Check that the network supports these labels or prompts.

        Raises:
            BundleError: prompts for a class-conditional network, labels for a text-conditional
                one, or a label out of range.
        """
        is_text = not isinstance(conditions, np.ndarray)
        if is_text != self.manifest.network.reads_text:
            wanted, other = ("classes", "prompts") if is_text else ("prompts", "classes")
            option = "--labels (--label for a single image)" if is_text else "--prompt"
            raise BundleError(
                f"this bundle is conditioned on {wanted}, not on {other}; give {option}"
            )
        num_classes = self.manifest.num_classes
        if (
            isinstance(conditions, np.ndarray)
            and len(conditions)
            and not 0 <= conditions.min() <= conditions.max() < num_classes
        ):
            raise BundleError(
                f"labels {conditions.min()} to {conditions.max()} are out of range; this bundle "
                f"has classes 0 to {num_classes - 1}"
            )

    def condition(self, conditions: LabelArray | Sequence[str]) -> Condition:
        """Compute the network's condition for these labels or prompts."""
        if isinstance(conditions, np.ndarray):
            return {"label": torch.from_numpy(conditions).to(self.device)}
        if self.stock is None:
            raise TypeError("stock is None; a text-conditional network needs its pipeline")
        return self.stock.condition(self.manifest, conditions)

    def _extra_inputs(self, pictures: Images, origin: tuple[int, int]) -> Condition:
        if self.stock is None:
            raise TypeError("stock is None; an inpainting network needs its pipeline")
        seed, first = origin
        return self.stock.extra_inputs(
            channels_first(pictures), RowRandom((seed,), first, len(pictures))
        )

    @torch.inference_mode()
    def _batch(
        self,
        steps: int,
        w: float,
        sampler: str,
        condition: Condition,
        rows: tuple[int, int, int],
    ) -> Images:
        seed, first, count = rows
        random, shape = RowRandom((seed,), first, count), self.manifest.latent_shape
        z_1 = random.normal("z_1", *shape).to(self.device)
        weight = torch.full((count,), w, dtype=torch.float64, device=self.device)
        denoiser = self.denoiser

        def velocity(z_t: Latent, level: NoiseLevel) -> Latent:
            return denoiser.velocity(z_t, level, condition, weight)

        def denoise(z_t: Latent, level: NoiseLevel) -> Prediction:
            return denoiser(z_t, level, condition, weight)

        task = SamplingTask(
            z_1=z_1,
            schedule=denoiser.schedule,
            steps=steps,
            velocity=velocity,
            denoise=denoise,
            noise=self.noise_function(random, steps),
        )
        return self._pixels(SAMPLERS.get(sampler)().sample(task))

    def noise_function(self, random: RowRandom, steps: int) -> Noise:
        """Return the noise function of the stochastic N-step sampler, by grid point."""
        shape = self.manifest.latent_shape
        return lambda point: random.normal(f"noise at {point}/{steps}", *shape).to(self.device)

    def finished(self, x: Latent) -> Images:
        """Convert samples or latents to pixels, clipped to [-1, 1] (except Gaussian data).

        Raises:
            DivergenceError: a pixel is not finite.
        """
        images = self._pixels(x)
        check_finite(images, f"samples of {self.name}")
        return images

    def _pixels(self, x: Latent) -> Images:
        pixels = x if self.stock is None else self.stock.to_pixels(x)
        return _finished(pixels, self.manifest)


def check_finite(images: Images, what: str, first: int = 0) -> None:
    """Check samples before they are measured or shown, where NaN would look black.

    Args:
        images: samples, one per row.
        what: the samples, for the message.
        first: number of the first row.

    Raises:
        DivergenceError: a value is NaN or infinite; the message has the count and the first row.
    """
    is_bad = ~np.isfinite(images).reshape(len(images), -1).all(1)
    if is_bad.any():
        raise DivergenceError(
            f"{what}: {int(is_bad.sum())} of {len(images)} contain NaN or infinity, the first is "
            f"number {first + int(is_bad.argmax())}; use another w, more steps or an earlier "
            "student, or train it again with a lower learning rate"
        )


def _finished(x: Latent, manifest: Manifest) -> Images:
    # clip only finished pixels: clipping x inside the sampler would change the teacher
    pixels = x.float().clamp(-1, 1) if manifest.network.draws_pixels else x.float()
    return np.ascontiguousarray(pixels.movedim(1, -1).cpu().numpy())
