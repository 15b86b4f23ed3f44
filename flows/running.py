"""`stepfold run`: check, take the directory, run the flow out of sight, show what matters."""

import logging
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from flows import environment, preflight
from flows.console import failure, interruption, near, own_terminal
from flows.events import Events
from flows.history import history_page
from flows.orphans import sign_children
from flows.owed import Owed
from flows.prefect_lost import is_lost, start_again
from flows.progress import shown
from flows.request import Request
from flows.run_dir import prepare
from flows.summary import show_summary
from infra.environment import keep_private
from infra.interruptible import interruptible
from pipeline.errors import BundleError, BusyError, ConfigError, DataError, StepfoldError
from pipeline.identity import identify
from pipeline.ledger import hold
from pipeline.redaction import redact
from pipeline.training.plan import plan_decoders
from stages.drawing_command import drawing
from stages.layout import discard_other_layouts

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
    environment.settle()
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
            from flows.train_teacher import train_teacher as flow
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
