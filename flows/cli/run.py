"""`stepfold run`: run or resume a recipe, and print its results.

Heavy packages are imported inside functions: `stepfold --help` imports this file.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from flows.cli.console import (
    DONE,
    INTERRUPTED,
    exclusive_terminal,
    exit_code_of,
    failure,
    interruption,
)
from flows.cli.options import ComputeProfile, NewRunDir, Overrides, RecipeFile
from flows.orchestration import settings
from pipeline.errors import StepfoldError
from pipeline.wording import format_count, format_duration, format_path

if TYPE_CHECKING:
    from flows.cli.request import Request

_log = logging.getLogger(__name__)

_PREFECT_LOST = -1  # in place of an exit code


def run(
    recipe: RecipeFile,
    profile: ComputeProfile = None,
    run_dir: NewRunDir = None,
    overrides: Overrides = None,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            help="Resume with a changed recipe or precision; what is computed again is listed.",
        ),
    ] = False,
    teacher_only: Annotated[
        bool, typer.Option("--teacher-only", help="Stop after the teacher is trained.")
    ] = False,
    discard_checkpoints: Annotated[
        bool,
        typer.Option(
            "--discard-checkpoints",
            help="Discard checkpoints saved with another number of workers or ZeRO stage.",
        ),
    ] = False,
) -> None:
    """Run a recipe, or resume it where it stopped.

    Example: stepfold run my-model.yaml --profile gpu.yaml --set compute.workers=4

    Exit codes: 0 finished, 1 failed, 2 refused, 130 interrupted.
    """
    from flows.cli.request import read_request

    request = read_request(recipe, profile, run_dir, overrides or [])
    code = execute(
        request,
        accept_changes=accept_changes,
        teacher_only=teacher_only,
        discard_checkpoints=discard_checkpoints,
    )
    raise typer.Exit(code)


def execute(
    request: "Request",
    *,
    accept_changes: bool,
    teacher_only: bool,
    discard_checkpoints: bool = False,
) -> int:
    """Run or resume a chain in its run directory; returns the exit code.

    Args:
        request: recipe, profile and run directory.
        accept_changes: resume with a recipe or precision that differs from the directory's.
        teacher_only: stop after the teacher.
        discard_checkpoints: first remove checkpoints that the profile cannot resume.

    Raises:
        StepfoldError: one of `REFUSALS`, before anything was created.
    """
    from flows import preflight
    from flows.orchestration.server import restart_driver
    from infra.process.environment import set_private_umask
    from pipeline.ledger import lock_run_dir
    from pipeline.run_dir.recipe_file import prepare_run_dir, record_profile
    from stages.plan.changes import describe, recomputed_stages

    preflight.check(request.recipe, request.profile, request.run_dir, accept_changes=accept_changes)
    set_private_umask()
    with lock_run_dir(request.run_dir):
        replaced = recomputed_stages(request.recipe, request.profile, request.run_dir)
        prepare_run_dir(request.recipe, request.run_dir, accept_changes=accept_changes)
        record_profile(request.profile, request.run_dir)
        if discard_checkpoints:
            from stages.rounds.train import discard_other_layouts

            discard_other_layouts(request.run_dir, request.profile)
    settings.set_defaults()
    if teacher_only:
        request = replace(request, command=f"{request.command} --teacher-only")
    with exclusive_terminal(_log_of(request.run_dir)) as console:
        _print_header(console, request)
        if replaced:
            console.print(Text(f"{describe(replaced)}\n", style="careful"), soft_wrap=True)
        code = _run_with_progress(console, request, teacher_only=teacher_only)
        # Prefect logs a line at exit, which would follow the summary
        logging.getLogger("prefect").setLevel(logging.WARNING)
        if code == DONE:
            _print_pending_updates(console, request)
            show_summary(console, request.run_dir, _links(request))
    if code == _PREFECT_LOST:
        restart_driver(request.command)
    return code


def _run_with_progress(console: Console, request: "Request", *, teacher_only: bool) -> int:
    from flows.cli.progress import show_progress
    from flows.orchestration.server import is_server_lost
    from pipeline.run_dir.events import Events

    events = Events(request.run_dir)
    log = _log_of(request.run_dir)
    with show_progress(request.run_dir, request.recipe, console) as follower:
        end = _run_flow(request, teacher_only=teacher_only)
    stage = follower.stage
    where = stage.title if stage else ""
    at = {"stage": stage.id, "title": stage.title} if stage else {}
    if end is None:
        events.emit("run_done")
        return DONE
    if not isinstance(end, Exception):
        events.emit("run_interrupted", **at)
        between = "between two stages" if follower.has_begun else "in preparation"
        place = f"in {where}" if where else between
        console.print(interruption(place, log, request.command), soft_wrap=True)
        return INTERRUPTED
    if not isinstance(end, StepfoldError) and is_server_lost(end):
        text = "The Prefect server is unreachable; restarting with a temporary local server.\n"
        console.print(Text(text, style="careful"))
        return _PREFECT_LOST
    reason = _reason(end)
    events.emit("run_failed", **at, message=reason)
    console.print(failure(where, reason, log, request.command), soft_wrap=True)
    return exit_code_of(end)


def _run_flow(request: "Request", *, teacher_only: bool) -> BaseException | None:
    """Run the flow; returns the exception that ended it, or None."""
    from flows.orchestration.cleanup import tag_child_processes
    from flows.orchestration.server import start_temporary_server, use_server
    from flows.orchestration.settings import tag_flow_runs
    from infra.process.environment import interruptible
    from pipeline.identity import identify

    tag_child_processes(request.run_dir)
    try:
        with interruptible():
            server = start_temporary_server()
            if teacher_only:
                from flows.full_distillation import train_teacher as flow
            else:
                from flows.full_distillation import full_distillation as flow
            if server is not None:
                server.wait(_log_of(request.run_dir))
            # by this tag `stepfold clean --stale` finds out whether the driver is alive
            with use_server(server), tag_flow_runs(identify().tag):
                flow(request.recipe, request.profile, run_dir=str(request.run_dir))
    except (KeyboardInterrupt, SystemExit) as end:
        return end
    except Exception as error:
        _log.exception("the run failed")
        return error
    except BaseException as end:  # Prefect's own exceptions of cancelled and terminated runs
        _log.warning("the run was stopped: %r", end)
        return end
    return None


def _reason(error: Exception) -> str:
    from pipeline.redaction import redact

    if isinstance(error, StepfoldError):
        return str(error)
    lines = str(error).strip().splitlines()
    return redact(f"{type(error).__name__}: {lines[0] if lines else 'no message'}")


def _print_header(console: Console, request: "Request") -> None:
    from infra.tracking import has_pages

    steps = " → ".join(str(count) for count in request.recipe.step_counts)
    workers = format_count(request.profile.compute.workers, "worker")
    text = Text(request.recipe.run.name, style="name")
    text.append(f"  {steps} steps, {workers}", style="default")
    text.append(f"  in {format_path(request.run_dir)}\n", style="quiet")
    watch = "ui" if has_pages(request.profile.tracking) else "logs --follow"
    place = format_path(request.run_dir)
    text.append(f"Watch it: stepfold {watch} --run-dir {place}\n", style="quiet")
    console.print(text, soft_wrap=True)


def _print_pending_updates(console: Console, request: "Request") -> None:
    from flows.tracking.outbox import Outbox

    pending = Outbox(request.run_dir).pending()
    if pending:
        text = Text("The tracker was unreachable; not logged: ", style="careful")
        text.append(f"{', '.join(pending)}. Run the command again to retry:\n")
        console.print(text.append(request.command, style="default"), soft_wrap=True)


def _log_of(run_dir: Path) -> Path:
    from pipeline.run_dir.layout import RunDir

    return RunDir(run_dir).run_log


def _links(request: "Request") -> dict[str, str]:
    """Return commands and addresses that show more of the results."""
    from infra.tracking import charts_url
    from pipeline.run_dir.layout import student_of
    from pipeline.training.plan import plan_decoders
    from stages.report.usage import sample_command

    place = format_path(request.run_dir)
    last = plan_decoders(request.recipe)[-1]
    steps, w = last.student_steps or 1, request.recipe.w.middle
    tracking = request.profile.tracking
    links = {"Samples": sample_command(request.recipe, f"{place}/{student_of(last)}", steps, w)}
    if page := charts_url(tracking, request.run_dir):
        links = {"History": f"stepfold ui --run-dir {place}", tracking.title: page, **links}
    return links


_WORTH_A_LINE = 1.0  # seconds

_DISTANCES = "to real, to teacher: Frechet distances in features of a classifier; not FID.\n"

_NUMBERS = "evals: network evaluations per sample; RMS: distance to the teacher, same noise.\n"


def show_summary(
    console: Console, run_dir: Path, links: dict[str, str], report: str | None = None
) -> None:
    """Print the results of a finished run.

    Args:
        console: the terminal.
        run_dir: the run directory.
        links: more places to print, by name.
        report: folder of the report; None for the run's own.
    """
    from pipeline.run_dir.layout import RunDir

    folder = run_dir / report if report else RunDir(run_dir).report
    console.print()
    for part in [*_results(folder), *_times(run_dir)]:
        console.print(part)
    console.print(_places(run_dir, folder, links), soft_wrap=True)


def _results(folder: Path) -> Iterator[RenderableType]:
    from pipeline.evaluation.documents import Report, read_report
    from pipeline.evaluation.reports.comparisons import brief_table
    from pipeline.evaluation.reports.report_summary import ReportView

    try:
        report = read_report(folder)
    except (FileNotFoundError, ValueError):
        return
    content, judgement = brief_table(report), ReportView(report).judgement
    table = _table(content.title, *content.heads[1:])
    for row in content.rows:
        table.add_row(*row)
    yield table
    yield Text(f"{_DISTANCES if isinstance(report, Report) else ''}{_NUMBERS}", style="quiet")
    for sentence in judgement.sentences:
        yield Text(sentence)
    for line in judgement.failures:
        yield Text(f"  {line}", style="careful")
    yield Text("")


def _times(run_dir: Path) -> Iterator[RenderableType]:
    from pipeline.run_dir.layout import TIMING, RunDir

    timing = _read(RunDir(run_dir).report / TIMING)
    if not timing.get("stages"):
        return
    table = _table("Duration of the stages", "time")
    short = 0.0
    for stage in timing["stages"]:
        if stage["seconds"] < _WORTH_A_LINE:
            short += stage["seconds"]
        else:
            table.add_row(stage["title"], format_duration(stage["seconds"]))
    table.add_row(f"stages under {_WORTH_A_LINE:.0f} s", format_duration(short))
    table.add_row("total", format_duration(timing["total_seconds"]), style="name")
    yield table
    yield Text("")


def _places(run_dir: Path, report: Path, links: dict[str, str]) -> Text:
    """Return one line per path or address, never truncated, so that it can be copied."""
    from pipeline.run_dir import layout

    files = {
        "Page": report / layout.REPORT_PAGE,
        "Report": report / layout.REPORT_MARKDOWN,
        "Numbers": report / layout.REPORT_JSON,
        "Students": run_dir / layout.ROUNDS,
        "Pipelines": run_dir / layout.PIPELINES,
        "Log": layout.RunDir(run_dir).run_log,
    }
    found = {name: format_path(path) for name, path in files.items() if path.exists()}
    lines = [
        Text(f"{name:<9} ", style="name").append(text, style="default")
        for name, text in {**found, **links}.items()
    ]
    return Text("\n").join(lines)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="name", box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", header_style="quiet", no_wrap=True)
    return table


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
