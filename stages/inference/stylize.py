"""Style transfer: encode an image under its own class or prompt, decode it under another."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.bundle import MANIFEST, Manifest, read_manifest
from pipeline.errors import BundleError, ConfigError
from pipeline.evaluation.metrics.frechet import paired_rms
from pipeline.run_dir.layout import RECIPE
from pipeline.run_dir.recipe_file import completed_students, read_recipe
from pipeline.sampling.ddim_inversion import UNGUIDED, LabelsOrPrompts, Translator
from pipeline.sampling.sampler import BundleSampler
from stages.evaluation.encoders import encoder_pairs
from stages.export.export import components_near
from stages.inference.edit import EditRequest, read_picture, write_pictures
from stages.inference.output_file import check_output


@dataclass(frozen=True)
class StyleTransferResult:
    """Measurements of a style transfer.

    Attributes:
        steps: steps in each direction.
        is_single_network: whether one network both encodes and decodes.
        evaluations: network evaluations, both directions.
        round_trip: RMS error of decoding the input under its own condition, pixels in [-1, 1].
        was_transparent: whether transparent pixels of the image were filled with white.
    """

    steps: int
    is_single_network: bool
    evaluations: int
    round_trip: float
    was_transparent: bool = False


def stylize_picture(request: EditRequest, source: str) -> StyleTransferResult:
    """Encode an image under `source`, unguided, and decode it under `request.condition`, guided.

    Both are prompts, or names or numbers of classes.

    `request.bundle` is one of: a run directory, for its encoder and decoder of `request.steps`
    steps (None: the most), or else its stage-1 student; an encoder; or a teacher or stage-1
    student, which both encode and decode in any number of steps.

    Raises:
        ConfigError: invalid number or file, or a run without encoders.
        DataError: the image cannot be read.
        BundleError: not a bundle, or one that does not support this use.
    """
    encoder, decoder, steps = find_pair(request.bundle, request.steps)
    manifest = read_manifest(decoder)
    check_output(request.output, manifest)
    source_condition, target_condition = (
        _parse_condition(manifest, source, "--from"),
        _parse_condition(manifest, str(request.condition), "--to"),
    )
    if not request.picture.is_file():
        raise ConfigError(f"{request.picture}: file not found; give an image")
    parts = request.components or components_near(decoder)
    decoder_sampler = BundleSampler(decoder, components=parts)
    encoder_sampler = (
        decoder_sampler if encoder == decoder else BundleSampler(encoder, components=parts)
    )
    translator = Translator(encoder_sampler, decoder_sampler, steps)
    translator.check(request.w)
    for each in (source_condition, target_condition):
        decoder_sampler.check_conditions(each)
    read = read_picture(request.picture, decoder_sampler)
    picture = read.pixels
    noise = translator.encode(picture, source_condition)
    back = paired_rms(translator.decode(noise, source_condition, UNGUIDED), picture)
    made = translator.decode(noise, target_condition, request.w)
    target = (
        target_condition[0] if isinstance(target_condition, tuple) else int(target_condition[0])
    )
    write_pictures(replace(request, num=1, condition=target), picture, made)
    return StyleTransferResult(
        steps, encoder == decoder, translator.evaluations(request.w), back, read.was_transparent
    )


def find_pair(place: Path, steps: int | None) -> tuple[Path, Path, int]:
    """Return the bundles of an encoder and a decoder, and their number of steps.

    Args:
        place: a run directory, an encoder, or a network without a fixed number of steps.
        steps: steps in each direction; None for the most of an encoder.

    Raises:
        BundleError: the bundle is a decoder, or its run has no decoder of that many steps.
        ConfigError: the run has no encoder, or none of that many steps and no stage-1 student that
            can encode; or `steps` is required.
    """
    if not (place / MANIFEST).is_file():
        return _pair_of_run(place, None, steps)
    manifest = read_manifest(place)
    if manifest.steps is None:
        if steps is None:
            raise ConfigError(
                "--steps: required, because this network has no fixed number of steps"
            )
        return place, place, steps
    manifest.check_use(steps or manifest.steps[0], UNGUIDED, "encode")
    for folder in place.absolute().parents:
        if (folder / RECIPE).is_file():
            return _pair_of_run(folder, place, manifest.steps[0])
    raise BundleError(
        f"{place}: no run contains this encoder, so its decoder is unknown; give a run directory"
    )


def _pair_of_run(run_dir: Path, encoder: Path | None, steps: int | None) -> tuple[Path, Path, int]:
    if not (run_dir / RECIPE).is_file():
        raise ConfigError(f"{run_dir}: neither a run directory nor a bundle; give one")
    places = completed_students(run_dir, read_recipe(run_dir))
    manifests = [read_manifest(place) for place in places]
    found = [
        (places[first], places[second], count)
        for first, second, count in encoder_pairs(manifests, 1)
        if first != second and (encoder is None or places[first].resolve() == encoder.resolve())
    ]
    matching = [pair for pair in found if steps in (None, pair[2])]
    if matching:
        return matching[0]
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
            "recipe and run it again with --accept-changes. Or give --steps to use its stage-1 "
            "student for both directions, or give its teacher's bundle and --steps"
        )
    counts = ", ".join(str(pair[2]) for pair in found) or "none"
    option = "" if steps is None else f"--steps {steps}: "
    raise ConfigError(
        f"{option}{run_dir} has no such encoder with a decoder; available steps: {counts}"
    )


def _parse_condition(manifest: Manifest, text: str, option: str) -> LabelsOrPrompts:
    """Parse a prompt or a class into the network's condition."""
    if manifest.network.reads_text:
        if not text.strip():
            raise ConfigError(f"{option}: the prompt is empty; give a prompt")
        return (text,)
    return np.array([manifest.find_class(text, option)], np.int64)
