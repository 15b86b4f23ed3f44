"""`stepfold repair`: forget what is damaged, run again, and verify."""

import logging
from pathlib import Path

from rich.console import Console
from rich.text import Text

from flows import preflight
from flows.cli.console import open_console
from flows.cli.request import Request
from flows.cli.run import DONE, FAILED, execute
from flows.cli.verify import damage_table, show_verdict, verify_run
from pipeline.config.profile import Profile
from pipeline.documents import build, read_yaml
from pipeline.ledger import Ledger, hold
from pipeline.run_dir.recipe_file import recorded_profile, stored
from pipeline.run_dir.run_status import require_run
from pipeline.training.plan import plan_rounds
from pipeline.verification.examine import Verdict, examine, throw_away
from pipeline.wording import near
from stages.rounds.promote import drop_targets

_log = logging.getLogger(__name__)


def repair(run_dir: Path, profile_path: Path | None, *, dry_run: bool) -> int:
    """Bring a run directory back to what it was, redoing as little as can be; the exit code.

    Args:
        run_dir: the run directory.
        profile_path: where to redo things; None for the profile it was last worked on with.
        dry_run: say what would be done, and do nothing.

    Raises:
        StepfoldError: it is no run, a run is at work in it, or what is damaged could not be made
            anew (its data are gone, say); nothing was thrown away then.
    """
    place, console = require_run(run_dir, Path("runs")), open_console()
    verdict = verify_run(place)
    if verdict.is_sound:
        show_verdict(place, verdict)
        return DONE
    _announce(console, place, verdict)
    if dry_run:
        return FAILED
    request = _request(place, profile_path)
    preflight.check(request.recipe, request.profile, place, accept_changes=False)
    with hold(place):
        # again: the directory was free in between
        thrown = throw_away(place, examine(place).damaged)
    _log.info("thrown away: %s", [artifact.path for artifact in thrown])
    code = execute(request, accept_changes=False, teacher_only=False)
    if code != DONE:
        return code
    with hold(place):  # a student that comes out as it was is not promoted again, which drops them
        drop_targets(Ledger(place), plan_rounds(request.recipe)[-1], request.recipe.targets.keep)
    after = verify_run(place)
    show_verdict(place, after)
    return DONE if after.is_sound else FAILED


def _request(place: Path, profile_path: Path | None) -> Request:
    if profile_path is None:
        profile = recorded_profile(place)
    else:
        profile = build(Profile, read_yaml(profile_path), str(profile_path))
    command = f"stepfold repair {near(place)}"
    command += f" --profile {profile_path}" if profile_path else ""
    return Request(recipe=stored(place), profile=profile, run_dir=place, command=command)


def _announce(console: Console, place: Path, verdict: Verdict) -> None:
    console.print(Text(f"{near(place)}: {len(verdict.damaged)} damaged", style="name"))
    console.print(damage_table(verdict.damaged, with_remedy=True))
    text = "What was made from it is kept if it comes out with the same bytes, else made anew.\n"
    console.print(Text(text, style="quiet"), soft_wrap=True)
