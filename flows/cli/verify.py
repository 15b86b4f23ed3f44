"""`stepfold verify`: check every file of a run directory."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flows.cli.console import DONE, FAILED, open_console
from flows.cli.options import RunDirArgument, RunsProfile
from pipeline.wording import format_bytes, format_integer, format_path

if TYPE_CHECKING:
    from pipeline.verification.examine import Damage, Examination, Note

_MOST_NAMES = 5  # shown of a list; the rest is counted

_MEANING = {
    "debris": "left by interrupted work; stepfold clean removes it",
    "foreign": "not written by Stepfold; ignored",
    "superseded": "records of an earlier recipe, replaced since",
    "gone": "targets that were removed and are no longer needed",
}
_REMEDIES = {
    "redo": "remove and recompute",
    "drop record": "remove the record",
    "remove file": "remove these files",
    "make parent": "recompute the missing input",
}


def verify(
    run_dir: RunDirArgument = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    profile: RunsProfile = None,
) -> None:
    """Check every file, checksum, count and parent of a run, and list what is damaged.

    Nothing is changed. `stepfold repair` removes and recomputes damaged artifacts.

    Exit codes: 0 intact, 1 damaged, 2 not a run directory, or a run is in progress.
    """
    from flows.cli.request import find_run

    place = find_run(run_dir, profile)
    verdict = verify_run(place, quiet=as_json)
    if as_json:
        typer.echo(verdict.model_dump_json(indent=1))
    else:
        show_verdict(place, verdict)
    raise typer.Exit(DONE if verdict.is_sound else FAILED)


def verify_run(run_dir: Path, *, quiet: bool = False) -> "Examination":
    """Examine a run directory; nothing is changed.

    Args:
        run_dir: the run directory.
        quiet: show no progress.

    Raises:
        BusyError: another process is using the run directory.
    """
    from pipeline.verification.examine import examine

    console = open_console(stderr=True, quiet=quiet)
    with _held(run_dir), console.status(Text(f"Checking {format_path(run_dir)} ...")) as status:

        def show(done: int, total: int) -> None:
            status.update(Text(f"Checking {format_path(run_dir)}: {done} of {total} artifacts ..."))

        return examine(run_dir, show)


def show_verdict(run_dir: Path, verdict: "Examination") -> None:
    """Print the result of an examination."""
    open_console().print(verdict_table(run_dir, verdict), soft_wrap=True)


def verdict_table(run_dir: Path, verdict: "Examination") -> RenderableType:
    """Return what is damaged, what was computed from it, and other remarks."""
    parts: list[RenderableType] = [_head(run_dir, verdict)]
    if verdict.damaged:
        parts.append(damage_table(verdict.damaged))
    parts += [_note(note) for note in verdict.notes]
    if verdict.damaged:
        parts.append(Text(f"\nRepair   stepfold repair {format_path(run_dir)}", style="name"))
    return Group(*parts)


def damage_table(damaged: "Sequence[Damage]", *, with_remedy: bool = False) -> Table:
    """Return one row per damaged file or artifact: path, problem, and dependents or remedy.

    Args:
        damaged: the result of an examination.
        with_remedy: show the repair in the last column.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="quiet")
    for column in ("damaged", "problem", "repair" if with_remedy else "computed from it"):
        table.add_column(column, overflow="fold")
    for damage in damaged:
        last = _REMEDIES[damage.remedy] if with_remedy else _grouped(damage.dependents)
        table.add_row(Text(damage.place, style="bad"), _listed(damage.problems, "\n"), last)
    return table


def _grouped(places: Sequence[str]) -> str:
    """Count places by their first two directories, so that a thousand targets are one line."""
    groups = Counter("/".join(place.split("/")[:2]) for place in places)
    lines = [group if number == 1 else f"{group}: {number}" for group, number in groups.items()]
    return "\n".join(lines) or "nothing"


def _head(run_dir: Path, verdict: "Examination") -> Text:
    sound = verdict.is_sound
    word = "intact" if sound else f"{len(verdict.damaged)} damaged"
    head = Text("✓ " if sound else "✗ ", style="good" if sound else "bad")
    head.append(f"{format_path(run_dir)}: {word}", style="name")
    counts = f"{format_integer(verdict.artifacts)} artifacts, {format_integer(verdict.files)} files"
    return head.append(f"  {counts}, {format_bytes(verdict.size)}", style="quiet")


def _note(note: "Note") -> Text:
    text = Text(f"{len(note.places)} {note.kind} ({_MEANING[note.kind]}): ", style="quiet")
    return text.append(_listed(note.places, ", "), style="quiet")


def _listed(names: Sequence[str], separator: str) -> str:
    shown = list(names[:_MOST_NAMES])
    rest = len(names) - len(shown)
    return separator.join([*shown, *([f"and {rest} more"] if rest else [])])


@contextmanager
def _held(run_dir: Path) -> Iterator[None]:
    """Lock the run, unless it is not writable or belongs to another user.

    The lock is a file: ours in another user's directory would lock out its owner.
    """
    from pipeline.ledger import lock_run_dir

    is_ours = run_dir.stat().st_uid == os.geteuid()
    can_hold = is_ours and os.access(run_dir, os.W_OK, effective_ids=True)
    with lock_run_dir(run_dir) if can_hold else nullcontext():
        yield
