"""Draw samples of a bundle into a file: arrays for programs, a grid for people."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from pipeline.bundle import Manifest, read_manifest
from pipeline.durable import replace_durably
from pipeline.errors import BundleError, ConfigError
from pipeline.evaluation.sampling import BundleSampler, Images, LabelArray, Sampler, balanced_labels
from stages.export import components_near

_TILE = 48  # pixels; small images are enlarged in whole steps to about this
_GAP = 2


def sample_bundle(  # noqa: PLR0913 (all that determines samples, each by name)
    bundle: Path,
    output: Path,
    *,
    steps: int,
    w: float,
    seed: int,
    asked: int | tuple[int, ...] | tuple[str, ...] = 1000,
    sampler: Sampler = "ddim",
    components: Path | None = None,
) -> int:
    """Sample a bundle and write the result in one move; returns the number of samples.

    Args:
        bundle: a teacher (sampled under guidance) or a student (told w).
        output: `.npz` gets `images` float32 [n, h, w, c] in [-1, 1] and `labels` int64 [n], or
            `prompts`; `.png` gets a grid, one row a class if classes are balanced.
        steps: solver steps.
        w: guidance weight, 0 is unguided.
        seed: of the starting noise; the same for every bundle.
        asked: how many, balanced over all classes and in their order; or the class of each, or
            the prompt of each.
        sampler: `ddim`, or `dpm++` for a teacher.
        components: what surrounds the network in its stock pipeline; by default the `components/`
            of the run that the bundle lies in.

    Raises:
        ConfigError: a kind of file or a number that cannot be.
        BundleError: not a bundle, or one not made for this.
    """
    manifest = read_manifest(bundle)
    wanted = _wanted(manifest, asked)
    _check_output(output, manifest)
    manifest.check_use(steps, w)
    opened = BundleSampler(bundle, components=components or components_near(bundle))
    images = opened.sample(steps=steps, w=w, asked=wanted, seed=seed, sampler=sampler)
    if output.suffix == ".npz":
        if isinstance(wanted, tuple):
            _write(output, lambda file: np.savez(file, images=images, prompts=np.array(wanted)))
        else:
            _write(output, lambda file: np.savez(file, images=images, labels=wanted))
    else:
        columns = _columns(wanted, manifest.num_classes)
        picture = Image.fromarray(grid(images, columns).squeeze())
        _write(output, lambda file: picture.save(file, format="PNG"))
    return len(images)


def grid(images: Images, columns: int) -> np.ndarray:
    """Images side by side, row by row, as uint8 [height, width, c]; gaps and free places white."""
    count, height, width, channels = images.shape
    scale = max(1, _TILE // max(height, width))
    tiles = np.rint((images.clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    tiles = tiles.repeat(scale, axis=1).repeat(scale, axis=2)
    rows = -(-count // columns)
    down, across = height * scale + _GAP, width * scale + _GAP
    canvas = np.full((rows * down + _GAP, columns * across + _GAP, channels), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * down + _GAP, (index % columns) * across + _GAP
        canvas[top : top + height * scale, left : left + width * scale] = tile
    return canvas


def _wanted(
    manifest: Manifest, asked: int | tuple[int, ...] | tuple[str, ...]
) -> LabelArray | tuple[str, ...]:
    if isinstance(asked, int):
        if asked < 1:
            raise ConfigError(f"--num {asked}: ask for at least one sample")
        if manifest.network.reads_text:
            raise ConfigError("this bundle draws what a sentence says; give it with --prompt")
        return balanced_labels(asked, manifest.num_classes)
    prompts = tuple(each for each in asked if isinstance(each, str))
    labels = [each for each in asked if isinstance(each, int)]
    if not labels:
        return prompts
    outside = [label for label in labels if not 0 <= label < manifest.num_classes]
    if outside:
        raise BundleError(
            f"--labels: this bundle knows classes 0 to {manifest.num_classes - 1}, not {outside[0]}"
        )
    return np.array(labels, np.int64)


def _check_output(output: Path, manifest: Manifest) -> None:
    if output.suffix not in {".npz", ".png"}:
        raise ConfigError(f"--output {output}: write to a file that ends in .npz or .png")
    folder = output.absolute().parent
    if output.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"--output {output}: not a file in an existing directory you may write")
    channels, height, width = manifest.latent_shape
    if (
        manifest.pipeline is None
        and output.suffix == ".png"
        and (channels not in {1, 3} or height * width == 1)
    ):
        raise ConfigError(
            f"--output {output}: samples of shape {manifest.latent_shape} are no pictures; "
            "write an .npz"
        )


def _columns(asked: LabelArray | tuple[str, ...], num_classes: int) -> int:
    if isinstance(asked, tuple):
        return min(len(asked), 16)
    labels = asked
    counts = np.bincount(labels, minlength=num_classes)
    is_balanced = counts.min() == counts.max() and bool((np.diff(labels) >= 0).all())
    return int(counts[0]) if is_balanced else min(len(labels), 16)


def _write(output: Path, fill: Callable[[IO[bytes]], None]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            fill(file)

    try:
        replace_durably(output, write)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written ({error.strerror})") from error
