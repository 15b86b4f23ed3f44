"""Samples for a browser: each network's as one small PNG inside the page, the same seeds in all."""

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image

from pipeline.evaluation.documents import Cell, Report
from pipeline.evaluation.figures.grids import sample_rows, tile, why_no_picture
from pipeline.evaluation.reports.agreement import AgreementReport
from pipeline.page.view_model import Look, Picture
from pipeline.sampling.sampler import Images, LabelArray

_PER_CLASS = 8
_UNCLASSED_ROWS = 5
_MOST_PIXELS = 128  # a side of a sample: on a page it is seen smaller than that

Load = Callable[[Cell], Images | None]


def look_at(
    report: Report | AgreementReport, w: float, labels: LabelArray, load: Load
) -> Look | None:
    """The samples at one guidance weight; None if they are not pictures or are not there.

    Args:
        report: says which sets of samples there are.
        w: the guidance weight.
        labels: the class of each sample.
        load: the samples of a cell `[n, h, w, c]`, None if they are gone.
    """
    rows = [row for row in report.rows if row.cell.w == w]
    reference = _reference(report, w)
    teacher = load(reference)
    if teacher is None or teacher.shape[1:3] == (1, 1) or why_no_picture(teacher.shape[1:]):
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
    # the yardstick of a report of agreement cost what the reference did
    cost = next(row.evaluations for row in rows if row.cell.role in ("teacher", "yardstick"))
    shown = Picture(reference.title, cost, is_student=False, source=_png(teacher, chosen))
    return Look(w, names, shown, tuple(others))


def picture_of(path: Path) -> str:
    """A PNG file as a data URI."""
    return _uri(path.read_bytes())


def _reference(report: Report | AgreementReport, w: float) -> Cell:
    """The teacher's cell; a report of agreement has a row for its yardstick only."""
    cells = {row.cell.role: row.cell for row in report.rows if row.cell.w == w}
    told = {"role": "teacher", "seed": report.protocol.seed}
    return cells.get("teacher") or cells["yardstick"].model_copy(update=told)


def _chosen(
    report: Report | AgreementReport, labels: LabelArray
) -> tuple[list[list[int]], tuple[str, ...]]:
    """Which samples are shown, row by row, and what each row is called."""
    if isinstance(report, Report):
        rows = sample_rows(labels, _PER_CLASS)
        return rows, tuple(report.class_names[int(labels[row[0]])] for row in rows)
    count = min(len(labels), _UNCLASSED_ROWS * _PER_CLASS)
    indices = list(range(count))
    return [indices[at : at + _PER_CLASS] for at in range(0, count, _PER_CLASS)], ()


def _png(images: Images, rows: Sequence[Sequence[int]]) -> str:
    places = iter(range(sum(map(len, rows))))
    renamed = [[next(places) for _ in row] for row in rows]
    shown = _reduced(images[np.concatenate(rows)])
    canvas = (tile(shown, renamed) * 255).round().astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(canvas).quantize(256, dither=Image.Dither.NONE).save(sink, "PNG", optimize=True)
    return _uri(sink.getvalue())


def _reduced(images: Images) -> Float32[np.ndarray, "_ _ _ c"]:
    """At most 128 pixels a side, each the mean of the area it stands for."""
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
