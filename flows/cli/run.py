"""What a finished run says: the result in short, where the time went, where everything is."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from flows import preflight
from flows.cli.console import failure, interruption, own_terminal
from flows.cli.progress import shown
from flows.cli.request import Request
from flows.orchestration import settings
from flows.orchestration.cleanup import sign_children
from flows.orchestration.reconnect import is_lost, start_again
from flows.tracking.mlflow_links import history_page
from flows.tracking.outbox import Owed
from infra.process.environment import keep_private
from infra.process.signals import interruptible
from pipeline.errors import BundleError, BusyError, ConfigError, DataError, StepfoldError
from pipeline.identity import identify
from pipeline.ledger import hold
from pipeline.redaction import redact
from pipeline.run_dir.events import Events
from pipeline.run_dir.recipe_file import prepare
from pipeline.training.plan import plan_decoders
from pipeline.wording import duration, near
from stages.report.usage import drawing
from stages.rounds.train import discard_other_layouts

_WORTH_A_LINE = 1.0  # seconds

_COLUMNS = {
    "to real": "distance_to_real",
    "to teacher": "distance_to_teacher",
    "accuracy": "class_accuracy",
    "RMS": "rms_to_teacher",
}


_DISTANCES = "Frechet distances in the features of a small classifier of this data; not FID.\n"

_NUMBERS = "evals: network evaluations a sample; RMS: to the teacher's sample of the same noise.\n"


def show_summary(
    console: Console, run_dir: Path, links: dict[str, str], report: str = "report"
) -> None:
    """Print the end of a run.

    Args:
        console: where to.
        run_dir: the finished run.
        links: more places worth knowing, by name.
        report: the folder of the report to show.
    """
    console.print()
    for part in [*_results(run_dir / report), *_times(run_dir)]:
        console.print(part)
    console.print(_places(run_dir, report, links), soft_wrap=True)


def _results(folder: Path) -> Iterator[RenderableType]:
    from pipeline.evaluation.documents import Cell

    report = _read(folder / "report.json")
    rows = report.get("rows", [])
    if not rows:
        return
    weights = list(dict.fromkeys(row["cell"]["w"] for row in rows))
    # the largest weight but one: guided, and short of the end of the students' range
    w = weights[-2] if len(weights) > 1 else weights[-1]
    table = _table(f"Samples at w = {w:g}", "evals", *_COLUMNS)
    for row in rows:
        if row["cell"]["w"] == w:
            numbers = [_number(row["scores"].get(key)) for key in _COLUMNS.values()]
            cell = Cell.model_validate(row["cell"])
            title = f"{cell.title}, other noise" if cell.role == "yardstick" else cell.title
            table.add_row(title, str(row.get("evaluations", "")), *numbers)
    yield table
    has_distances = any("distance_to_real" in row["scores"] for row in rows)
    yield Text(f"{_DISTANCES if has_distances else ''}{_NUMBERS}", style="quiet")
    yield _faithful(report.get("verdicts", []))


def _faithful(told: list[dict[str, Any]]) -> Text:
    """Which students fail which checks, in a line each, and whether the controls are caught."""
    from pipeline.evaluation.verdicts.checks import Verdict, why_void

    verdicts = [Verdict.model_validate(verdict) for verdict in told]
    students = [verdict for verdict in verdicts if verdict.judged == "student"]
    controls = [verdict for verdict in verdicts if verdict.judged != "student"]
    if not students:
        return Text("")
    if void := why_void(verdicts):
        return Text(f"{void}\n", style="careful")
    failing = [verdict for verdict in students if not verdict.passed]
    caught = sum(not verdict.passed for verdict in controls)
    text = Text(f"Faithful to the teacher: {len(students) - len(failing)} of {len(students)} ")
    text.append(f"students' rows pass every check; {caught} of {len(controls)} bad controls caught")
    for verdict in failing:
        missed = [f"{each.name} {each.value:.3g}" for each in verdict.checks if not each.passed]
        text.append(f"\n  w = {verdict.w:g}, {verdict.title}: {', '.join(missed)}", style="careful")
    return text.append("\n")


def _times(run_dir: Path) -> Iterator[RenderableType]:
    timing = _read(run_dir / "report" / "timing.json")
    if not timing.get("stages"):
        return
    table = _table("Where the time went", "time")
    short = 0.0
    for stage in timing["stages"]:
        if stage["seconds"] < _WORTH_A_LINE:
            short += stage["seconds"]
        else:
            table.add_row(stage["label"], duration(stage["seconds"]))
    table.add_row(f"all that took less than {_WORTH_A_LINE:.0f} s", duration(short))
    table.add_row("in all", duration(timing["total_seconds"]), style="name")
    yield table
    yield Text("")


def _places(run_dir: Path, report: str, links: dict[str, str]) -> Text:
    """One line each, never cut: they are there to be copied."""
    files = {
        "Page": run_dir / report / "index.html",
        "Report": run_dir / report / "report.md",
        "Numbers": run_dir / report / "report.json",
        "Students": run_dir / "rounds",
        "Pipelines": run_dir / "pipelines",
        "Log": run_dir / "logs" / "run.log",
    }
    said = {name: near(path) for name, path in files.items() if path.exists()}
    lines = [
        Text(f"{name:<10}", style="name").append(text, style="default")
        for name, text in {**said, **links}.items()
    ]
    return Text("\n").join(lines)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="name", box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", header_style="quiet", no_wrap=True)
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


REFUSALS = (ConfigError, DataError, BundleError, BusyError)

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130

_PREFECT_LOST = -1

_log = logging.getLogger(__name__)


def execute(
    request: Request,
    *,
    accept_changes: bool,
    teacher_only: bool,
    discard_checkpoints: bool = False,
) -> int:
    """Run a chain to its end, from wherever its directory stands; returns the exit code.

    Args:
        request: what was asked for.
        accept_changes: go on with a recipe that differs from the one the directory holds.
        teacher_only: stop when the teacher is there.
        discard_checkpoints: first drop those that the profile cannot continue.

    Raises:
        StepfoldError: one of `REFUSALS`, before anything was created.
    """
    preflight.check(request.recipe, request.profile, request.run_dir, accept_changes=accept_changes)
    keep_private()
    with hold(request.run_dir):
        prepare(request.recipe, request.run_dir, accept_changes=accept_changes)
        if discard_checkpoints:
            discard_other_layouts(request.run_dir, request.profile)
    settings.settle()
    if teacher_only:
        request = replace(request, command=f"{request.command} --teacher-only")
    with own_terminal(_log_of(request.run_dir)) as console:
        _greet(console, request)
        code = _watched(console, request, teacher_only=teacher_only)
        # its farewell at exit would be the last line on the terminal
        logging.getLogger("prefect").setLevel(logging.WARNING)
        if code == DONE:
            _say_what_is_owed(console, request)
            show_summary(console, request.run_dir, _links(request))
    if code == _PREFECT_LOST:
        start_again(request.command)
    return code


def _watched(console: Console, request: Request, *, teacher_only: bool) -> int:
    events = Events(request.run_dir)
    log = _log_of(request.run_dir)
    with shown(request.run_dir, request.recipe, console) as follower:
        outcome = _outcome(request, teacher_only=teacher_only)
    where = follower.stage.label if follower.stage else ""
    if outcome is None:
        events.emit("run_done")
        return DONE
    if not isinstance(outcome, Exception):
        events.emit("run_interrupted", label=where)
        console.print(interruption(where, log, request.command), soft_wrap=True)
        return INTERRUPTED
    if not isinstance(outcome, StepfoldError) and is_lost(outcome):
        text = "Prefect no longer answers; going on with a server of this run's own\n"
        console.print(Text(text, style="careful"))
        return _PREFECT_LOST
    what = _in_words(outcome)
    events.emit("run_failed", label=where, message=what)
    console.print(failure(where, what, log, request.command), soft_wrap=True)
    return REFUSED if isinstance(outcome, REFUSALS) else FAILED


def _outcome(request: Request, *, teacher_only: bool) -> BaseException | None:
    """Run the flow; what ended it early, or None."""
    sign_children()
    try:
        from prefect import tags

        if teacher_only:
            from flows.full_distillation import train_teacher as flow
        else:
            from flows.full_distillation import full_distillation as flow
        # by the tag a later `stepfold reap` knows whether we live
        with interruptible(), tags(identify().tag):
            flow(request.recipe, request.profile, run_dir=str(request.run_dir))
    except (KeyboardInterrupt, SystemExit) as end:
        return end
    except Exception as error:
        _log.exception("the run failed")
        return error
    except BaseException as end:  # Prefect's own kinds of cancelling and terminating
        _log.warning("the run was stopped: %r", end)
        return end
    return None


def _in_words(error: Exception) -> str:
    if isinstance(error, StepfoldError):
        return str(error)
    lines = str(error).strip().splitlines()
    return redact(f"{type(error).__name__}: {lines[0] if lines else 'no message'}")


def _greet(console: Console, request: Request) -> None:
    steps = " → ".join(str(count) for count in request.recipe.halving.steps)
    compute = request.profile.compute
    workers = f"{compute.workers} worker{'s' if compute.workers > 1 else ''}"
    where = "in one process" if compute.launcher == "inline" else workers
    text = Text(request.recipe.run.name, style="name")
    text.append(f"  {steps} steps, {where}", style="default")
    text.append(f"  in {near(request.run_dir)}\n", style="quiet")
    text.append(f"watch it: stepfold ui --run-dir {near(request.run_dir)}\n", style="quiet")
    console.print(text, soft_wrap=True)


def _say_what_is_owed(console: Console, request: Request) -> None:
    owed = Owed(request.run_dir).all()
    if owed:
        text = Text("MLflow did not answer and was not told: ", style="careful")
        text.append(f"{', '.join(owed)}. The work is done; run again when it answers:\n")
        console.print(text.append(request.command, style="default"), soft_wrap=True)


def _log_of(run_dir: Path) -> Path:
    return run_dir / "logs" / "run.log"


def _links(request: Request) -> dict[str, str]:
    """Commands that show more of what was made."""
    place = near(request.run_dir)
    last = plan_decoders(request.recipe)[-1]
    steps, w = last.student_steps or 1, request.recipe.guidance.w.middle
    return {
        "History": f"stepfold ui --run-dir {place}",
        "MLflow": history_page(request.profile, request.run_dir),
        "Samples": drawing(request.recipe, f"{place}/{last.folder}/student", steps, w),
    }
