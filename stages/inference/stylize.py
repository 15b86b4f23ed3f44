"""Make a picture one of another class, or of another prompt, by the same hand."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.bundle import MANIFEST, Manifest, read_manifest
from pipeline.errors import BundleError, ConfigError
from pipeline.evaluation.metrics.frechet import paired_rms
from pipeline.run_dir.recipe_file import RECIPE, recipe_of, students_of
from pipeline.sampling.ddim_inversion import UNGUIDED, Asked, Translator
from pipeline.sampling.sampler import BundleSampler
from stages.evaluation.encoders import pairs
from stages.export.export import components_near
from stages.inference.edit import Order, read_picture, write_pictures
from stages.inference.output_file import check_output


@dataclass(frozen=True)
class Stylized:
    """What was done.

    Attributes:
        steps: each way.
        is_one: whether one network went both ways.
        evaluations: of the network, both ways.
        round_trip: how far the picture, drawn again as what it was, is from itself: RMS, pixels in
            [-1, 1].
    """

    steps: int
    is_one: bool
    evaluations: int
    round_trip: float


def stylize_picture(order: Order, source: str) -> Stylized:
    """Encode a picture as `source`, unguided, and draw it again as `order.asked`, guided.

    Both are prompts, or numbers of classes in decimals.

    `order.bundle` is a run directory, whose encoder and decoder of `order.steps` are used, of most
    steps if None, or its stage-1 student where there are none of so many; or the encoder itself; or
    a network that goes both ways in any number of steps, a teacher or a stage-1 student.

    Raises:
        ConfigError: a number or a file that cannot be, or a run without encoders.
        DataError: the picture cannot be read.
        BundleError: not a bundle, or one not made for this.
    """
    encoder, decoder, steps = find_pair(order.bundle, order.steps)
    manifest = read_manifest(decoder)
    check_output(order.output, manifest)
    was, wanted = _read_told(manifest, source), _read_told(manifest, str(order.asked))
    if not order.picture.is_file():
        raise ConfigError(f"{order.picture} is no file; give a picture")
    parts = order.components or components_near(decoder)
    opened = BundleSampler(decoder, components=parts)
    other = opened if encoder == decoder else BundleSampler(encoder, components=parts)
    translator = Translator(other, opened, steps)
    translator.check(order.w)
    for each in (was, wanted):
        opened.check_asked(each)
    picture = read_picture(order.picture, opened)
    noise = translator.encode(picture, was)
    back = paired_rms(translator.decode(noise, was, UNGUIDED), picture)
    made = translator.decode(noise, wanted, order.w)
    told = wanted[0] if isinstance(wanted, tuple) else int(wanted[0])
    write_pictures(replace(order, num=1, asked=told), picture, made)
    return Stylized(steps, encoder == decoder, translator.evaluations(order.w), back)


def find_pair(place: Path, steps: int | None) -> tuple[Path, Path, int]:
    """The bundles of an encoder and a decoder, and the steps they take.

    Args:
        place: a run directory, an encoder, or a network without step counts of its own.
        steps: each way; the most that an encoder takes for None.

    Raises:
        BundleError: the bundle decodes, or its run has no decoder of as many steps.
        ConfigError: the run has no encoder, or none of so many steps and no stage-1 student that
            encodes; or no steps are given where any number can be taken.
    """
    if not (place / MANIFEST).is_file():
        return _pair_of_run(place, None, steps)
    manifest = read_manifest(place)
    if manifest.steps is None:
        if steps is None:
            raise ConfigError("--steps: this network takes any number of steps; say how many")
        return place, place, steps
    manifest.check_use(steps or manifest.steps[0], UNGUIDED, "encode")
    for folder in place.absolute().parents:
        if (folder / RECIPE).is_file():
            return _pair_of_run(folder, place, manifest.steps[0])
    raise BundleError(f"{place} lies in no run, which is where its decoder would be; give its run")


def _pair_of_run(run_dir: Path, encoder: Path | None, steps: int | None) -> tuple[Path, Path, int]:
    if not (run_dir / RECIPE).is_file():
        raise ConfigError(f"{run_dir} is neither a run nor a bundle; give one of them")
    places = students_of(run_dir, recipe_of(run_dir))
    manifests = [read_manifest(place) for place in places]
    found = [
        (places[first], places[second], count)
        for first, second, count in pairs(manifests, 1)
        if first != second and (encoder is None or places[first].resolve() == encoder.resolve())
    ]
    fitting = [pair for pair in found if steps in (None, pair[2])]
    if fitting:
        return fitting[0]
    both_ways = [
        place
        for place, manifest in zip(places, manifests, strict=True)
        if manifest.steps is None and manifest.w is not None and manifest.w.allows(UNGUIDED)
    ]
    if encoder is None and steps is not None and both_ways:
        return both_ways[0], both_ways[0], steps
    if not any(manifest.direction == "encode" for manifest in manifests):
        raise ConfigError(
            f"{run_dir} has no encoder; add `encoding: {{steps: [16, 8, 4], updates: ...}}` to its "
            "recipe and run it again with --accept-changes, or give --steps, in which its stage-1 "
            "student goes both ways; or name its teacher and --steps"
        )
    counts = ", ".join(str(pair[2]) for pair in found) or "no number of steps"
    asked = "" if steps is None else f"--steps {steps}: "
    raise ConfigError(
        f"{asked}{run_dir} has an encoder and a decoder of as many steps for {counts}"
    )


def _read_told(manifest: Manifest, text: str) -> Asked:
    """A prompt, or the number of a class, as networks are asked."""
    if manifest.network.reads_text:
        if not text.strip():
            raise ConfigError("--from and --to: a prompt is empty; say what to draw")
        return (text,)
    if not text.strip().isdecimal():
        raise BundleError(
            f"--from and --to: this run's networks are told numbers of classes, not {text!r}"
        )
    return np.array([int(text)], np.int64)
