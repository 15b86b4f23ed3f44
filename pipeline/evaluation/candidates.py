"""Inputs of a report: sample sets with their features, and their columns in a figure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Recipe
from pipeline.evaluation.documents import SampleSpec, teacher_title
from pipeline.evaluation.features.classifier import ClassifierOutputs
from pipeline.evaluation.figures.grids import Column
from pipeline.evaluation.metrics.frechet import Features
from pipeline.sampling.sampler import Images, LabelArray


@dataclass(frozen=True)
class SampleSet:
    """Samples of one specification, with the network evaluations per sample."""

    cell: SampleSpec
    evaluations: int
    load: Callable[[], Images]


@dataclass(frozen=True)
class ExtractorFeatures:
    """Features of all sample sets by one extractor, `[n, d]` each.

    Attributes:
        name: name of the extractor.
        sha256: sha256 of its weights.
        identity: identity of weights, configuration and tokenizer.
        distance: column heading of the Frechet distance ("FID" for published Inception-v3 only).
        kind: short name for files.
        of: returns the features of a sample set.
        heldout: features of the held-out real images; None without held-out images.
        heldout_labels: classes of the held-out images; all 0 for data without classes.
        prompts: features of the prompts; None without prompts or for image-only extractors.
        mean_of: returns the features of a teacher's sample set with every sample replaced by the
            set's mean image. Used for data without classes.
    """

    name: str
    sha256: str
    identity: str
    distance: str
    kind: str
    of: Callable[[SampleSpec], Features]
    heldout: Features | None
    heldout_labels: LabelArray
    prompts: Features | None
    mean_of: Callable[[SampleSpec], Features]


@dataclass(frozen=True)
class ClassifierResults:
    """Outputs of the data set's own classifier on all sample sets.

    Attributes:
        classifier: folder of the classifier.
        of: returns the classifier's outputs on a sample set.
        heldout: outputs on the held-out real images.
        training: outputs on the training images that are scored like samples, selected by
            `pipeline.evaluation.dataset_images.rows_with_class_counts`.
        means: outputs on the class mean image of each sample's class.
    """

    classifier: Path
    of: Callable[[SampleSpec], ClassifierOutputs]
    heldout: ClassifierOutputs
    training: ClassifierOutputs
    means: ClassifierOutputs


@dataclass(frozen=True)
class ReportInputs:
    """Inputs of a report.

    Attributes:
        recipe: recipe of the run.
        data: folder of the sharded data set.
        own: outputs of the classifier trained on the data; None for data without classes.
        sets: sample sets, with one noise-floor reference and one teacher per guidance weight.
        skipped: sample sets left out, with the reason.
        data_sha256: digest of the data set in its commit record.
        teacher_sha256: digest of the teacher's network; equal in all runs with this teacher.
        components_sha256: digest of VAE and text encoders; None for pixel-space networks.
        readings: features of the sample sets, one entry per extractor.
        data_notes: notes on the data.
    """

    recipe: Recipe
    data: Path
    own: ClassifierResults | None
    sets: tuple[SampleSet, ...]
    skipped: tuple[str, ...]
    data_sha256: str | None = None
    teacher_sha256: str | None = None
    components_sha256: str | None = None
    readings: tuple[ExtractorFeatures, ...] = ()
    data_notes: tuple[str, ...] = ()


def columns_of(sets: Sequence[SampleSet]) -> list[Column]:
    """Return figure columns: teacher, students by decreasing steps, the cheapest baseline."""
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


def _heading(cell: SampleSpec) -> str:
    steps = f"{cell.steps} step" + ("" if cell.steps == 1 else "s")
    network = teacher_title(cell.sampler)
    if cell.is_stochastic_student:
        network = "stochastic"  # short, as columns are narrow; the colour marks students
    elif cell.role == "student":
        network = "stage-1 student" if cell.round == 0 else "student"
    return f"{network}\n{steps}"
