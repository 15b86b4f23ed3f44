"""`stepfold verify`: examine a run directory, and show what was found."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flows.cli.console import open_console
from pipeline.ledger import hold
from pipeline.run_dir.run_status import require_run
from pipeline.verification.examine import Damage, Note, Verdict, examine
from pipeline.wording import grouped, near, readable

_SHOWN = 5  # names of a list; the rest is counted

_MEANING = {
    "debris": "left by interrupted work; stepfold reap or clean removes it",
    "foreign": "not of this run; left alone",
    "superseded": "records of an earlier recipe, replaced since",
    "gone": "targets that were removed and are not needed any more",
}
_REMEDIES = {
    "redo": "thrown away and made anew",
    "drop record": "the record is removed",
    "remove file": "these files are removed",
    "make parent": "what is missing is made anew",
}


def verify_run(run_dir: Path, *, quiet: bool = False) -> Verdict:
    """Whether everything in a run directory can be trusted; nothing is changed.

    Args:
        run_dir: the run directory.
        quiet: show no progress.

    Raises:
        ConfigError: it is no run directory.
        BusyError: a run is at work in it.
    """
    place = require_run(run_dir, Path("runs"))
    console = open_console(stderr=True, quiet=quiet)
    with _alone(place), console.status(Text(f"Examining {near(place)} ...")) as shown:

        def tell(done: int, total: int) -> None:
            shown.update(Text(f"Examining {near(place)}: {done} of {total} artifacts ..."))

        return examine(place, tell)


def show_verdict(run_dir: Path, verdict: Verdict) -> None:
    """Print what an examination found."""
    open_console().print(verdict_table(run_dir, verdict), soft_wrap=True)


def verdict_table(run_dir: Path, verdict: Verdict) -> RenderableType:
    """What is damaged and what depends on it; then what else there is to know."""
    parts: list[RenderableType] = [_head(run_dir, verdict)]
    if verdict.damaged:
        parts.append(damage_table(verdict.damaged))
    parts += [_note(note) for note in verdict.notes]
    if verdict.damaged:
        parts.append(Text(f"\nRepair   stepfold repair {near(run_dir)}", style="name"))
    return Group(*parts)


def damage_table(damaged: Sequence[Damage], *, with_remedy: bool = False) -> Table:
    """One row for each damage: where, what is wrong, what was made from it or what is to be done.

    Args:
        damaged: what was found.
        with_remedy: show what repairing does about it.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="quiet")
    for column in ("damaged", "why", "repair" if with_remedy else "made from it"):
        table.add_column(column, overflow="fold")
    for damage in damaged:
        last = _REMEDIES[damage.remedy] if with_remedy else _counted(damage.dependents)
        table.add_row(Text(damage.place, style="bad"), _listed(damage.problems, "\n"), last)
    return table


def _counted(dependents: Sequence[str]) -> str:
    """Places by their first two directories, so that a thousand targets are one line."""
    groups = Counter("/".join(place.split("/")[:2]) for place in dependents)
    lines = [group if number == 1 else f"{group}: {number}" for group, number in groups.items()]
    return "\n".join(lines) or "nothing"


def _head(run_dir: Path, verdict: Verdict) -> Text:
    sound = verdict.is_sound
    word = "sound" if sound else f"{len(verdict.damaged)} damaged"
    head = Text("✓ " if sound else "✗ ", style="good" if sound else "bad")
    head.append(f"{near(run_dir)}: {word}", style="name")
    counts = f"{grouped(verdict.artifacts)} artifacts, {grouped(verdict.files)} files"
    return head.append(f"  {counts}, {readable(verdict.size)}", style="quiet")


def _note(note: Note) -> Text:
    text = Text(f"{len(note.places)} {note.kind} ({_MEANING[note.kind]}): ", style="quiet")
    return text.append(_listed(note.places, ", "), style="quiet")


def _listed(names: Sequence[str], separator: str) -> str:
    shown = list(names[:_SHOWN])
    rest = len(names) - len(shown)
    return separator.join([*shown, *([f"and {rest} more"] if rest else [])])


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Hold the run, unless it lies where we cannot write, or is somebody else's.

    The lock is a file: ours in another's directory would keep its owner out.
    """
    is_ours = place.stat().st_uid == os.geteuid()
    can_hold = is_ours and os.access(place, os.W_OK, effective_ids=True)
    with hold(place) if can_hold else nullcontext():
        yield
