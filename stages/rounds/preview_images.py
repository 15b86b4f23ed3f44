"""Preview images of every round: samples of its student beside those of the first teacher.

The training worker draws the samples after it has saved the student. This module turns them into
images and logs them to the tracker. No stage depends on them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Recipe
from pipeline.ledger import Artifact, fingerprint
from pipeline.run_dir import layout
from pipeline.sampling.preview import Preview, PreviewSamples, read_preview
from pipeline.tracking import RunTracker, curve_name
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan
from pipeline.wording import format_count
from stages.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.sampling.sampler import Images


@dataclass(frozen=True)
class PreviewImage:
    """Preview of a round at one guidance weight.

    Attributes:
        w: guidance weight.
        num: number of samples.
        path: PNG file; None if the samples are not images.
        rms: RMS difference to the teacher's samples from the same noise; None for the teacher
            itself.
    """

    w: float
    num: int
    path: Path | None
    rms: float | None


def plan_preview(work: Workspace, plan: RoundPlan, key: str) -> Preview | None:
    """Return the preview for the round's worker to draw; None if previews are disabled."""
    num = work.profile.tracking.pictures
    if not num or plan.direction == "encode":
        return None
    folder = work.run_dir / layout.COMPONENTS
    return Preview(
        drawings=tuple(_preview_sets(work, plan, key)),
        num=num,
        w=work.recipe.evaluation.ends_and_middle,
        data=str(work.run_dir / layout.DATA),
        components=str(folder) if folder.is_dir() else None,
    )


def make_previews(work: Workspace, plan: RoundPlan, artifact: Artifact) -> list[PreviewImage]:
    """Return the preview images of a finished round; empty if its worker drew no samples."""
    if not work.profile.tracking.pictures or plan.direction == "encode":
        return []
    preview_sets = list(_preview_sets(work, plan, artifact.fingerprint))
    sets = [read_preview(Path(each.place)) for each in preview_sets]
    folder = Path(preview_sets[-1].place).parent
    return [
        _compare(folder, w, preview_sets, [each[w] for each in sets])
        for w in work.recipe.evaluation.ends_and_middle
        if all(w in each for each in sets)
    ]


def log_to_chain(
    pictures: list[PreviewImage],
    recipe: Recipe,
    plan: RoundPlan,
    tracker: RunTracker,
    chain_id: str,
) -> None:
    """Log preview images to the tracked run of the chain, with the round as step.

    Step 0 is the teacher if it was trained in this run. The metric `preview/rms_w...`, computed
    from these few samples, has the number of sampling steps as its step; stochastic students have
    their own curve.

    Raises:
        InfraError: the tracker is unreachable.
    """
    steps, is_stochastic = plan.sampling_steps, plan.sampler == "stochastic"
    rms = [
        (curve_name(f"preview/rms_w{each.w:g}", is_stochastic=is_stochastic), each.rms, steps)
        for each in pictures
        if each.rms is not None
    ]
    tracker.log(chain_id, rms)
    place = plan.index - TEACHER_ROUND if recipe.teacher.train else plan.index
    log_previews(pictures, tracker, chain_id, place)


def log_previews(
    pictures: list[PreviewImage], tracker: RunTracker, run_id: str, place: int
) -> None:
    """Log preview images to a tracked run, at the step `place`.

    Raises:
        InfraError: the tracker is unreachable.
    """
    for each in pictures:
        if each.path is not None:
            tracker.log_image(run_id, each.path, f"samples/w {each.w:g}", place)


def _preview_sets(work: Workspace, plan: RoundPlan, key: str) -> list[PreviewSamples]:
    run_dir, recipe = work.run_dir, work.recipe
    how = [work.profile.tracking.pictures, *recipe.evaluation.ends_and_middle]
    steps = plan.sampling_steps

    def preview_set(bundle: Path | None, artifact: str, folder: str, steps: int) -> PreviewSamples:
        name = f"{fingerprint({'of': artifact, 'how': how, 'steps': steps})[:16]}.npz"
        place = run_dir / folder / name
        return PreviewSamples(bundle=str(bundle) if bundle else None, place=str(place), steps=steps)

    if plan.index == TEACHER_ROUND:
        return [preview_set(None, key, layout.TEACHER_PREVIEWS, steps)]
    found = [each for each in work.ledger.records() if each.path == layout.TEACHER]
    reference = recipe.teacher.reference_steps
    teachers = [
        preview_set(run_dir / each.path, each.fingerprint, layout.TEACHER_PREVIEWS, reference)
        for each in found
    ]
    return [*teachers, preview_set(None, key, layout.previews_of(plan), steps)]


def _compare(
    folder: Path, w: float, preview_sets: list[PreviewSamples], sets: list["Images"]
) -> PreviewImage:
    from pipeline.evaluation.figures.grids import draw_pairs
    from pipeline.evaluation.metrics.frechet import paired_rms

    names = [
        f"teacher, {format_count(preview_sets[0].steps, 'step')}",
        f"student, {format_count(preview_sets[-1].steps, 'step')}",
    ]
    rows = list(zip(names[: len(sets)], sets, strict=True))
    path = folder / f"w{w:g}.png"
    is_drawn = draw_pairs(f"w = {w:g}", rows, path)
    rms = paired_rms(sets[-1], sets[0]) if len(sets) > 1 else None
    return PreviewImage(w=w, num=len(sets[-1]), path=path if is_drawn else None, rms=rms)
