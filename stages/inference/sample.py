"""Sample a bundle into a file: arrays, or an image grid."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.bundle import Manifest, read_manifest
from pipeline.errors import BundleError, ConfigError
from pipeline.sampling.sampler import BundleSampler, LabelArray, balanced_labels
from pipeline.sampling.solvers import check_sampler, default_sampler
from stages.export.export import components_near
from stages.inference.output_file import check_output, image_grid, write_output


def sample_bundle(
    bundle: Path,
    output: Path,
    *,
    steps: int,
    w: float,
    seed: int,
    samples: int | tuple[int, ...] | tuple[str, ...] = 1000,
    sampler: str | None = None,
    components: Path | None = None,
) -> int:
    """Sample a bundle and write the result atomically; return the number of samples.

    Args:
        bundle: a teacher (sampled with guidance) or a student (conditioned on w).
        output: `.npz` gets `images` float32 [n, h, w, c] in [-1, 1] and `labels` int64 [n], or
            `prompts`; `.png` gets a grid, one row per class if classes are balanced.
        steps: solver steps.
        w: guidance weight, 0 is unguided.
        seed: seed of the starting noise; the same noise for every bundle.
        samples: number of samples, balanced over all classes and in their order; or the class of
            each, or the prompt of each.
        sampler: `ddim`, `stochastic`, or `dpm++` or `unipc` for a teacher; default: the bundle's
            own.
        components: the network's stock pipeline without the network; default: `components/` of the
            run that contains the bundle.

    Raises:
        ConfigError: unsupported file type, or invalid number.
        BundleError: not a bundle, or one that does not support this use.
    """
    manifest = read_manifest(bundle)
    conditions = _conditions(manifest, samples)
    check_output(output, manifest)
    manifest.check_use(steps, w)
    sampler = sampler or default_sampler(manifest)
    check_sampler(manifest, sampler)
    bundle_sampler = BundleSampler(bundle, components=components or components_near(bundle))
    images = bundle_sampler.sample(
        steps=steps, w=w, conditions=conditions, seed=seed, sampler=sampler
    )
    if output.suffix == ".npz":
        if isinstance(conditions, tuple):
            write_output(
                output, lambda file: np.savez(file, images=images, prompts=np.array(conditions))
            )
        else:
            write_output(output, lambda file: np.savez(file, images=images, labels=conditions))
    else:
        columns = _columns(conditions, manifest.num_classes)
        picture = Image.fromarray(image_grid(images, columns).squeeze())
        write_output(output, lambda file: picture.save(file, format="PNG"))
    return len(images)


def cut_prompts_note(bundle: Path, components: Path | None, prompts: Sequence[str]) -> str | None:
    """Return a sentence on prompts that the text encoder of a bundle cuts; None if none is cut.

    Args:
        bundle: a bundle, or a run directory.
        components: the network's stock pipeline; None for that of the bundle's run.
        prompts: the prompts.
    """
    from pipeline.models.stock.long_prompts import long_prompts_note

    place = components or components_near(bundle / "bundle")
    return long_prompts_note(place, prompts, "prompt") if place and prompts else None


def _conditions(
    manifest: Manifest, samples: int | tuple[int, ...] | tuple[str, ...]
) -> LabelArray | tuple[str, ...]:
    if isinstance(samples, int):
        if samples < 1:
            raise ConfigError(f"--num {samples}: must be at least 1")
        if manifest.network.reads_text:
            raise ConfigError("this bundle is text-conditioned; give --prompt")
        return balanced_labels(samples, manifest.num_classes)
    prompts = tuple(each for each in samples if isinstance(each, str))
    labels = [each for each in samples if isinstance(each, int)]
    if not labels:
        return prompts
    outside = [label for label in labels if not 0 <= label < manifest.num_classes]
    if outside:
        raise BundleError(
            f"--labels {outside[0]}: this bundle has classes 0 to {manifest.num_classes - 1}"
        )
    return np.array(labels, np.int64)


def _columns(conditions: LabelArray | tuple[str, ...], num_classes: int) -> int:
    if isinstance(conditions, tuple):
        return min(len(conditions), 16)
    counts = np.bincount(conditions, minlength=num_classes)
    is_balanced = counts.min() == counts.max() and bool((np.diff(conditions) >= 0).all())
    return int(counts[0]) if is_balanced else min(len(conditions), 16)
