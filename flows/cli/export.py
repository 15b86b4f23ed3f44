"""`stepfold export`: write a stock diffusers pipeline of a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import open_console
from flows.cli.exit_codes import refusals
from flows.cli.options import BundleDir, Components
from pipeline.wording import format_count, format_path


def export(
    bundle: BundleDir,
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Directory to create for the pipeline.")
    ],
    components: Components = None,
) -> None:
    """Write a stock diffusers pipeline, and check that it draws the same samples.

    Example: stepfold export runs/captions/rounds/04-2-to-1/student --to pipeline
    """
    with refusals():
        from flows.orchestration import settings

        settings.set_defaults()
        from stages.export.export import export_checked

        differences = export_checked(bundle, to, components)
        console = open_console()
        console.print(f"Pipeline  {format_path(to.absolute())}", soft_wrap=True)
        for found in differences:
            steps = format_count(found.steps, "step")
            line = f"  w = {found.w:g}, {steps}: differs by {found.value:.1e} from stepfold sample"
            console.print(line, style="quiet", soft_wrap=True)
