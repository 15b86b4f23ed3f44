"""`stepfold reap`: clear up after drivers that were killed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows.clean import debris
from flows.dead_flow_runs import crash_dead_flow_runs
from flows.disk import readable
from flows.home_profile import PROFILE, recorded_profile
from flows.orphans import bury
from flows.run import open_store
from flows.run_dir import check_place
from flows.standing import require_run
from infra.mlflow_pages import default_uri
from infra.profile import Profile
from pipeline.errors import BusyError, ConfigError, InfraError
from pipeline.ledger import hold
from stages.made_students import RECIPE


@dataclass(frozen=True)
class Reaped:
    """What was done about one run.

    Attributes:
        run_dir: the run.
        done: what was ended, marked and removed, in words.
        left: why something was left as it is.
    """

    run_dir: Path
    done: tuple[str, ...]
    left: tuple[str, ...] = ()


def reap(run_dir: Path | None) -> list[Reaped]:
    """Clear up one run, or every run below `runs/` that nobody is at work in.

    Raises:
        ConfigError: it is no run directory, or cannot be worked in.
        BusyError: a run is at work in the one that was named.
    """
    if run_dir is not None:
        return [_reap(require_run(run_dir, Path("runs")))]
    found = []
    for recipe in sorted(Path("runs").absolute().glob(f"*/{RECIPE}")):
        try:
            found.append(_reap(require_run(recipe.parent, Path("runs"))))
        except (BusyError, ConfigError) as error:
            found.append(Reaped(recipe.parent, (), (str(error),)))
    return found


def _reap(place: Path) -> Reaped:
    done: list[str] = []
    left: list[str] = []
    check_place(place)
    with hold(place):
        done += bury(place)
        removed = debris(place)
        if removed.count:
            done.append(f"{removed.count} pieces of debris removed ({readable(removed.size)})")
        for mark in (_end_tracked, _crash_flows):
            _try(mark, place, done, left)
    return Reaped(place, tuple(done), tuple(left))


def _try(mark: Callable[[Path], str], place: Path, done: list[str], left: list[str]) -> None:
    """A dead service is no reason not to go on."""
    try:
        told = mark(place)
    except (InfraError, ConfigError) as error:
        left.append(str(error))
    else:
        done += [told] if told else []


def _end_tracked(place: Path) -> str:
    profile = recorded_profile(place) if (place / PROFILE).is_file() else Profile()
    local = Path(default_uri(place.parent).removeprefix("sqlite:///"))
    if profile.tracking.uri is None and not local.is_file():
        return ""
    count = open_store(profile, place).end_abandoned(str(place))
    return f"{count} MLflow runs marked as killed" if count else ""


def _crash_flows(place: Path) -> str:
    count = crash_dead_flow_runs(place)
    return f"{count} flow runs marked as crashed" if count else ""
