"""`stepfold repair`: throw away what is damaged, make it anew, and look again."""

import logging
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from flows import preflight
from flows.console import near, open_console
from flows.home_profile import recorded_profile
from flows.request import Request
from flows.run_dir import stored
from flows.running import DONE, FAILED, execute
from flows.standing import require_run
from flows.verifying import damage_table, show_verdict, verify_run
from infra.profile import Profile
from pipeline.config import Recipe
from pipeline.documents import build, read_yaml
from pipeline.ledger import Artifact, Ledger, hold
from pipeline.training.plan import plan_rounds
from pipeline.verification.discard import Thrown, forget_stale, throw_away
from pipeline.verification.examine import examine
from pipeline.verification.findings import Verdict

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
    code = execute(request, accept_changes=False, teacher_only=False)
    if code != DONE:
        return code
    with hold(place):
        _tell_of(console, thrown.artifacts, forget_stale(place, thrown))
        _drop_remade_targets(place, request.recipe, thrown)
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


def _drop_remade_targets(place: Path, recipe: Recipe, thrown: Thrown) -> None:
    """Targets that were gone, and were made again only to train a student again.

    Promotion drops them, and a student that comes out as it was is not promoted a second time.
    """
    if recipe.targets.keep == "all":
        return
    last = f"{plan_rounds(recipe)[-1].folder}/" if recipe.targets.keep == "last" else ""
    known = {artifact.fingerprint for artifact in thrown.before}
    ledger = Ledger(place)
    for artifact in ledger.records():
        is_new = artifact.kind == "targets" and artifact.fingerprint not in known
        if is_new and not (last and artifact.path.startswith(last)):
            ledger.forget(artifact)


def _tell_of(console: Console, thrown: Sequence[Artifact], stale: Sequence[Artifact]) -> None:
    _log.info(
        "thrown away: %s; forgotten: %s", *([a.path for a in each] for each in (thrown, stale))
    )
    kept = "what was made from it is kept" if not stale else f"{len(stale)} records of it forgotten"
    console.print(f"\nThrown away: {len(thrown)} artifacts; {kept}.", soft_wrap=True)
