"""Results of a run directory that a changed recipe or precision replaces, with their costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.errors import ConfigError
from pipeline.ledger import Ledger
from pipeline.run_dir import layout
from pipeline.run_dir.events import Timing
from pipeline.run_dir.layout import PROFILE, RECIPE, RunDir
from pipeline.run_dir.recipe_file import check_run_dir, read_recipe, recorded_profile
from pipeline.training.plan import plan_rounds
from pipeline.wording import format_bytes, format_duration, format_integer
from stages.chain import StageId, Step, recorded_states
from stages.data.shard import shard_key
from stages.plan.plan import PlanRow, plan_run
from stages.workspace import Workspace


@dataclass(frozen=True)
class Recomputed:
    """A stage whose result is computed again.

    Attributes:
        row: the stage by the new recipe, with its costs.
        seconds: measured time of the present result; 0 if it is unknown.
    """

    row: PlanRow
    seconds: float

    @property
    def text(self) -> str:
        """The stage with its costs in one line; for a gate also the checks that fail."""
        row = self.row
        title = row.step.title
        if row.step.stage is StageId.JUDGE:
            title += f", {row.reason}"
        numbers = {
            "updates": row.updates,
            "targets": row.tuples,
            "evaluations of the teacher": row.teacher_evaluations,
            "evaluations of the student": row.student_evaluations,
        }
        costs = [f"{format_integer(number)} {unit}" for unit, number in numbers.items() if number]
        costs += [format_bytes(row.bytes)] if row.bytes else []
        costs += [f"took {format_duration(self.seconds)}"] if self.seconds else []
        return f"{title}: {', '.join(costs)}" if costs else title


def recomputed_stages(recipe: Recipe, profile: Profile, run_dir: Path) -> tuple[Recomputed, ...]:
    """Return the stages with a result in the run directory that the new values replace, in order.

    Without a change of the recipe or of `engine.precision` there are none: what is lost or damaged
    is not the effect of a change.

    Raises:
        ConfigError: the stored recipe is not valid in this version.
        DataError: the data set of the new recipe is missing.
    """
    if not (run_dir / RECIPE).is_file() or not _has_changed(recipe, profile, run_dir):
        return ()
    old = read_recipe(run_dir)
    if Ledger(run_dir).find(shard_key(old)) is None:
        return ()  # without data nothing else is there
    states = recorded_states(Workspace(run_dir, old, profile))
    done = {state.step.id for state in states if state.done}
    # a gate that is added can refuse a student that is promoted
    students = RunDir(run_dir).artifacts()
    done |= {
        Step(StageId.JUDGE, plan).id
        for plan in plan_rounds(old)
        if layout.student_of(plan) in students
    }
    seconds = Timing(run_dir).seconds()
    return tuple(
        Recomputed(row, seconds.get(row.step.id, 0.0))
        for row in plan_run(Workspace(run_dir, recipe, profile))
        if row.state == "to do" and row.step.id in done
    )


def check_changes(recipe: Recipe, profile: Profile, run_dir: Path, *, accept_changes: bool) -> None:
    """Check that a directory can be the run directory of a recipe, like `check_run_dir`.

    Raises:
        ConfigError: see `pipeline.run_dir.recipe_file.check_run_dir`, with the results that the
            changes replace; or `engine.precision` replaces results and `accept_changes` is False.
    """

    def effects() -> str:
        return describe(recomputed_stages(recipe, profile, run_dir))

    check_run_dir(recipe, run_dir, accept_changes=accept_changes, effects=effects)
    old = None if accept_changes else changed_precision(profile, run_dir)
    if old is None:
        return
    stages = recomputed_stages(recipe, profile, run_dir)
    if stages:
        raise ConfigError(
            f"engine.precision: {profile.engine.precision} in the profile, but {run_dir} was "
            f"started with {old}. {describe(stages)}\n\nUse --accept-changes to continue with the "
            "new precision, or restore the old one"
        )


def changed_precision(profile: Profile, run_dir: Path) -> str | None:
    """Return the precision that the run was started with, if the profile has another one."""
    if not (run_dir / PROFILE).is_file():
        return None
    old = recorded_profile(run_dir).engine.precision
    return None if old == profile.engine.precision else old


def describe(stages: Sequence[Recomputed]) -> str:
    """Format the stages as a list with costs, and their measured time in all."""
    if not stages:
        return "No finished result is computed again."
    total = sum(each.seconds for each in stages)
    time = f", which took {format_duration(total)}" if total else ""
    lines = [f"  {each.text}" for each in stages]
    head = f"These results are computed again and replace the present ones{time}:"
    return "\n".join([head, *lines])


def _has_changed(recipe: Recipe, profile: Profile, run_dir: Path) -> bool:
    return read_recipe(run_dir) != recipe or changed_precision(profile, run_dir) is not None
