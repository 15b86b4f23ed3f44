"""What an evaluation compares, decided before anything is sampled, and the report it ends in.

A cell is one set of samples: a network, a sampler, a step count, a guidance weight and a seed. All
cells of a guidance weight share classes and starting noise; only the yardstick, the teacher's own
samples that distances to the teacher are measured against, has other noise. So the teacher's row
holds the floor: how far the teacher is from itself.
"""

from collections.abc import Sequence
from typing import Literal

from pipeline.bundle import Manifest
from pipeline.config import Recipe
from pipeline.diffusion.grid import Sampling
from pipeline.documents import Document
from pipeline.evaluation.metric_protocol import MetricProtocol
from pipeline.evaluation.metrics.manifold import NEIGHBOURS
from pipeline.evaluation.scores import PanelScores, Scores
from pipeline.evaluation.verdicts.checks import Verdict
from pipeline.sampling.solvers import Sampler, own_sampler
from pipeline.wording import counted

RESAMPLES = 100
YARDSTICK_SEED_OFFSET = 1

SAMPLER_NAMES: dict[Sampler, str] = {
    "ddim": "DDIM",
    "stochastic": "stochastic",
    "dpm++": "DPM-Solver++",
    "unipc": "UniPC",
}

Role = Literal["yardstick", "teacher", "student", "baseline"]


class Entrant(Document):
    """A bundle that takes part: its manifest, where it lies in the run directory, its digest."""

    manifest: Manifest
    path: str
    digest: str


class Cell(Document):
    """One set of samples.

    Attributes:
        role: what it is in the comparison.
        bundle: path of the bundle, relative to the run directory.
        digest: of the bundle's content.
        round: the round that made the network; None for the teacher.
        sampler: how it is sampled.
        steps: solver steps.
        w: guidance weight (0 is unguided; diffusers' guidance_scale is 1 + w).
        seed: of the starting noise.
        ladder: what the network was made for. A student of one step is sampled alike in both
            ladders, and still is another network.
    """

    role: Role
    bundle: str
    digest: str
    round: int | None
    sampler: Sampler
    steps: int
    w: float
    seed: int
    ladder: Sampling = "deterministic"

    @property
    def is_stochastic_student(self) -> bool:
        """Whether its network is one of a ladder of stochastic students."""
        return self.role == "student" and self.ladder == "stochastic"

    @property
    def adds_noise(self) -> bool:
        """Whether there is noise in its samples that they did not begin from."""
        return self.sampler == "stochastic" and self.steps > 1

    @property
    def title(self) -> str:
        """What a person calls it."""
        if self.role == "student":
            origin = "stage-1 student" if self.round == 0 else "student"
            noisy = ", stochastic" if self.is_stochastic_student else ""
            return f"{origin}, {counted(self.steps, 'step')}{noisy}"
        return f"teacher, {SAMPLER_NAMES[self.sampler]}, {counted(self.steps, 'step')}"

    @property
    def file(self) -> str:
        """A name for its samples, unique within an evaluation of one size."""
        w = str(self.w).removesuffix(".0")  # every digit: no two weights share a file
        if self.role in ("yardstick", "teacher"):
            return f"reference-w{w}-seed{self.seed}.npy"
        owner = "teacher" if self.round is None else f"round{self.round:02d}"
        return f"samples-{owner}-{self.sampler}-{self.steps}-w{w}.npy"


class Row(Document):
    """A cell and what was measured on it; `evaluations` of the network is what one sample cost."""

    cell: Cell
    evaluations: int
    scores: Scores


class Protocol(Document):
    """How the numbers were made; numbers of two protocols are not comparable."""

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
    yardstick_seed: int
    reference_steps: int
    w_convention: str = "guidance_scale = 1 + w; w = 0 is unguided"


class PanelRow(Document):
    """A cell and what was measured on it in the features of one extractor."""

    cell: Cell
    evaluations: int
    scores: PanelScores


class Panel(Document):
    """All numbers of one extractor; they stand in no table with those of another.

    Attributes:
        extractor: its name.
        kind: a short name for files.
        metrics: how each number of a row was made.
        rows: as in the report, the yardstick left out.
        real: the held-out images and their own captions; None where nothing compares.
    """

    extractor: str
    kind: str
    metrics: tuple[MetricProtocol, ...]
    rows: tuple[PanelRow, ...]
    real: PanelScores | None = None

    @property
    def curve(self) -> str:
        """Name of its picture."""
        return f"curve-{self.kind}.png"


class Report(Document):
    """The result of an evaluation: content only, no times, dates or absolute paths.

    Attributes:
        run: the recipe's name.
        protocol: how it was measured.
        class_names: names of the classes, in order of label.
        real: training images measured as if they were samples: what a perfect sampler would get.
            The classifier has seen them, which flatters their accuracy.
        rows: one for each cell, by w, then teacher, students, baselines.
        verdicts: how faithful each student is, and that the controls, bad on purpose, are not.
        skipped: what was left out, with the reason.
        pictures: file names beside the report.
        metrics: how each number of a row was made.
        panels: the same sets of samples in the features of other extractors.
    """

    format_version: Literal[2] = 2
    run: str
    protocol: Protocol
    class_names: tuple[str, ...]
    real: Scores
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...] = ()
    skipped: tuple[str, ...]
    pictures: tuple[str, ...]
    metrics: tuple[MetricProtocol, ...] = ()
    panels: tuple[Panel, ...] = ()

    def at(self, w: float) -> list[Row]:
        """The rows of one guidance weight."""
        return [row for row in self.rows if row.cell.w == w]

    @property
    def weights(self) -> list[float]:
        """The guidance weights, in order of the recipe."""
        return list(dict.fromkeys(row.cell.w for row in self.rows))


def plan_cells(
    recipe: Recipe, teacher: Entrant, students: Sequence[Entrant], samplers: Sequence[Sampler]
) -> list[Cell]:
    """All sets of samples of an evaluation, by w: yardstick, teacher, students, baselines.

    Args:
        recipe: says weights, step counts and seed.
        teacher: the guided teacher.
        students: of all rounds, in order; one without a step count of its own (stage 1) is sampled
            as round 1 does.
        samplers: the training-free samplers to compare with.
    """
    seed = recipe.evaluation.seed
    reference = recipe.teacher.reference_steps
    cells = []
    for w in dict.fromkeys(recipe.evaluation.w):
        cells.append(
            _cell("yardstick", teacher, "ddim", reference, (w, seed + YARDSTICK_SEED_OFFSET))
        )
        cells.append(_cell("teacher", teacher, "ddim", reference, (w, seed)))
        for student in students:
            steps = (student.manifest.steps or [recipe.halving.first_steps])[0]
            own = own_sampler(student.manifest)
            cells.append(_cell("student", student, own, steps, (w, seed)))
        for sampler in samplers:
            for steps in sorted(set(recipe.evaluation.baseline_steps), reverse=True):
                if (sampler, steps) != ("ddim", reference):
                    cells.append(_cell("baseline", teacher, sampler, steps, (w, seed)))
    return cells


def _cell(
    role: Role, entrant: Entrant, sampler: Sampler, steps: int, conditions: tuple[float, int]
) -> Cell:
    w, seed = conditions
    is_student = entrant.manifest.role == "student"
    return Cell(
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
