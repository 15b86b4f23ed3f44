"""Samples of a bundle from numbered noise: row i of a seed is the same noise for every network.

That makes teacher and student comparable image by image, and makes the result independent of how
the rows were divided among workers. A network of latents is sampled with the components of its
pipeline, which turn prompts into conditions and latents into pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from pipeline.bundle import Manifest
from pipeline.config import UNetConfig
from pipeline.diffusion.prediction import Prediction
from pipeline.diffusion.schedule import NoiseLevel
from pipeline.diffusion.solver import Noise
from pipeline.diffusion.solver import sample as step_by_step
from pipeline.errors import BundleError, ConfigError
from pipeline.models.assemble import load_denoiser
from pipeline.models.stock.stock_pipeline import STOCK, StockPipeline
from pipeline.randomness import RowRandom
from pipeline.sampling.solvers import Sampler, check_sampler, own_sampler, solver_sample
from pipeline.tensors import Condition, Latent

Images = Float32[np.ndarray, "_ h w c"]
"""Finished samples: float32, channels last, pixels in [-1, 1] (Gaussian data may exceed it)."""

LabelArray = Int64[np.ndarray, "_"]


def channels_first(images: Images) -> Float32[Tensor, "_ c h w"]:
    """Images as networks take them."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def balanced_labels(num: int, num_classes: int) -> LabelArray:
    """`num` labels in order of class, the counts of any two classes differing by one at most."""
    return np.sort(np.arange(num, dtype=np.int64) % num_classes)


