"""State of a run directory: finished, running, failed or stopped; and choosing a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.config import Recipe
from pipeline.errors import ConfigError
from pipeline.identity import Identity
from pipeline.ledger import Ledger, check_format, lock_holder
from pipeline.run_dir.events import Event, Events
from pipeline.run_dir.gate_history import GateRecord, gate_records
from pipeline.run_dir.layout import RECIPE, RunDir
from pipeline.run_dir.recipe_file import read_recipe

State = Literal["finished", "running", "failed", "stopped"]


@dataclass(frozen=True)
class RunStatus:
    """State of a run.

    Attributes:
        recipe: recipe of the run.
        state: `stopped` means neither running nor finished, without a recorded failure.
        holder: process that holds the lock, or that died holding it.
        gate: verdict and manual decision on each judged student.
        message: recorded failure; empty if there is none.
        last: newest event.
    """

    recipe: Recipe
    state: State
    holder: Identity | None
    gate: tuple[GateRecord, ...]
    message: str
    last: Event | None


def read_status(run_dir: Path) -> RunStatus:
    """Read the state of a run directory; nothing is verified or changed.

    Raises:
        ConfigError: not a run directory.
    """
    recipe = read_recipe(run_dir)
    events, _ = Events(run_dir).read()
    ends = [e for e in events if e.kind.startswith("run_")]
    holder = lock_holder(run_dir)
    state: State = "stopped"
    if holder and holder.is_alive is not False:
        state = "running"
    elif is_finished(run_dir):
        state = "finished"
    elif ends and ends[-1].kind == "run_failed":
        state = "failed"
    return RunStatus(
        recipe=recipe,
        state=state,
        holder=holder,
        gate=tuple(gate_records(Ledger(run_dir))),
        message=ends[-1].message if ends and state == "failed" else "",
        last=events[-1] if events else None,
    )


def is_finished(run_dir: Path) -> bool:
    """Whether the report of the stored recipe is committed."""
    ledger = Ledger(run_dir)
    reports = [a for a in ledger.records() if a.kind == "report" and ledger.locate(a).exists()]
    if not reports:
        return False
    # a report older than the recipe belongs to an earlier recipe
    since = (run_dir / RECIPE).stat().st_mtime
    written = [ledger.record_path(each.fingerprint).stat().st_mtime for each in reports]
    events, _ = Events(run_dir).read()
    done = [event.time for event in events if event.kind == "run_done"]
    return max([*written, *done]) >= since


def newest_run(root: Path) -> Path:
    """Return the most recently active run directory below `root`.

    Raises:
        ConfigError: `root` contains no run.
    """
    found = [path.parent for path in root.glob(f"*/{RECIPE}")]
    if not found:
        raise ConfigError(f"{root} contains no run; give one with --run-dir")
    return max(found, key=_last_activity)


def _last_activity(run_dir: Path) -> float:
    layout = RunDir(run_dir)
    files = [layout.recipe, layout.events]
    return max(path.stat().st_mtime for path in files if path.exists())


def require_run(run_dir: Path | None, root: Path) -> Path:
    """Return `run_dir`, or the newest run below `root` if it is None.

    Raises:
        ConfigError: not a run directory, of another format version, or `root` contains no run.
    """
    if run_dir is None:
        run_dir = newest_run(root)
    elif not (run_dir / RECIPE).is_file():
        raise ConfigError(f"{run_dir} is not a run directory: it has no {RECIPE}; check the path")
    check_format(run_dir)
    return run_dir.absolute()
