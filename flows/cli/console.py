"""The terminal: colours, refusals and failures with their exit codes, and the log file of a run.

Exit codes of every command:

0    done
1    failed: a run, a check or a service
2    refused: the command, the recipe, the profile or the data are wrong
130  interrupted by Ctrl-C or SIGTERM
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import typer
from rich.console import Console
from rich.text import Text
from rich.theme import Theme

from pipeline.errors import BundleError, BusyError, ConfigError, DataError, StepfoldError
from pipeline.wording import format_path

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130

REFUSALS = (ConfigError, DataError, BundleError, BusyError)

_PACKAGES = ("flows", "stages", "infra", "pipeline")

_FORM = "%(asctime)s.%(msecs)03d | %(levelname)-7s | %(name)s - %(message)s"  # as Prefect's lines

_THEME = Theme(
    {
        "good": "green",
        "bad": "bold red",
        "careful": "yellow",
        "quiet": "dim",
        "name": "bold",
        "bar.complete": "cyan",
        "bar.finished": "green",
    }
)


def open_console(*, stderr: bool = False, file: IO[str] | None = None, **options: Any) -> Console:
    """Return a console with our colours; without markup, so that paths keep their brackets.

    Args:
        stderr: write to standard error instead of standard output.
        file: write to this file instead.
        options: more options of rich's Console.
    """
    return Console(
        theme=_THEME,
        stderr=stderr,
        file=file,
        highlight=False,
        markup=False,
        emoji=False,
        **options,
    )


def exit_code_of(error: BaseException) -> int:
    """Return the exit code of a command that ended with this error."""
    return REFUSED if isinstance(error, REFUSALS) else FAILED


@contextmanager
def refusals(*, creates: bool = False) -> Iterator[None]:
    """Print a deliberate error as one paragraph and exit with its code.

    Args:
        creates: add to a refusal that nothing was created.
    """
    try:
        yield
    except StepfoldError as error:
        code = exit_code_of(error)
        text = refusal(str(error), created_nothing=creates and code == REFUSED)
        open_console(stderr=True).print(text, soft_wrap=True)
        raise typer.Exit(code) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def exclusive_terminal(log: Path) -> Iterator[Console]:
    """Keep the terminal for our own output: file descriptors 1 and 2 go to a log file.

    Descriptors and not `sys.stdout`, because Ray's processes and C++ libraries write there too.
    Yields a console on the former standard output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if not _is_descriptor(1):  # output is captured inside this process; there is no terminal
        yield open_console()
        return
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    sink = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)
    try:
        with os.fdopen(os.dup(kept[0]), "w", encoding="utf-8") as terminal, _log_to_stderr():
            yield open_console(file=terminal)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, original in enumerate(kept, start=1):
            os.dup2(original, number)
            os.close(original)


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Write log records of our own packages, from INFO on, to standard error, once each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORM, "%H:%M:%S"))
    loggers = [logging.getLogger(name) for name in _PACKAGES]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.propagate = False  # Prefect's root handler would write every line again
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


def _is_descriptor(number: int) -> bool:
    try:
        return sys.stdout.fileno() == number
    except (OSError, ValueError):
        return False


def refusal(message: str, *, created_nothing: bool) -> Text:
    """Return the message of a refused command."""
    text = Text("Refused  ", style="bad")
    text.append(message.strip(), style="default")
    if created_nothing:
        text.append("\nNothing was created.", style="quiet")
    return text


def failure(where: str, reason: str, log: Path, command: str) -> Text:
    """Return the message of a failed run: stage, reason, log, and the command that resumes it."""
    text = Text("Failed   ", style="bad")
    text.append(f"{where}: " if where else "", style="name")
    text.append(f"{reason.strip()}\n", style="default")
    return _with_directions(text, log, command)


def interruption(where: str, log: Path, command: str) -> Text:
    """Return the message of an interrupted run; `where` is such as `in round 0`."""
    text = Text("Stopped  ", style="careful")
    text.append(f"{where}; finished work is kept.\n", style="default")
    return _with_directions(text, log, command)


def _with_directions(text: Text, log: Path, command: str) -> Text:
    text.append("Log      ", style="name").append(f"{format_path(log)}\n", style="default")
    text.append("Continue ", style="name").append(command, style="default")
    return text
