"""Pictures of every round while the chain goes on: its student beside the first teacher.

Samples are drawn by the worker that trained, when it has handed in; here they become pictures and
go to where the run is watched. Nothing depends on them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.mlflow.content import log_curves, log_picture
from infra.mlflow.store import MlflowStore
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.sampling.preview import Drawing, Preview, read_drawing
from pipeline.tracking import curve_name
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan
from pipeline.wording import counted

if TYPE_CHECKING:
    from pipeline.sampling.sampler import Images

_TEACHER = "rounds/teacher/pictures"


@dataclass(frozen=True)
class Picture:
    """One guidance weight of a round.

    Attributes:
        w: the guidance weight.
        num: samples.
        path: a PNG; None where samples are no pictures.
        rms: root mean square difference to the teacher's samples of the same noise; None for the
            teacher itself.
    """

    w: float
    num: int
    path: Path | None
    rms: float | None


def preview_of(
    run_dir: Path, recipe: Recipe, profile: Profile, plan: RoundPlan, key: str
) -> Preview | None:
    """What the round's worker is to draw; None if nobody wants pictures.

    Args:
        run_dir: the run directory.
        recipe: what is run.
        profile: says how many samples a picture has.
        plan: the round.
        key: fingerprint of what the round makes.
    """
    if not profile.tracking.pictures or plan.direction == "encode":
        return None
    folder = run_dir / "components"
    return Preview(
        drawings=tuple(_drawings(run_dir, recipe, profile, plan, key)),
        num=profile.tracking.pictures,
        w=recipe.evaluation.ends_and_middle,
        data=str(run_dir / "data"),
        components=str(folder) if folder.is_dir() else None,
    )


def make_pictures(
    run_dir: Path, recipe: Recipe, profile: Profile, plan: RoundPlan, made: Artifact
) -> list[Picture]:
    """The pictures of a finished round, from what its worker has drawn; [] if it drew nothing."""
    if not profile.tracking.pictures or plan.direction == "encode":
        return []
    drawings = list(_drawings(run_dir, recipe, profile, plan, made.fingerprint))
    sets = [read_drawing(Path(each.place)) for each in drawings]
    folder = Path(drawings[-1].place).parent
    return [
        _picture(folder, w, drawings, [each[w] for each in sets])
        for w in recipe.evaluation.ends_and_middle
        if all(w in each for each in sets)
    ]


def show_in_round(
    pictures: list[Picture], recipe: Recipe, plan: RoundPlan, store: MlflowStore, round_id: str
) -> None:
    """Put them into the MLflow run of the round.

    Raises:
        InfraError: MLflow does not answer.
    """
    _log_pictures(store, round_id, pictures, sampling_steps(recipe, plan))


def show_in_chain(
    pictures: list[Picture], recipe: Recipe, plan: RoundPlan, store: MlflowStore, chain_id: str
) -> None:
    """Put them into the MLflow run of the chain, whose slider moves through the rounds.

    It begins at 0, with the teacher if that was trained here. The chain also gets
    `preview/rms_w...`, of these few samples, against sampling steps; stochastic students have a
    curve of their own.

    Raises:
        InfraError: MLflow does not answer.
    """
    steps, noisy = sampling_steps(recipe, plan), plan.sampler == "stochastic"
    rms = [
        (curve_name(f"preview/rms_w{each.w:g}", is_stochastic=noisy), each.rms, steps)
        for each in pictures
        if each.rms is not None
    ]
    log_curves(store, chain_id, rms)
    place = plan.index - TEACHER_ROUND if recipe.teacher.train else plan.index
    _log_pictures(store, chain_id, pictures, place)


def _log_pictures(store: MlflowStore, run_id: str, pictures: list[Picture], place: int) -> None:
    for each in pictures:
        if each.path is not None:
            log_picture(store, run_id, each.path, f"samples/w {each.w:g}", place)


def sampling_steps(recipe: Recipe, plan: RoundPlan) -> int:
    """In how many steps a round's student is looked at, or the teacher."""
    if plan.index == TEACHER_ROUND:
        return recipe.teacher.reference_steps
    return plan.student_steps or recipe.halving.first_steps


def _drawings(
    run_dir: Path, recipe: Recipe, profile: Profile, plan: RoundPlan, key: str
) -> list[Drawing]:
    how = [profile.tracking.pictures, *recipe.evaluation.ends_and_middle]
    steps = sampling_steps(recipe, plan)

    def drawing(bundle: Path | None, made: str, folder: str, steps: int) -> Drawing:
        name = f"{fingerprint({'of': made, 'how': how, 'steps': steps})[:16]}.npz"
        place = run_dir / folder / name
        return Drawing(bundle=str(bundle) if bundle else None, place=str(place), steps=steps)

    if plan.index == TEACHER_ROUND:
        return [drawing(None, key, _TEACHER, steps)]
    found = [each for each in Ledger(run_dir).records() if each.path == "teacher"]
    reference = recipe.teacher.reference_steps
    teachers = [drawing(run_dir / "teacher", t.fingerprint, _TEACHER, reference) for t in found]
    return [*teachers, drawing(None, key, f"{plan.folder}/pictures", steps)]


def _picture(folder: Path, w: float, drawings: list[Drawing], sets: list["Images"]) -> Picture:
    from pipeline.evaluation.figures.grids import draw_pairs
    from pipeline.evaluation.metrics.frechet import paired_rms

    names = [
        f"teacher, {counted(drawings[0].steps, 'step')}",
        f"student, {counted(drawings[-1].steps, 'step')}",
    ]
    rows = list(zip(names[: len(sets)], sets, strict=True))
    drawn = draw_pairs(f"w = {w:g}", rows)
    path = folder / f"w{w:g}.png"
    if drawn is not None:
        drawn.save(path)
    rms = paired_rms(sets[-1], sets[0]) if len(sets) > 1 else None
    return Picture(w=w, num=len(sets[-1]), path=path if drawn is not None else None, rms=rms)
