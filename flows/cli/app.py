"""The command line `stepfold`: one file per command, registered here in its panel."""

from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flows.cli.approve import approve
from flows.cli.clean import clean
from flows.cli.console import refusals
from flows.cli.doctor import doctor
from flows.cli.edit import edit, inpaint, stylize
from flows.cli.evaluate import evaluate
from flows.cli.init import init, schema
from flows.cli.logs import logs
from flows.cli.notify import notify
from flows.cli.plan import plan
from flows.cli.play import play
from flows.cli.repair import repair
from flows.cli.report import compare, report
from flows.cli.run import run
from flows.cli.sample import export, sample
from flows.cli.schedule import schedule
from flows.cli.status import status
from flows.cli.ui import ui
from flows.cli.verify import verify
from flows.isolation import leave_working_directory
from pipeline.errors import ConfigError

PANELS = {
    "Start": (init, plan, run, schedule),
    "Use a student": (sample, edit, inpaint, stylize, export),
    "Inspect": (status, logs, report, compare, play, ui, approve),
    "Maintain": (evaluate, verify, repair, clean, notify, doctor, schema),
}

CREATING = (init, run)
"""Commands that create files; a refusal ends with `Nothing was created.`"""

RENAMED = {
    "page": "stepfold report",
    "accept": "stepfold approve",
    "reap": "stepfold clean --stale",
}
"""Former names of commands, and the present ones."""


class CommandGroup(TyperGroup):
    """The commands, with a refusal in place of those that were renamed."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by name, or refuse a former name.

        Exits with code 2 after naming the present command.
        """
        with refusals():
            if cmd_name in RENAMED:
                raise ConfigError(f"stepfold {cmd_name} was renamed; use {RENAMED[cmd_name]}")
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    name="stepfold",
    cls=CommandGroup,
    help="Distil a guided diffusion model into a student that samples in 1-4 steps.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(*, is_given: bool) -> None:
    if is_given:
        typer.echo(f"stepfold {version('stepfold')}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    show: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Options of the program itself."""


for _panel, _commands in PANELS.items():
    for _command in _commands:
        _refusing = refusals(creates=_command in CREATING)(_command)
        app.command(_command.__name__, rich_help_panel=_panel)(_refusing)


def main() -> None:
    """Run the console command `stepfold`."""
    leave_working_directory()
    app()


if __name__ == "__main__":
    main()
