"""The command line. Thin on purpose: every command imports what it needs when it is called."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli.beginning import begin
from flows.cli.changing import change
from flows.cli.keeping import keep
from flows.cli.looking import look
from flows.cli.notify import notifying
from flows.cli.refusals import refusals

app = typer.Typer(
    name="stepfold",
    help="Distil a guided diffusion model into one that draws in 1-4 steps.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_RUN, _LOOK, _SERVE, _KEEP = "Run", "Look", "Serve", "Maintain"

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="What to run (YAML).")]
ProfilePath = Annotated[
    Path | None,
    typer.Option("--profile", "-p", metavar="FILE", help="Where to run it; laptop by default."),
]
RunDir = Annotated[
    Path | None,
    typer.Option("--run-dir", "-d", metavar="DIR", help="Its directory; runs/NAME by default."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="A.B=C", help="Change a value; may be repeated."),
]
OldRun = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A run directory.")]


@app.command(rich_help_panel=_RUN)
def run(
    recipe: RecipePath,
    profile: ProfilePath = None,
    run_dir: RunDir = None,
    overrides: Overrides = None,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Go on with a recipe that changed.")
    ] = False,
    teacher_only: Annotated[
        bool, typer.Option("--teacher-only", help="Stop when the teacher is there.")
    ] = False,
    discard_checkpoints: Annotated[
        bool,
        typer.Option("--discard-checkpoints", help="Drop those of other workers or ZeRO stages."),
    ] = False,
) -> None:
    """Run a recipe to its end, from wherever it stopped.

    Exit codes: 0 done, 1 failed, 2 refused, 130 interrupted.
    """
    with refusals(creates=True):
        from flows.cli.request import read_request
        from flows.cli.run import execute

        request = read_request(recipe, profile, run_dir, overrides or [])
        code = execute(
            request,
            accept_changes=accept_changes,
            teacher_only=teacher_only,
            discard_checkpoints=discard_checkpoints,
        )
    raise typer.Exit(code)


@app.command(rich_help_panel=_RUN)
def plan(
    recipe: RecipePath,
    profile: ProfilePath = None,
    run_dir: RunDir = None,
    overrides: Overrides = None,
) -> None:
    """Show what a run would do, what is done already, what it costs and what memory it needs."""
    with refusals():
        from flows.cli.plan import show_plan
        from flows.cli.request import read_request

        show_plan(read_request(recipe, profile, run_dir, overrides or []))


@app.command(rich_help_panel=_LOOK)
def sample(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A teacher or a student.")],
    steps: Annotated[int, typer.Option(help="Sampling steps.")],
    guidance_weight: Annotated[
        float, typer.Option(help="w; 0 is unguided, diffusers' guidance_scale is 1 + w.")
    ],
    output: Annotated[Path, typer.Option(help="An .npz with arrays, or a .png with a grid.")],
    num: Annotated[int, typer.Option(help="How many, classes balanced.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise; the same for any bundle.")] = 0,
    labels: Annotated[
        str | None, typer.Option(metavar="3,3,8", help="Exactly these classes instead.")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A sentence instead; repeatable.")
    ] = None,
    components: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Other parts; those of its run by default.")
    ] = None,
    sampler: Annotated[
        Literal["ddim", "stochastic", "dpm++", "unipc"] | None,
        typer.Option(help="The bundle's own by default; dpm++ and unipc are for teachers."),
    ] = None,
) -> None:
    """Draw samples of a bundle into a file."""
    with refusals():
        from flows.cli.console import open_console
        from flows.cli.sample import read_asked
        from flows.orchestration import settings
        from pipeline.wording import near

        settings.settle()
        from stages.inference.sample import sample_bundle

        count = sample_bundle(
            bundle,
            output,
            steps=steps,
            w=guidance_weight,
            seed=seed,
            asked=read_asked(num, labels, prompt),
            sampler=sampler,
            components=components,
        )
        open_console().print(f"{count} samples in {near(output.absolute())}", soft_wrap=True)


@app.command(rich_help_panel=_RUN)
def export(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A teacher or a student.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="A new directory.")],
    components: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Other parts; those of its run by default.")
    ] = None,
) -> None:
    """Write a stock diffusers pipeline, checked to draw what our sampler draws."""
    with refusals():
        from flows.cli.console import open_console
        from flows.orchestration import settings
        from pipeline.wording import near

        settings.settle()
        from stages.export.export import export_checked

        differences = export_checked(bundle, to, components)
        console = open_console()
        console.print(f"A stock pipeline in {near(to.absolute())}", soft_wrap=True)
        for found in differences:
            said = f"w = {found.w:g} in {found.steps} step(s): {found.value:.1e} from our sampler"
            console.print(f"  {said}", style="quiet", soft_wrap=True)


@app.command(rich_help_panel=_RUN)
def evaluate(
    run_dir: OldRun,
    profile: ProfilePath = None,
    num_samples: Annotated[
        int | None,
        typer.Option(
            "--num-samples", "-n", min=2, help="So many, into report-N; the recipe's by default."
        ),
    ] = None,
) -> None:
    """Measure and draw the report of a run again."""
    with refusals():
        from flows.cli.evaluate import evaluate_again

        evaluate_again(run_dir, profile, num_samples)


@app.command(rich_help_panel=_SERVE)
def schedule(
    recipe: RecipePath,
    cron: Annotated[str, typer.Option(metavar="'0 2 * * *'", help="When, as cron says it.")],
    profile: ProfilePath = None,
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where runs go; the profile's by default.")
    ] = None,
    overrides: Overrides = None,
    timezone: Annotated[str, typer.Option(help="Of the cron expression.")] = "UTC",
    port: Annotated[int, typer.Option(help="For a Prefect server started here.")] = 4200,
) -> None:
    """Run a recipe by the clock until stopped: resume what is unfinished, else begin anew."""
    with refusals():
        from flows.cli.request import read_request
        from flows.cli.schedule import run_schedule

        request = read_request(recipe, profile, None, overrides or [])
        place = (root or Path(request.profile.storage.root)).absolute()
        run_schedule(request, place, cron=cron, timezone=timezone, port=port)


@app.command(rich_help_panel=_LOOK)
def ui(
    run_dir: Annotated[
        Path | None,
        typer.Option("--run-dir", "-d", metavar="DIR", help="A run; those of the profile else."),
    ] = None,
    profile: ProfilePath = None,
    port: Annotated[int, typer.Option(help="On 127.0.0.1.")] = 5000,
) -> None:
    """Open the history of all runs: MLflow, on this machine only."""
    with refusals():
        from flows.cli.ui import serve_ui

        serve_ui(run_dir, profile, port)


@app.command(rich_help_panel=_KEEP)
def clean(
    run_dir: OldRun,
    everything: Annotated[bool, typer.Option("--all", help="The whole run.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove debris, and targets and checkpoints of rounds that are done."""
    with refusals():
        from flows.cli import clean as cleaning
        from flows.cli.clean import clean_table
        from flows.cli.console import open_console
        from pipeline.run_dir.run_status import require_run

        place = require_run(run_dir, Path("runs"))
        if everything and not yes:
            typer.confirm(f"Remove {place} with its students and its report?", abort=True)
        removed = [cleaning.clean_all(place)] if everything else cleaning.clean(place)
        open_console().print(clean_table(removed), soft_wrap=True)


@app.command(rich_help_panel=_KEEP)
def doctor() -> None:
    """Look whether this machine is ready; exits 1 if something is broken."""
    from flows.cli.console import open_console
    from flows.cli.doctor import doctor_table, examine

    console = open_console()
    with console.status("Looking around ..."):
        findings = list(examine(Path("runs").absolute(), {"prefect ui": 4200, "mlflow ui": 5000}))
    console.print(doctor_table(findings))
    raise typer.Exit(1 if any(finding.verdict == "bad" for finding in findings) else 0)


app.add_typer(begin)
app.add_typer(change)
app.add_typer(look)
app.add_typer(keep)
app.add_typer(notifying)


def main() -> None:
    """The console command `stepfold`."""
    app()


if __name__ == "__main__":
    main()
