"""Samples of a bundle from numbered noise: row i of a seed is the same noise for every network.

That makes teacher and student comparable image by image, and makes the result independent of how
the rows were divided among workers. A network of latents is sampled with the components of its
pipeline, which turn prompts into conditions and latents into pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float32, Int64

from pipeline.bundle import Manifest
from pipeline.diffusion.schedule import NoiseLevel
from pipeline.diffusion.solver import sample as ddim_sample
from pipeline.errors import BundleError, ConfigError
from pipeline.models.assemble import load_denoiser
from pipeline.models.stock_sampler import dpm_solver_sample
from pipeline.randomness import RowRandom
from pipeline.stock.stock import STOCK, StockPipeline
from pipeline.tensors import Condition, Latent

Sampler = Literal["ddim", "dpm++"]

Images = Float32[np.ndarray, "_ h w c"]
"""Finished samples: float32, channels last, pixels in [-1, 1] (Gaussian data may exceed it)."""

LabelArray = Int64[np.ndarray, "_"]


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
        self._stock: StockPipeline | None = None
        if self.manifest.pipeline is not None:
            if components is None:
                raise BundleError(
                    f"{bundle} draws latents of a {self.manifest.pipeline}; give --components, the "
                    "directory of its other parts"
                )
            self._stock = STOCK.get(self.manifest.pipeline)(components, self.device)

    def check(self, *, steps: int, w: float, sampler: Sampler = "ddim") -> None:
        """Refuse a use the network was not made for.

        Raises:
            BundleError: wrong step count, guidance weight or sampler for this bundle.
            ConfigError: there is no such sampler.
        """
        if sampler not in get_args(Sampler):
            raise ConfigError(f"sampler {sampler!r} does not exist; use ddim or dpm++")
        self.manifest.check_use(steps, w)
        if sampler != "ddim" and self.manifest.role == "student":
            raise BundleError(
                f"a student's step is one DDIM step on its own grid, so {sampler} does not apply "
                "to it; use --sampler ddim"
            )

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
        sampler: Sampler = "ddim",
        batch_size: int = 256,
        first: int = 0,
    ) -> Images:
        """Draw one sample for each label or prompt; see `sample` of this module.

        Raises:
            BundleError: wrong step count, guidance weight, sampler, label or prompt for this
                bundle.
        """
        self.check(steps=steps, w=w, sampler=sampler)
        self._check_asked(asked)
        parts = [
            self._batch(steps, w, sampler, asked[at : at + batch_size], (seed, first + at))
            for at in range(0, len(asked), batch_size)
        ]
        if not parts:
            channels, height, width = self.manifest.latent_shape
            return np.zeros((0, height, width, channels), np.float32)
        return np.concatenate(parts)

    def _check_asked(self, asked: LabelArray | Sequence[str]) -> None:
        is_text = not isinstance(asked, np.ndarray)
        if is_text != self.manifest.network.reads_text:
            wanted = "classes" if is_text else "prompts"
            raise BundleError(f"this bundle is asked for {wanted}; give --{wanted[:6]}")
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

    def _condition(self, asked: LabelArray | Sequence[str]) -> Condition:
        if isinstance(asked, np.ndarray):
            return {"label": torch.from_numpy(asked).to(self.device)}
        if self._stock is None:
            raise TypeError("a network that reads prompts belongs in a pipeline")
        return self._stock.condition(self.manifest, asked)

    @torch.inference_mode()
    def _batch(
        self,
        steps: int,
        w: float,
        sampler: Sampler,
        asked: LabelArray | Sequence[str],
        origin: tuple[int, int],
    ) -> Images:
        seed, first = origin
        noise = RowRandom((seed,), first, len(asked)).normal("z_1", *self.manifest.latent_shape)
        z_1 = noise.to(self.device)
        condition = self._condition(asked)
        weight = torch.full((len(asked),), w, dtype=torch.float64, device=self.device)
        denoiser = self.denoiser

        def velocity(z_t: Latent, level: NoiseLevel) -> Latent:
            return denoiser.velocity(z_t, level, condition, weight)

        if sampler == "dpm++":
            x = dpm_solver_sample(z_1, denoiser.schedule, steps, velocity)
        else:
            x = ddim_sample(
                z_1, denoiser.schedule, steps, lambda z, at: denoiser(z, at, condition, weight)
            )
        return _finished(x if self._stock is None else self._stock.to_pixels(x), self.manifest)


def sample(  # noqa: PLR0913 (all that determines a sample, each by name)
    bundle: Path,
    *,
    steps: int,
    w: float,
    asked: LabelArray | Sequence[str],
    seed: int,
    sampler: Sampler = "ddim",
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
        sampler: `ddim`, or `dpm++` (a teacher only).
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