class BundleSampler:
    """A bundle opened for sampling; keep it to sample again without loading again.

    A teacher is sampled under guidance, a student is told w.

    Attributes:
        manifest: what the bundle is and may be used for.
        denoiser: its network.
        device: where it runs.
        stock: what surrounds its network, if it belongs in a stock pipeline.
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
            device: where to run; without it the GPU this process was given, else the CPU.
            components: what surrounds its network in a stock pipeline, if it belongs in one.

        Raises:
            BundleError: it is not a bundle, or belongs in a pipeline and is given no components.
        """
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.manifest, self.denoiser = load_denoiser(bundle, self.device)
        self.stock: StockPipeline | None = None
        if self.manifest.pipeline is not None:
            if components is None:
                raise BundleError(
                    f"{bundle} draws latents of a {self.manifest.pipeline}; give --components, the "
                    "directory of its other parts"
                )
            self.stock = STOCK.get(self.manifest.pipeline)(components, self.device)

    def check(self, *, steps: int, w: float, sampler: Sampler | None = None) -> None:
        """Refuse a use the network was not made for; without a sampler its own is meant.

        Raises:
            BundleError: wrong step count, guidance weight or sampler for this bundle.
            ConfigError: there is no such sampler.
        """
        sampler = sampler or own_sampler(self.manifest)
        if sampler not in get_args(Sampler):
            known = "ddim, stochastic, dpm++ or unipc"
            raise ConfigError(f"sampler {sampler!r} does not exist; use {known}")
        self.manifest.check_use(steps, w)
        check_sampler(self.manifest, sampler)

    @property
    def paints_into_pictures(self) -> bool:
        """Whether it is an inpainting network, which is given a picture with a part hidden."""
        network = self.manifest.network
        return isinstance(network, UNetConfig) and network.image_channels > 0

    def evaluations(self, *, steps: int, w: float) -> int:
        """Network evaluations that one sample costs."""
        return steps * self.denoiser.evaluations(w)

    def sample(
        self,
        *,
        steps: int,
        w: float,
        asked: LabelArray | Sequence[str],
        seed: int,
        sampler: Sampler | None = None,
        batch_size: int = 256,
        first: int = 0,
        pictures: Images | None = None,
    ) -> Images:
        """Draw one sample for each label or prompt; see `sample` of this module.

        An inpainting network is given `pictures`, one for each prompt, of which a rectangle is
        hidden; which, the seed decides.

        Raises:
            BundleError: wrong step count, guidance weight, sampler, label or prompt for this
                bundle, or pictures where there should be none, or none where there should be.
        """
        sampler = sampler or own_sampler(self.manifest)
        self.check(steps=steps, w=w, sampler=sampler)
        self.check_asked(asked)
        if self.paints_into_pictures != (pictures is not None):
            raise BundleError(
                "an inpainting network draws into a picture, and no other network does; use "
                "stepfold inpaint for the one and stepfold sample for others"
            )
        parts = []
        for at in range(0, len(asked), batch_size):
            rows, origin = slice(at, at + batch_size), (seed, first + at)
            condition = self.condition(asked[rows])
            if pictures is not None:
                condition |= self._beside(pictures[rows], origin)
            parts.append(self._batch(steps, w, sampler, condition, (*origin, len(asked[rows]))))
        if not parts:
            channels, height, width = self.manifest.latent_shape
            return np.zeros((0, height, width, channels), np.float32)
        return np.concatenate(parts)

    def check_asked(self, asked: LabelArray | Sequence[str]) -> None:
        """Refuse labels or prompts that the network was not made for.

        Raises:
            BundleError: prompts for classes, classes for prompts, or a class that is none.
        """
        is_text = not isinstance(asked, np.ndarray)
        if is_text != self.manifest.network.reads_text:
            wanted, other = ("classes", "prompts") if is_text else ("prompts", "classes")
            option = "--labels (--label for one picture)" if is_text else "--prompt"
            raise BundleError(f"this bundle draws {wanted}, not {other}; give {option}")
        num_classes = self.manifest.num_classes
        if (
            isinstance(asked, np.ndarray)
            and len(asked)
            and not 0 <= asked.min() <= asked.max() < num_classes
        ):
            raise BundleError(
                f"labels run from {asked.min()} to {asked.max()}, this bundle knows classes 0 to "
                f"{num_classes - 1}"
            )

    def condition(self, asked: LabelArray | Sequence[str]) -> Condition:
        """What the network is told for these labels or prompts."""
        if isinstance(asked, np.ndarray):
            return {"label": torch.from_numpy(asked).to(self.device)}
        if self.stock is None:
            raise TypeError("a network that reads prompts belongs in a pipeline")
        return self.stock.condition(self.manifest, asked)

    def _beside(self, pictures: Images, origin: tuple[int, int]) -> Condition:
        if self.stock is None:
            raise TypeError("an inpainting network belongs in a pipeline")
        seed, first = origin
        return self.stock.beside(channels_first(pictures), RowRandom((seed,), first, len(pictures)))

    @torch.inference_mode()
    def _batch(
        self,
        steps: int,
        w: float,
        sampler: Sampler,
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

        if sampler == "dpm++" or sampler == "unipc":
            x = solver_sample(z_1, denoiser.schedule, steps, velocity, sampler)
        else:
            added = self.noise_added(random, steps) if sampler == "stochastic" else None
            x = step_by_step(z_1, denoiser.schedule, steps, denoise, noise=added)
        return self.finished(x)

    def noise_added(self, random: RowRandom, steps: int) -> Noise:
        """What a stochastic student's sampler of N steps adds at a point of its grid."""
        shape = self.manifest.latent_shape
        return lambda point: random.normal(f"noise at {point}/{steps}", *shape).to(self.device)

    def finished(self, x: Latent) -> Images:
        """Pixels of samples or latents, clipped to [-1, 1] (Gaussian data are not)."""
        pixels = x if self.stock is None else self.stock.to_pixels(x)
        return _finished(pixels, self.manifest)


def sample(
    bundle: Path,
    *,
    steps: int,
    w: float,
    asked: LabelArray | Sequence[str],
    seed: int,
    sampler: Sampler | None = None,
    batch_size: int = 256,
    first: int = 0,
    components: Path | None = None,
) -> Images:
    """Draw one sample of a bundle for each label or prompt, float32 `[n, h, w, c]`.

    Args:
        bundle: directory of a teacher (sampled under guidance) or a student (told w).
        steps: solver steps.
        w: guidance weight; 0 is unguided, diffusers' guidance_scale is 1 + w.
        asked: int64 `[n]`, the class of each sample; or the prompt of each.
        seed: of the starting noise; the same seed gives the same noise to every bundle.
        sampler: `ddim`, `stochastic`, or for a teacher `dpm++` or `unipc`; by default its own.
        batch_size: samples computed together; it bounds memory and changes rounding only.
        first: row of the first sample in the seed's stream of noise.
        components: what surrounds its network in a stock pipeline, if it belongs in one.

    Raises:
        BundleError: not a bundle, or one not made for this.
    """
    return BundleSampler(bundle, components=components).sample(
        steps=steps,
        w=w,
        asked=asked,
        seed=seed,
        sampler=sampler,
        batch_size=batch_size,
        first=first,
    )


def _finished(x: Latent, manifest: Manifest) -> Images:
    # only finished pixels are clipped: clipping x inside the sampler would change the teacher
    pixels = x.float() if manifest.network.family == "gaussian" else x.float().clamp(-1, 1)
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).cpu().numpy())
