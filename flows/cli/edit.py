"""`stepfold edit`, `stepfold inpaint`, `stepfold stylize`: change an image with a student."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.console import open_console
from flows.cli.options import (
    BundleDir,
    ClassLabel,
    Components,
    GuidanceWeight,
    InputImage,
    NumImages,
    OutputImage,
    Prompt,
    Seed,
    Steps,
)
from flows.cli.sample import print_cut, read_condition
from flows.orchestration import settings
from pipeline.wording import format_path

if TYPE_CHECKING:
    from stages.inference.edit import EditResult


def edit(
    bundle: BundleDir,
    image: InputImage,
    strength: Annotated[
        float,
        typer.Option(
            help="Fraction of the sampling steps to take, above 0 and at most 1; at 1 nothing of "
            "the image is kept."
        ),
    ],
    guidance_weight: GuidanceWeight,
    output: OutputImage,
    label: ClassLabel = None,
    prompt: Prompt = None,
    steps: Steps = None,
    num: NumImages = 1,
    seed: Seed = 0,
    components: Components = None,
) -> None:
    """Redraw an image as another class or prompt: noise it part of the way, then denoise it.

    The strength is rounded to a whole number of steps, with a note if it changes.

    Example: stepfold edit runs/digits/rounds/00-guidance/student three.png --label 8
    --strength 0.5 --guidance-weight 2 --output eight.png
    """
    condition = read_condition(bundle, label, prompt)
    settings.set_defaults()
    from stages.inference.edit import EditRequest, edit_picture

    request = EditRequest(
        bundle, image, output, condition, guidance_weight, steps, num, seed, components
    )
    result = edit_picture(request, strength)
    _print_filled(image, was_filled=result.was_transparent)
    print_cut(bundle, components, [prompt] if prompt else [])
    _print_result(result, output, strength)


def inpaint(
    bundle: BundleDir,
    image: InputImage,
    mask: Annotated[
        Path, typer.Argument(metavar="MASK", help="Mask image: white pixels are redrawn.")
    ],
    guidance_weight: GuidanceWeight,
    output: OutputImage,
    prompt: Prompt = None,
    steps: Steps = None,
    num: NumImages = 1,
    seed: Seed = 0,
    components: Components = None,
) -> None:
    """Redraw the masked part of an image with an inpainting network; the rest is kept."""
    condition = read_condition(bundle, None, prompt)
    settings.set_defaults()
    from stages.inference.edit import EditRequest, inpaint_picture

    request = EditRequest(
        bundle, image, output, condition, guidance_weight, steps, num, seed, components
    )
    result = inpaint_picture(request, mask)
    _print_filled(image, was_filled=result.was_transparent)
    print_cut(bundle, components, [prompt] if prompt else [])
    _print_result(result, output, 1.0)


def stylize(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR",
            help="Run directory with encoders; or the bundle of an encoder, a teacher or a "
            "stage-1 student.",
        ),
    ],
    image: InputImage,
    source: Annotated[
        str,
        typer.Option(
            "--from", metavar="CLASS", help="Class name, number or prompt of the input image."
        ),
    ],
    target: Annotated[
        str,
        typer.Option(
            "--to", metavar="CLASS", help="Class name, number or prompt of the output image."
        ),
    ],
    guidance_weight: GuidanceWeight,
    output: OutputImage,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of steps of the encoder, and of the decoder. Default: the largest "
            "number for which the run has an encoder.",
        ),
    ] = None,
    components: Components = None,
) -> None:
    """Translate an image to another class in the same style: encode it to noise, then decode.

    Example: stepfold stylize runs/stylize three.png --from 3 --to 8 --guidance-weight 2
    --output eight.png
    """
    settings.set_defaults()
    from stages.inference.edit import EditRequest
    from stages.inference.stylize import stylize_picture

    request = EditRequest(run, image, output, target, guidance_weight, steps, components=components)
    result = stylize_picture(request, source)
    _print_filled(image, was_filled=result.was_transparent)
    print_cut(run, components, [source, target])
    network = " with one network for both directions" if result.is_single_network else ""
    open_console().print(
        f"{result.steps} + {result.steps} steps{network}, {result.evaluations} evaluations; "
        f"RMS error of decoding the input as its own class {result.round_trip:.3f} (pixels "
        f"in [-1, 1]): {format_path(output.absolute())}",
        soft_wrap=True,
    )


def _print_filled(image: Path, *, was_filled: bool) -> None:
    if was_filled:
        text = f"{format_path(image)} has transparent pixels, which are filled with white."
        open_console().print(text, style="careful", soft_wrap=True)


def _print_result(result: "EditResult", output: Path, strength: float) -> None:
    console = open_console()
    if not result.is_exact:
        console.print(
            f"Strength {strength:g} is not a whole number of {result.steps} steps; used "
            f"{result.taken / result.steps:g}.",
            style="careful",
        )
    place = format_path(output.absolute())
    console.print(f"{result.taken} of {result.steps} steps taken: {place}", soft_wrap=True)
