"""The commands that change a picture: edit, inpaint and stylize."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.refusals import refusals

if TYPE_CHECKING:
    from stages.inference.edit import Done

change = typer.Typer()

_PANEL = "Look"

Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A student, or a teacher.")]
Picture = Annotated[Path, typer.Argument(metavar="IMAGE", help="A png, jpg or webp.")]
Weight = Annotated[float, typer.Option(help="w; 0 is unguided.")]
Output = Annotated[Path, typer.Option(help="A .png, or an .npz with arrays.")]
Label = Annotated[int | None, typer.Option(metavar="CLASS", help="What to draw.")]
Prompt = Annotated[str | None, typer.Option(metavar="TEXT", help="A sentence instead.")]
Steps = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Of the sampler; the student's by default.")
]
Num = Annotated[int, typer.Option(help="How many; more than one makes a row.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the noise.")]
Components = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Other parts; those of its run by default.")
]


@change.command(rich_help_panel=_PANEL)
def edit(
    bundle: Bundle,
    image: Picture,
    strength: Annotated[
        float, typer.Option(help="Above 0, up to 1: the share of the steps that is taken.")
    ],
    guidance_weight: Weight,
    output: Output,
    label: Label = None,
    prompt: Prompt = None,
    steps: Steps = None,
    num: Num = 1,
    seed: Seed = 0,
    components: Components = None,
) -> None:
    """Redraw a picture as something else: noise it to part of the way, take the rest of the steps.

    A strength between two steps takes the nearest one, and says so.
    """
    with refusals():
        from flows.cli.sample import read_one
        from flows.orchestration import settings

        asked = read_one(label, prompt)
        settings.settle()
        from stages.inference.edit import Order, edit_picture

        order = Order(
            *(bundle, image, output, asked, guidance_weight, steps, num, seed, components)
        )
        _tell(edit_picture(order, strength), output, strength)


@change.command(rich_help_panel=_PANEL)
def inpaint(
    bundle: Bundle,
    image: Picture,
    mask: Annotated[Path, typer.Argument(metavar="MASK", help="White where to paint.")],
    guidance_weight: Weight,
    output: Output,
    prompt: Prompt = None,
    steps: Steps = None,
    num: Num = 1,
    seed: Seed = 0,
    components: Components = None,
) -> None:
    """Paint into a picture where a mask is white; the rest stays as it is."""
    with refusals():
        from flows.cli.sample import read_one
        from flows.orchestration import settings

        asked = read_one(None, prompt)
        settings.settle()
        from stages.inference.edit import Order, inpaint_picture

        order = Order(
            *(bundle, image, output, asked, guidance_weight, steps, num, seed, components)
        )
        _tell(inpaint_picture(order, mask), output, 1.0)


@change.command(rich_help_panel=_PANEL)
def stylize(
    run: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="A run with encoders; or an encoder.")
    ],
    image: Picture,
    source: Annotated[str, typer.Option("--from", metavar="CLASS", help="What it is.")],
    target: Annotated[str, typer.Option("--to", metavar="CLASS", help="What it shall be.")],
    guidance_weight: Weight,
    output: Output,
    steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Each way; the encoders' most by default."),
    ] = None,
    components: Components = None,
) -> None:
    """Make a picture another class by the same hand: encode it, draw it again as that.

    Networks that read text are told prompts in place of classes.
    """
    with refusals():
        from flows.cli.console import open_console
        from flows.orchestration import settings
        from pipeline.wording import near

        settings.settle()
        from stages.inference.edit import Order
        from stages.inference.stylize import stylize_picture

        order = Order(*(run, image, output, target, guidance_weight, steps, 1, 0, components))
        done = stylize_picture(order, source)
        who = " of one network, which goes both ways" if done.is_one else ""
        open_console().print(
            f"{done.steps} + {done.steps} steps{who}, {done.evaluations} evaluations; "
            f"drawn again as it was it is {done.round_trip:.3f} from itself (RMS, pixels in "
            f"[-1, 1]): {near(output.absolute())}",
            soft_wrap=True,
        )


def _tell(done: "Done", output: Path, strength: float) -> None:
    from flows.cli.console import open_console
    from pipeline.wording import near

    console = open_console()
    if not done.is_exact:
        console.print(
            f"A strength of {strength:g} falls on no step of {done.steps}; "
            f"{done.taken / done.steps:g} is the nearest.",
            style="careful",
        )
    console.print(
        f"{done.taken} of {done.steps} steps taken: {near(output.absolute())}", soft_wrap=True
    )
