"""The sets of samples that a report compares, and how they stand side by side in a picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Recipe
from pipeline.evaluation.documents import SAMPLER_NAMES, Cell
from pipeline.evaluation.features.classifier import Reading
from pipeline.evaluation.figures.grids import Column
from pipeline.evaluation.metrics.frechet import Features
from pipeline.sampling.sampler import Images


@dataclass(frozen=True)
class SampleSet:
    """The samples of a cell and what one of them cost in network evaluations."""

    cell: Cell
    evaluations: int
    load: Callable[[], Images]


@dataclass(frozen=True)
class ReadSets:
    """What an extractor read of everything that is compared, features `[n, d]` each.

    Attributes:
        name: of the extractor.
        sha256: of its weights.
        identity: of all that it reads by.
        distance: the head of the column of Frechet distances: FID, or what else it is.
        kind: a short name for files.
        of: the features of a cell's samples.
        heldout: those of the held-out real images; None where there are none.
        prompts: those of the prompts; None where there are none, or it does not read.
        mean_of: the features of a cell's samples were each of them the mean of them all. Of a
            teacher's cells, in data without classes.
    """

    name: str
    sha256: str
    identity: str
    distance: str
    kind: str
    of: Callable[[Cell], Features]
    heldout: Features | None
    prompts: Features | None
    mean_of: Callable[[Cell], Features]


@dataclass(frozen=True)
class OwnReadings:
    """What the data set's own classifier read of everything that is compared.

    Attributes:
        classifier: its folder.
        of: the reading of a cell's samples.
        heldout: of the held-out real images.
        training: of the training images that are measured as if they were samples, those of
            `pipeline.evaluation.dataset_images.rows_like`.
        means: of the mean image of the class of each sample.
    """

    classifier: Path
    of: Callable[[Cell], Reading]
    heldout: Reading
    training: Reading
    means: Reading


@dataclass(frozen=True)
class Comparison:
    """All that a report is made from.

    Attributes:
        recipe: what was asked for.
        data: folder of the sharded data set.
        own: what the classifier trained on it read; None for data without classes.
        sets: samples, among them one yardstick and one teacher for each guidance weight.
        skipped: what is not compared, with the reason.
        data_sha256: of the data set, as its commit record has it.
        teacher_sha256: of the teacher's network; equal in all runs that have this teacher.
        components_sha256: of what surrounds networks of latents; None for networks of pixels.
        readings: what extractors read of all of it.
    """

    recipe: Recipe
    data: Path
    own: OwnReadings | None
    sets: tuple[SampleSet, ...]
    skipped: tuple[str, ...]
    data_sha256: str | None = None
    teacher_sha256: str | None = None
    components_sha256: str | None = None
    readings: tuple[ReadSets, ...] = ()


def columns_of(sets: Sequence[SampleSet]) -> list[Column]:
    """Teacher, students from many steps to one, and the cheapest training-free sampling."""
    shown = [each for each in sets if each.cell.role in ("teacher", "student")]
    baselines = [each for each in sets if each.cell.role == "baseline"]
    if baselines:
        shown.append(min(baselines, key=lambda each: (each.cell.steps, each.cell.sampler)))
    return [
        Column(
            title=_heading(each.cell),
            evaluations=each.evaluations,
            images=each.load(),
            student=each.cell.role == "student",
        )
        for each in shown
    ]


def _heading(cell: Cell) -> str:
    steps = f"{cell.steps} step" + ("" if cell.steps == 1 else "s")
    who = f"teacher, {SAMPLER_NAMES[cell.sampler]}"
    if cell.is_stochastic_student:
        who = "stochastic"  # columns are narrow, and a student's head has a colour
    elif cell.role == "student":
        who = "stage-1 student" if cell.round == 0 else "student"
    return f"{who}\n{steps}"
