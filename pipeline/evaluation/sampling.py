"""Samples of a bundle from numbered noise: row i of a seed is the same noise for every network.

That makes teacher and student comparable image by image, and makes the result independent of how
the rows were divided among workers.
"""

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
from pipeline.tensors import Latent

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

    def __init__(self, bundle: Path, device: torch.device | None = None) -> None:
        """Load a bundle.

        Args:
            bundle: its directory.
            device: where to run; without it the GPU this process was given, else the CPU.

        Raises:
            BundleError: it is not a bundle.
        """
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.manifest, self.denoiser = load_denoiser(bundle, self.device)

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
        labels: LabelArray,
        seed: int,
        sampler: Sampler = "ddim",
        batch_size: int = 256,
        first: int = 0,
    ) -> Images:
        """Draw one sample for each label; see `sample` of this module.

        Raises:
            BundleError: wrong step count, guidance weight, sampler or label for this bundle.
        """
        self.check(steps=steps, w=w, sampler=sampler)
        num_classes = self.manifest.num_classes
        if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
            raise BundleError(
                f"labels run from {labels.min()} to {labels.max()}, this bundle knows classes 0 to "
                f"{num_classes - 1}"
            )
        parts = [
            self._batch(steps, w, sampler, labels[at : at + batch_size], (seed, first + at))
            for at in range(0, len(labels), batch_size)
        ]
        channels, height, width = self.manifest.latent_shape
        empty = np.zeros((0, height, width, channels), np.float32)
        return np.concatenate([empty, *parts])

    @torch.inference_mode()
    def _batch(
        self, steps: int, w: float, sampler: Sampler, labels: LabelArray, origin: tuple[int, int]
    ) -> Images:
        seed, first = origin
        noise = RowRandom((seed,), first, len(labels)).normal("z_1", *self.manifest.latent_shape)
        z_1 = noise.to(self.device)
        condition = {"label": torch.from_numpy(labels).to(self.device)}
        weight = torch.full((len(labels),), w, dtype=torch.float64, device=self.device)
        denoiser = self.denoiser

        def velocity(z_t: Latent, level: NoiseLevel) -> Latent:
            return denoiser.velocity(z_t, level, condition, weight)

        if sampler == "dpm++":
            x = dpm_solver_sample(z_1, denoiser.schedule, steps, velocity)
        else:
            x = ddim_sample(
                z_1, denoiser.schedule, steps, lambda z, at: denoiser(z, at, condition, weight)
            )
        return _finished(x, self.manifest)


def sample(  # noqa: PLR0913 (all that determines a sample, each by name)
    bundle: Path,
    *,
    steps: int,
    w: float,
    labels: LabelArray,
    seed: int,
    sampler: Sampler = "ddim",
    batch_size: int = 256,
    first: int = 0,
) -> Images:
    """Draw one sample of a bundle for each label, float32 `[n, h, w, c]`.

    Args:
        bundle: directory of a teacher (sampled under guidance) or a student (told w).
        steps: solver steps.
        w: guidance weight; 0 is unguided, diffusers' guidance_scale is 1 + w.
        labels: int64 `[n]`, the class of each sample.
        seed: of the starting noise; the same seed gives the same noise to every bundle.
        sampler: `ddim`, or `dpm++` (a teacher only).
        batch_size: samples computed together; it bounds memory and changes rounding only.
        first: row of the first sample in the seed's stream of noise.

    Raises:
        BundleError: not a bundle, or one not made for this.
    """
    return BundleSampler(bundle).sample(
        steps=steps,
        w=w,
        labels=labels,
        seed=seed,
        sampler=sampler,
        batch_size=batch_size,
        first=first,
    )


def _finished(x: Latent, manifest: Manifest) -> Images:
    # only finished pixels are clipped: clipping x inside the sampler would change the teacher
    pixels = x.float() if manifest.network.family == "gaussian" else x.float().clamp(-1, 1)
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).cpu().numpy())
