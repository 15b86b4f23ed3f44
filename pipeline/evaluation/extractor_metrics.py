"""Numbers in the features of one extractor: a panel of its own, with protocols of its own."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # it has no stubs

from pipeline.evaluation.candidates import Comparison, ReadSets
from pipeline.evaluation.documents import RESAMPLES, Cell, Panel, PanelRow
from pipeline.evaluation.metric_protocol import MetricProtocol, Reference
from pipeline.evaluation.metric_specs import Setting, against_real, against_teacher
from pipeline.evaluation.metrics.bootstrap import Bootstrap, Found
from pipeline.evaluation.metrics.frechet import Features, Moments, frechet_found
from pipeline.evaluation.metrics.real import RealImages
from pipeline.evaluation.scores import PanelScores
from pipeline.evaluation.scoring import named
from pipeline.evaluation.tables import Line, protocol_table, table
from pipeline.sampling.conditions import Asked

CLIP_SOURCE = "Hessel et al. 2021, arXiv:2104.08718: 100 max(cos, 0), as torchmetrics has it"


def panels_of(comparison: Comparison, asked: Asked, setting: Setting) -> tuple[Panel, ...]:
    """A panel for each extractor that read the sets of samples."""
    cells = [(each.cell, each.evaluations) for each in comparison.sets]
    return tuple(measure_panel(read, cells, asked, setting) for read in comparison.readings)


def scores_of_means(comparison: Comparison, asked: Asked) -> dict[float, PanelScores]:
    """By guidance weight, what the first extractor says were every sample the teacher's mean."""
    if not comparison.readings:
        return {}
    read, cells = comparison.readings[0], [each.cell for each in comparison.sets]
    with threadpool_limits(1, user_api="blas"):
        judge, yardsticks = _Judge(read, asked), _yardsticks(read, cells)
        return {
            cell.w: judge.score(read.mean_of(cell), cell.seed, yardsticks[cell.w])
            for cell in cells
            if cell.role == "teacher"
        }


def panel_section(panel: Panel) -> str:
    """A panel for people: its tables by w, and how each of its numbers was made."""
    parts = [f"## In the features of {panel.extractor}\n"]
    for w in dict.fromkeys(row.cell.w for row in panel.rows):
        lines = [
            Line(row.cell.title, str(row.evaluations), row.scores.model_dump())
            for row in panel.rows
            if row.cell.w == w
        ]
        if panel.real is not None:
            lines.append(Line("*held-out images*", "-", panel.real.model_dump()))
        parts.append(f"### w = {w:g}\n\n{table(panel.metrics, lines)}")
    return "\n".join([*parts, protocol_table(panel.metrics)])


def measure_panel(
    read: ReadSets, cells: Sequence[tuple[Cell, int]], asked: Asked, setting: Setting
) -> Panel:
    """All that is measured in an extractor's features, `cells` with the cost of a sample each."""
    with threadpool_limits(1, user_api="blas"):
        judge, yardsticks = _Judge(read, asked), _yardsticks(read, [cell for cell, _ in cells])
        rows = tuple(
            PanelRow(
                cell=cell,
                evaluations=cost,
                scores=judge.score(read.of(cell), cell.seed, yardsticks[cell.w]),
            )
            for cell, cost in cells
            if cell.role != "yardstick"
        )
        real = PanelScores.model_validate(named(judge.score_real(setting.seed)))
    return Panel(
        extractor=read.name,
        kind=read.kind,
        metrics=tuple(
            metric.model_copy(update={"extractor_identity": read.identity})
            for metric in _protocols(read, setting)
        ),
        rows=rows,
        real=real if read.prompts is not None and read.heldout is not None else None,
    )


def _yardsticks(read: ReadSets, cells: Sequence[Cell]) -> dict[float, Moments]:
    return {cell.w: Moments.of(read.of(cell)) for cell in cells if cell.role == "yardstick"}


class _Judge:
    """Holds what all sets of samples are compared with."""

    def __init__(self, read: ReadSets, asked: Asked) -> None:
        self._read, self._asked = read, asked
        self._heldout = None if read.heldout is None else RealImages(read.heldout)

    def score(self, features: Features, seed: int, yardstick: Moments) -> PanelScores:
        bootstrap = Bootstrap(self._asked.labels, RESAMPLES, seed)
        found = {"distance_to_teacher": frechet_found(yardstick, features, bootstrap)}
        if self._heldout is not None:
            found |= self._heldout.compare(features, bootstrap)
        if self._read.prompts is not None:
            found["clip_score"] = bootstrap.mean(clip_scores(features, self._read.prompts))
        return PanelScores.model_validate(named(found))

    def score_real(self, seed: int) -> dict[str, Found]:
        """How well the real images go with their own captions."""
        heldout, prompts, rows = self._read.heldout, self._read.prompts, self._asked.rows
        if heldout is None or prompts is None or rows is None:
            return {}
        bootstrap = Bootstrap(self._asked.labels, RESAMPLES, seed)
        return {"clip_score": bootstrap.mean(clip_scores(heldout[rows], prompts))}


def clip_scores(images: Features, prompts: Features) -> Float[np.ndarray, "_"]:
    """100 max(cos(image, prompt), 0) of every pair `[n]`.

    Source: Hessel et al. 2021, arXiv:2104.08718, eq. 1, with a weight of 100 for their 2.5.
    """
    x, y = images.astype(np.float64), prompts.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    found: np.ndarray = 100 * np.maximum(np.sum(x * y, axis=1) / lengths, 0)
    return found


def _protocols(read: ReadSets, setting: Setting) -> list[MetricProtocol]:
    extractor = (read.name, read.sha256)
    found = []
    if read.heldout is not None:
        real = setting.real("heldout", len(read.heldout))
        found = against_real(setting, extractor, real, read.distance)
    found.append(against_teacher(setting, extractor))
    if read.prompts is not None:
        prompt = Reference(name="the prompt", data_sha256=setting.data_sha256, split="heldout")
        words = ("CLIP score", "how well an image goes with its prompt")
        found.append(setting.metric("clip_score", words, extractor, prompt, CLIP_SOURCE))
    return found
