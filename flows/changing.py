"""The commands that change a picture: edit and inpaint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.refusals import refusals

if TYPE_CHECKING:
    from stages.edit import Done

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
def edit(  # noqa: PLR0913, PLR0917 (typer: an option is a parameter)
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
        from flows import environment
        from flows.asking import read_one

        asked = read_one(label, prompt)
        environment.settle()
        from stages.edit import Order, edit_picture

        order = Order(
            *(bundle, image, output, asked, guidance_weight, steps, num, seed, components)
        )
        _tell(edit_picture(order, strength), output, strength)


@change.command(rich_help_panel=_PANEL)
def inpaint(  # noqa: PLR0913, PLR0917 (typer: an option is a parameter)
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
        from flows import environment
        from flows.asking import read_one

        asked = read_one(None, prompt)
        environment.settle()
        from stages.edit import Order, inpaint_picture

        order = Order(
            *(bundle, image, output, asked, guidance_weight, steps, num, seed, components)
        )
        _tell(inpaint_picture(order, mask), output, 1.0)


def _tell(done: "Done", output: Path, strength: float) -> None:
    from flows.console import near, open_console

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
