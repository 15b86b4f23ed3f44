"""`stepfold sample` and `stepfold export`: sample a bundle, or write its stock pipeline."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import open_console
from flows.cli.options import BundleDir, Components, GuidanceWeight, Seed
from flows.orchestration import settings
from pipeline.errors import ConfigError
from pipeline.wording import format_count, format_path


def sample(
    bundle: BundleDir,
    steps: Annotated[int, typer.Option(help="Number of sampling steps.")],
    guidance_weight: GuidanceWeight,
    output: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Output file: .npz for arrays, .png for a grid."),
    ],
    num: Annotated[int, typer.Option(help="Number of samples, balanced over classes.")] = 1000,
    seed: Seed = 0,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="3,3,8",
            help="Name or number of the class of each sample, instead of balanced classes. Names "
            "with a comma are given in double quotes.",
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Prompt of one sample. Repeatable."),
    ] = None,
    components: Components = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="Sampling algorithm: ddim or stochastic, or for teachers dpm++, unipc or that of "
            "another package. Default: the one the bundle is made for."
        ),
    ] = None,
) -> None:
    """Draw samples with a teacher or a student, and write them to a file.

    Example: stepfold sample runs/digits/rounds/04-2-to-1/student --steps 1 --guidance-weight 2
    --num 100 --output samples.png
    """
    settings.set_defaults()
    from stages.inference.sample import sample_bundle

    count = sample_bundle(
        bundle,
        output,
        steps=steps,
        w=guidance_weight,
        seed=seed,
        samples=read_conditions(bundle, num, labels, prompt),
        sampler=sampler,
        components=components,
    )
    print_cut(bundle, components, prompt or ())
    place = format_path(output.absolute())
    open_console().print(f"{format_count(count, 'sample')} in {place}", soft_wrap=True)


def export(
    bundle: BundleDir,
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Directory to create for the pipeline.")
    ],
    components: Components = None,
) -> None:
    """Write a stock diffusers pipeline, and check that it generates the same samples.

    A class-conditional student on pixels is written as a network with a sampling script.

    Example: stepfold export runs/captions/rounds/04-2-to-1/student --to pipeline
    """
    settings.set_defaults()
    from stages.export.export import export_checked

    differences = export_checked(bundle, to, components)
    console = open_console()
    console.print(f"Pipeline  {format_path(to.absolute())}", soft_wrap=True)
    for found in differences:
        steps = format_count(found.steps, "step")
        line = f"  w = {found.w:g}, {steps}: differs by {found.value:.1e} from stepfold sample"
        console.print(line, style="quiet", soft_wrap=True)


def print_cut(bundle: Path, components: Path | None, prompts: Sequence[str]) -> None:
    """Print a line if the text encoder of a bundle cuts one of the prompts."""
    from stages.inference.sample import cut_prompts_note

    note = cut_prompts_note(bundle, components, prompts) if prompts else None
    if note:
        open_console().print(note, style="careful", soft_wrap=True, markup=False, highlight=False)


def read_conditions(
    bundle: Path, num: int, labels: str | None, prompts: Sequence[str] | None
) -> int | tuple[int, ...] | tuple[str, ...]:
    """Return the conditions to sample: prompts or classes if given, else the number of samples.

    Raises:
        ConfigError: both classes and prompts, an unknown class, or an empty prompt.
        BundleError: classes are given, and `bundle` is not a bundle or has none.
    """
    if labels is not None and prompts:
        raise ConfigError("--labels and --prompt cannot be combined; use one of them")
    if prompts:
        if not all(prompt.strip() for prompt in prompts):
            raise ConfigError("--prompt: empty prompt; describe the image to generate")
        return tuple(prompts)
    if labels is None:
        return num
    from pipeline.bundle import read_manifest

    manifest = read_manifest(bundle)
    (parts,) = csv.reader([labels], skipinitialspace=True)
    return tuple(manifest.find_class(part, "--labels") for part in parts)


def read_condition(bundle: Path, label: str | None, prompt: str | None) -> int | str:
    """Return the one class or prompt to generate.

    Raises:
        ConfigError: none of them, both, an unknown class, or an empty prompt.
        BundleError: a class is given, and `bundle` is not a bundle or has none.
    """
    if (label is None) == (prompt is None):
        raise ConfigError("--label and --prompt: give exactly one of them, a class or a prompt")
    if label is not None:
        from pipeline.bundle import read_manifest

        return read_manifest(bundle).find_class(label, "--label")
    prompt = prompt or ""
    if not prompt.strip():
        raise ConfigError("--prompt: empty prompt; describe the image to generate")
    return prompt
