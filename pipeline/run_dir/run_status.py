"""Where a run directory stands: finished, running, failed or stopped; and its stages."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.config import Recipe
from pipeline.errors import ConfigError
from pipeline.identity import Identity
from pipeline.ledger import Artifact, Ledger, check_format, holder_of
from pipeline.run_dir.events import Event, Events
from pipeline.run_dir.gate_history import GateRecord, gate_records
from pipeline.run_dir.recipe_file import RECIPE, stored
from pipeline.training.plan import plan_rounds

State = Literal["finished", "running", "failed", "stopped"]


@dataclass(frozen=True)
class Standing:
    """Where a run stands.

    Attributes:
        recipe: what it runs.
        state: `stopped` is neither running nor finished, and no failure was recorded.
        holder: who holds the directory, or held it and died.
        stages: each stage with what is committed of it, None if nothing is.
        gate: what it said of each student, and what a person said of that.
        message: the recorded failure, or "".
        last: the newest event.
    """

    recipe: Recipe
    state: State
    holder: Identity | None
    stages: tuple[tuple[str, Artifact | None], ...]
    gate: tuple[GateRecord, ...]
    message: str
    last: Event | None


def stand(run_dir: Path) -> Standing:
    """Read where a run directory stands; nothing is verified or changed.

    Raises:
        ConfigError: it is no run directory.
    """
    recipe = stored(run_dir)
    events, _ = Events(run_dir).read()
    ends = [e for e in events if e.kind.startswith("run_")]
    holder = holder_of(run_dir)
    state: State = "stopped"
    if holder and holder.is_alive is not False:
        state = "running"
    elif is_finished(run_dir):
        state = "finished"
    elif ends and ends[-1].kind == "run_failed":
        state = "failed"
    return Standing(
        recipe=recipe,
        state=state,
        holder=holder,
        stages=tuple(_stages(recipe, run_dir)),
        gate=tuple(gate_records(Ledger(run_dir))),
        message=ends[-1].message if ends and state == "failed" else "",
        last=events[-1] if events else None,
    )


def is_finished(run_dir: Path) -> bool:
    """Whether the report of the recipe the directory now holds is committed."""
    ledger = Ledger(run_dir)
    reports = [a for a in ledger.records() if a.kind == "report" and ledger.locate(a).exists()]
    if not reports:
        return False
    # a recipe changed after the report was made has not been run to its end
    since = (run_dir / RECIPE).stat().st_mtime
    written = [ledger.record_path(each.fingerprint).stat().st_mtime for each in reports]
    events, _ = Events(run_dir).read()
    done = [event.time for event in events if event.kind == "run_done"]
    return max([*written, *done]) >= since


def newest_run(root: Path) -> Path:
    """The run directory below `root` that something happened in last.

    Raises:
        ConfigError: there is none.
    """
    found = [path.parent for path in root.glob(f"*/{RECIPE}")]
    if not found:
        raise ConfigError(f"no run below {root}; name one with --run-dir")
    return max(found, key=_last_sign)


def _last_sign(run_dir: Path) -> float:
    signs = [run_dir / RECIPE, run_dir / "events.jsonl"]
    return max(path.stat().st_mtime for path in signs if path.exists())


def _stages(recipe: Recipe, run_dir: Path) -> list[tuple[str, Artifact | None]]:
    by_place = {artifact.path: artifact for artifact in Ledger(run_dir).records()}
    by_kind = {artifact.kind: artifact for artifact in by_place.values()}
    return [
        ("shard the data", by_kind.get("data")),
        ("teacher", by_place.get("teacher")),
        *((plan.title, by_place.get(f"{plan.folder}/student")) for plan in plan_rounds(recipe)),
        ("evaluate", by_kind.get("report")),
    ]


def require_run(run_dir: Path | None, root: Path) -> Path:
    """The run directory asked for, or the newest one.

    Raises:
        ConfigError: it is no run directory or one of another format, or there is none.
    """
    if run_dir is None:
        run_dir = newest_run(root)
    elif not (run_dir / RECIPE).is_file():
        raise ConfigError(f"{run_dir} is no run directory: it has no {RECIPE}; check the path")
    check_format(run_dir)
    return run_dir.absolute()
