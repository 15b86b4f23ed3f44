"""What our own modules have to say goes into the log of a run, beside what Prefect says."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.text import Text
from rich.theme import Theme

from pipeline.wording import near

_PACKAGES = ("flows", "stages", "infra", "pipeline")

_FORM = "%(asctime)s.%(msecs)03d | %(levelname)-7s | %(name)s - %(message)s"  # as Prefect's lines


@contextmanager
def written() -> Iterator[None]:
    """Write what ours say from INFO on to standard error, once."""
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
    """A console in our colours; no markup, so that paths in brackets stay as they are.

    Args:
        stderr: write to standard error instead of standard output.
        file: write there.
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


@contextmanager
def own_terminal(log: Path) -> Iterator[Console]:
    """Give the terminal to us alone: file descriptors 1 and 2 go to a log file meanwhile.

    Descriptors and not `sys.stdout`, because Ray's processes and C++ libraries write there too.
    Yields a console on what standard output was.
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
        with os.fdopen(os.dup(kept[0]), "w", encoding="utf-8") as terminal, written():
            yield open_console(file=terminal)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, original in enumerate(kept, start=1):
            os.dup2(original, number)
            os.close(original)


def _is_descriptor(number: int) -> bool:
    try:
        return sys.stdout.fileno() == number
    except (OSError, ValueError):
        return False


def refusal(message: str, *, created_nothing: bool) -> Text:
    """What a refused command says."""
    text = Text("Refused  ", style="bad")
    text.append(message.strip(), style="default")
    if created_nothing:
        text.append("\nNothing was created.", style="quiet")
    return text


def failure(where: str, what: str, log: Path, command: str) -> Text:
    """What a failed run says: where, what, the log, the command that continues."""
    text = Text("Failed   ", style="bad")
    text.append(f"{where}: " if where else "", style="name")
    text.append(f"{what.strip()}\n", style="default")
    return _signposts(text, log, command)


def interruption(where: str, log: Path, command: str) -> Text:
    """What an interrupted run says."""
    text = Text("Stopped  ", style="careful")
    text.append(f"in {where or 'preparation'}; what is committed is kept.\n", style="default")
    return _signposts(text, log, command)


def _signposts(text: Text, log: Path, command: str) -> Text:
    text.append("Log      ", style="name").append(f"{near(log)}\n", style="default")
    text.append("Continue ", style="name").append(command, style="default")
    return text
