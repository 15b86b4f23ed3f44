"""Sample grids of the page: one small PNG per network, from the same seeds."""

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image

from pipeline.evaluation.documents import AnyReport, Report, SampleSpec
from pipeline.evaluation.figures.grids import sample_rows, tile, unsupported_shape_reason
from pipeline.page.view_model import Picture, SampleGrids
from pipeline.sampling.sampler import Images, LabelArray, check_finite

_PER_CLASS = 8
_UNCLASSED_ROWS = 5
_MOST_PIXELS = 128  # largest side of a sample; the page displays samples smaller than that

Load = Callable[[SampleSpec], Images | None]


def build_sample_grids(
    report: AnyReport, w: float, labels: LabelArray, load: Load
) -> SampleGrids | None:
    """Build the sample grids of one guidance weight; None if samples are missing or not images.

    Args:
        report: report with the sample sets.
        w: guidance weight.
        labels: class of each sample.
        load: loads the samples of a set `[n, h, w, c]`; None if they no longer exist.

    Raises:
        DivergenceError: a sample to be shown is not finite.
    """
    rows = [row for row in report.rows if row.cell.w == w]
    reference = _reference(report, w)
    teacher = load(reference)
    if (
        teacher is None
        or teacher.shape[1:3] == (1, 1)
        or unsupported_shape_reason(teacher.shape[1:])
    ):
        return None
    chosen, names = _chosen(report, labels)
    students = [row for row in rows if row.cell.role == "student"]
    baselines = [row for row in rows if row.cell.role == "baseline"]
    cheapest = sorted(baselines, key=lambda row: (row.cell.steps, row.cell.sampler))[:1]
    others = []
    for row in (*students, *cheapest):
        images = load(row.cell)
        if images is not None:
            is_student = row.cell.role == "student"
            source = _png(images, chosen)
            others.append(Picture(row.cell.title, row.evaluations, is_student, source))
    # an agreement report has no teacher row; its noise-floor row has the same cost
    cost = next(row.evaluations for row in rows if row.cell.role in ("teacher", "noise_floor"))
    shown = Picture(reference.title, cost, is_student=False, source=_png(teacher, chosen))
    return SampleGrids(w, names, shown, tuple(others))


def png_data_uri(path: Path) -> str:
    """Encode a PNG file as a data URI."""
    return _uri(path.read_bytes())


def _reference(report: AnyReport, w: float) -> SampleSpec:
    """Return the teacher's set; derived from the noise-floor row in agreement reports."""
    cells = {row.cell.role: row.cell for row in report.rows if row.cell.w == w}
    changes = {"role": "teacher", "seed": report.protocol.seed}
    return cells.get("teacher") or cells["noise_floor"].model_copy(update=changes)


def _chosen(report: AnyReport, labels: LabelArray) -> tuple[list[list[int]], tuple[str, ...]]:
    """Select the samples to show, by row, and the title of each row."""
    if isinstance(report, Report):
        rows = sample_rows(labels, _PER_CLASS)
        return rows, tuple(report.class_names[int(labels[row[0]])] for row in rows)
    count = min(len(labels), _UNCLASSED_ROWS * _PER_CLASS)
    indices = list(range(count))
    return [indices[at : at + _PER_CLASS] for at in range(0, count, _PER_CLASS)], ()


def _png(images: Images, rows: Sequence[Sequence[int]]) -> str:
    places = iter(range(sum(map(len, rows))))
    renamed = [[next(places) for _ in row] for row in rows]
    chosen = images[np.concatenate(rows)]
    check_finite(chosen, "samples of the page")
    shown = _reduced(chosen)
    canvas = (tile(shown, renamed) * 255).round().astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(canvas).quantize(256, dither=Image.Dither.NONE).save(sink, "PNG", optimize=True)
    return _uri(sink.getvalue())


def _reduced(images: Images) -> Float32[np.ndarray, "_ _ _ c"]:
    """Downscale by area averaging to at most 128 pixels a side."""
    height, width = images.shape[1:3]
    shrink = _MOST_PIXELS / max(height, width)
    if shrink >= 1:
        return images
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    planes = images.clip(-1, 1).transpose(0, 3, 1, 2).reshape(-1, height, width)
    small = [Image.fromarray(plane).resize(size, Image.Resampling.BOX) for plane in planes]
    channels = np.stack([np.asarray(plane) for plane in small])
    return channels.reshape(len(images), -1, size[1], size[0]).transpose(0, 2, 3, 1)


def _uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")
