"""Evaluation documents: the sample sets to compare, and the report.

A sample set is given by network, sampler, step count, guidance weight and seed. All sets of one
guidance weight share conditions and starting noise, except the noise-floor reference: the teacher
with another seed. Distances to the teacher are measured against that reference, so the teacher's
own row holds the noise floor, its distance to itself.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.bundle import Manifest
from pipeline.config import Recipe
from pipeline.config.samplers import BASELINES
from pipeline.diffusion.grid import Sampling
from pipeline.documents import Document
from pipeline.evaluation.file_names import REPORT_JSON
from pipeline.evaluation.metric_protocol import MetricProtocol
from pipeline.evaluation.metrics.manifold import NEIGHBOURS
from pipeline.evaluation.scores import ExtractorScores, Range, Scores
from pipeline.evaluation.verdicts.checks import Verdict
from pipeline.sampling.solvers import SAMPLERS, default_sampler
from pipeline.wording import format_count

RESAMPLES = 100
NOISE_FLOOR_SEED_OFFSET = 1

Role = Literal["noise_floor", "teacher", "student", "baseline"]


def teacher_title(sampler: str) -> str:
    """Return the display name of the teacher with a sampler."""
    return f"teacher, {SAMPLERS.get(sampler).title}"


class EvaluatedBundle(Document):
    """A bundle to evaluate: manifest, path relative to the run directory, and digest."""

    manifest: Manifest
    path: str
    digest: str


class SampleSpec(Document):
    """Specification of one set of samples.

    Attributes:
        role: role in the comparison.
        bundle: path of the bundle, relative to the run directory.
        digest: digest of the bundle's content.
        round: index of the round that trained the network; None for the teacher.
        sampler: sampler of the set.
        steps: solver steps.
        w: guidance weight (0 is unguided; diffusers' guidance_scale is 1 + w).
        seed: seed of the starting noise.
        ladder: sampling the network was distilled for. One-step students are sampled alike in
            both ladders, but they are different networks.
    """

    role: Role
    bundle: str
    digest: str
    round: int | None
    sampler: str
    steps: int
    w: float
    seed: int
    ladder: Sampling = "deterministic"

    @property
    def is_stochastic_student(self) -> bool:
        """Whether the network belongs to the ladder of stochastic students."""
        return self.role == "student" and self.ladder == "stochastic"

    @property
    def adds_noise(self) -> bool:
        """Whether sampling adds noise after the starting noise."""
        return SAMPLERS.get(self.sampler).adds_noise and self.steps > 1

    @property
    def title(self) -> str:
        """Display name."""
        if self.role == "student":
            origin = "stage-1 student" if self.round == 0 else "student"
            noisy = ", stochastic" if self.is_stochastic_student else ""
            return f"{origin}, {format_count(self.steps, 'step')}{noisy}"
        return f"{teacher_title(self.sampler)}, {format_count(self.steps, 'step')}"

    @property
    def file(self) -> str:
        """File name of the samples, unique among evaluations of one sample count."""
        w = str(self.w).removesuffix(".0")  # all digits, so that no two weights share a file
        if self.role in ("noise_floor", "teacher"):
            return f"reference-w{w}-seed{self.seed}.npy"
        owner = "teacher" if self.round is None else f"round{self.round:02d}"
        return f"samples-{owner}-{self.sampler}-{self.steps}-w{w}.npy"


class Row(Document):
    """Scores of one sample set; `evaluations` counts network evaluations per sample."""

    cell: SampleSpec
    evaluations: int
    scores: Scores


W_CONVENTION = "guidance_scale = 1 + w; w = 0 is unguided"


class Protocol(Document):
    """Measurement settings of a report; numbers of different protocols are not comparable."""

    features: str
    classifier_sha256: str
    classifier_parameters: int
    classifier_heldout_accuracy: float
    num_samples: int
    num_heldout: int
    num_training: int
    neighbours: int = NEIGHBOURS
    bootstrap_resamples: int = RESAMPLES
    seed: int
    noise_floor_seed: int
    reference_steps: int
    w_convention: str = W_CONVENTION


class ExtractorRow(Document):
    """Scores of one sample set in the features of one extractor."""

    cell: SampleSpec
    evaluations: int
    scores: ExtractorScores


class ExtractorMetrics(Document):
    """All metrics of one extractor; tables never mix them with those of another extractor.

    Attributes:
        extractor: name of the extractor.
        kind: short name for files.
        metrics: protocol of each metric.
        rows: as in the report, without the noise-floor reference.
        real: scores of the held-out images and their captions; None without captions.
    """

    extractor: str
    kind: str
    metrics: tuple[MetricProtocol, ...]
    rows: tuple[ExtractorRow, ...]
    real: ExtractorScores | None = None

    @property
    def curve(self) -> str:
        """File name of its figure."""
        return f"curve-{self.kind}.png"


class Report(Document):
    """Result of an evaluation. Content only: no times, dates or absolute paths.

    Attributes:
        run: name of the recipe.
        protocol: measurement settings.
        class_names: class names, in order of label.
        real: training images scored like samples, as an ideal sampler would score. Their accuracy
            is optimistic, because the classifier was trained on them.
        rows: one per sample set, by w, then teacher, students, baselines.
        verdicts: checks of each student and of the negative controls.
        skipped: sample sets left out, with the reason.
        data_notes: notes on the data, such as transparent images.
        pictures: names of the figure files beside the report.
        metrics: protocol of each metric.
        panels: the same sample sets in the features of other extractors.
    """

    format_version: Literal[2] = 2
    run: str
    protocol: Protocol
    class_names: tuple[str, ...]
    real: Scores
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...] = ()
    skipped: tuple[str, ...]
    data_notes: tuple[str, ...] = Field(default=(), exclude_if=lambda notes: not notes)
    pictures: tuple[str, ...]
    metrics: tuple[MetricProtocol, ...] = ()
    panels: tuple[ExtractorMetrics, ...] = ()

    def at(self, w: float) -> list[Row]:
        """Return the rows of one guidance weight."""
        return [row for row in self.rows if row.cell.w == w]

    @property
    def weights(self) -> list[float]:
        """Guidance weights, in order of the recipe."""
        return list(dict.fromkeys(row.cell.w for row in self.rows))


class Agreement(Document):
    """Agreement with the teacher's samples from the same noise; fields as in `Scores`."""

    rms_to_teacher: float
    rms_to_teacher_interval: Range
    psnr_to_teacher: float | None = None
    psnr_to_teacher_interval: Range | None = None
    ssim_to_teacher: float | None = None
    ssim_to_teacher_interval: Range | None = None


class AgreementRow(Document):
    """Agreement of one sample set; `evaluations` counts network evaluations per sample."""

    cell: SampleSpec
    evaluations: int
    scores: Agreement


class AgreementProtocol(Document):
    """Measurement settings of a report on data without classes."""

    num_samples: int
    seed: int
    noise_floor_seed: int
    reference_steps: int
    w_convention: str = W_CONVENTION


class AgreementReport(Document):
    """Result of an evaluation on data without classes; other fields as in `Report`.

    Attributes:
        rows: by w: the teacher with other noise (the level of unrelated samples), then students
            and training-free samplers.
    """

    format_version: Literal[2] = 2
    kind: Literal["agreement"] = "agreement"
    run: str
    protocol: AgreementProtocol
    rows: tuple[AgreementRow, ...]
    verdicts: tuple[Verdict, ...] = ()
    data_notes: tuple[str, ...] = Field(default=(), exclude_if=lambda notes: not notes)
    pictures: tuple[str, ...]
    metrics: tuple[MetricProtocol, ...] = ()
    panels: tuple[ExtractorMetrics, ...] = ()

    @property
    def weights(self) -> list[float]:
        """Guidance weights, in order of the recipe."""
        return list(dict.fromkeys(row.cell.w for row in self.rows))


AnyReport = Report | AgreementReport

AnyRow = Row | AgreementRow | ExtractorRow


def baselines_of(rows: Sequence[AnyRow]) -> dict[str, list[AnyRow]]:
    """Group the rows of the teacher's baselines by sampler, the shipped samplers first."""
    chosen = [row for row in rows if row.cell.role == "baseline"]
    names = dict.fromkeys((*BASELINES, *(row.cell.sampler for row in chosen)))
    return {name: [row for row in chosen if row.cell.sampler == name] for name in names}


def read_report(folder: Path) -> AnyReport:
    """Load the `report.json` of a folder."""
    tree = json.loads((folder / REPORT_JSON).read_text(encoding="utf-8"))
    kind = AgreementReport if tree.get("kind") == "agreement" else Report
    return kind.model_validate(tree)


def write_json(document: Document, folder: Path) -> None:
    """Write a report as `report.json` into `folder`."""
    text = json.dumps(document.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / REPORT_JSON).write_text(text + "\n", encoding="utf-8")


def plan_cells(
    recipe: Recipe,
    teacher: EvaluatedBundle,
    students: Sequence[EvaluatedBundle],
    samplers: Sequence[str],
) -> list[SampleSpec]:
    """List all sample sets of an evaluation, by w: noise floor, teacher, students, baselines.

    Args:
        recipe: source of guidance weights, step counts and seed.
        teacher: the guided teacher.
        students: students of all rounds, in order. The stage-1 student has no step count; it is
            sampled with the first step count of the halving rounds.
        samplers: training-free samplers to compare with.
    """
    seed = recipe.evaluation.seed
    reference = recipe.teacher.reference_steps
    cells = []
    for w in dict.fromkeys(recipe.evaluation.w):
        cells.append(
            _cell("noise_floor", teacher, "ddim", reference, (w, seed + NOISE_FLOOR_SEED_OFFSET))
        )
        cells.append(_cell("teacher", teacher, "ddim", reference, (w, seed)))
        for student in students:
            steps = student.manifest.own_steps or recipe.any_steps
            own = default_sampler(student.manifest)
            cells.append(_cell("student", student, own, steps, (w, seed)))
        for sampler in samplers:
            for steps in sorted(set(recipe.evaluation.baseline_steps), reverse=True):
                if (sampler, steps) != ("ddim", reference):
                    cells.append(_cell("baseline", teacher, sampler, steps, (w, seed)))
    return cells


def _cell(
    role: Role,
    entrant: EvaluatedBundle,
    sampler: str,
    steps: int,
    conditions: tuple[float, int],
) -> SampleSpec:
    w, seed = conditions
    is_student = entrant.manifest.role == "student"
    return SampleSpec(
        role=role,
        bundle=entrant.path,
        digest=entrant.digest,
        round=entrant.manifest.lineage.round if is_student else None,
        sampler=sampler,
        steps=steps,
        w=w,
        seed=seed,
        ladder=entrant.manifest.sampler,
    )
