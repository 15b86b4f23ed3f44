"""Draw samples of a bundle into a file: arrays for programs, a grid for people."""

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.bundle import Manifest, read_manifest
from pipeline.errors import BundleError, ConfigError
from pipeline.sampling.sampler import BundleSampler, LabelArray, balanced_labels
from pipeline.sampling.solvers import Sampler, check_sampler, own_sampler
from stages.export.export import components_near
from stages.inference.output_file import check_output, grid, write_output


def sample_bundle(
    bundle: Path,
    output: Path,
    *,
    steps: int,
    w: float,
    seed: int,
    asked: int | tuple[int, ...] | tuple[str, ...] = 1000,
    sampler: Sampler | None = None,
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
        sampler: `ddim`, `stochastic`, or `dpm++` or `unipc` for a teacher; by default the bundle's
            own.
        components: what surrounds the network in its stock pipeline; by default the `components/`
            of the run that the bundle lies in.

    Raises:
        ConfigError: a kind of file or a number that cannot be.
        BundleError: not a bundle, or one not made for this.
    """
    manifest = read_manifest(bundle)
    wanted = _wanted(manifest, asked)
    check_output(output, manifest)
    manifest.check_use(steps, w)
    sampler = sampler or own_sampler(manifest)
    check_sampler(manifest, sampler)
    opened = BundleSampler(bundle, components=components or components_near(bundle))
    images = opened.sample(steps=steps, w=w, asked=wanted, seed=seed, sampler=sampler)
    if output.suffix == ".npz":
        if isinstance(wanted, tuple):
            write_output(
                output, lambda file: np.savez(file, images=images, prompts=np.array(wanted))
            )
        else:
            write_output(output, lambda file: np.savez(file, images=images, labels=wanted))
    else:
        columns = _columns(wanted, manifest.num_classes)
        picture = Image.fromarray(grid(images, columns).squeeze())
        write_output(output, lambda file: picture.save(file, format="PNG"))
    return len(images)


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


def _columns(asked: LabelArray | tuple[str, ...], num_classes: int) -> int:
    if isinstance(asked, tuple):
        return min(len(asked), 16)
    labels = asked
    counts = np.bincount(labels, minlength=num_classes)
    is_balanced = counts.min() == counts.max() and bool((np.diff(labels) >= 0).all())
    return int(counts[0]) if is_balanced else min(len(labels), 16)
