"""All numbers of a report as tables for a page, and how each of them was made."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.documents import Document
from pipeline.evaluation.documents import Report
from pipeline.evaluation.figures.curves import Point
from pipeline.evaluation.metric_protocol import MetricProtocol
from pipeline.evaluation.reports.agreement import AgreementReport
from pipeline.evaluation.tables import (
    Column,
    Line,
    cell,
    class_columns,
    columns_of,
    constants_of,
    meaning_of,
    value_of,
)
from pipeline.page.view_model import Made, Table

AnyReport = Report | AgreementReport


@dataclass(frozen=True)
class Section:
    """Numbers that one reader has read.

    Attributes:
        kind: a short name of the reader; empty for a report's own numbers.
        title: whose features they are; empty for a report's own.
        rows: by w.
        metrics: how they were made.
        real: real images measured as if they were samples, with what they are called.
    """

    kind: str
    title: str
    rows: Sequence[Point]
    metrics: Sequence[MetricProtocol]
    real: tuple[str, Document] | None = None

    def lines(self, w: float) -> list[Line]:
        """What was measured at a guidance weight."""
        return [line_of(row) for row in self.rows if row.cell.w == w]


def sections_of(report: AnyReport) -> list[Section]:
    """A report's own numbers, then those of each extractor."""
    own = ("training images", report.real) if isinstance(report, Report) else None
    found = [Section("", "", report.rows, report.metrics, own)]
    for panel in report.panels:
        real = ("held-out images", panel.real) if panel.real else None
        found.append(Section(panel.kind, panel.extractor, panel.rows, panel.metrics, real))
    return found


def number_tables(report: AnyReport) -> tuple[Table, ...]:
    """A table for each reader and guidance weight, with all networks in it."""
    weights = dict.fromkeys(row.cell.w for row in report.rows)
    return tuple(_table(section, w) for section in sections_of(report) for w in weights)


def _table(section: Section, w: float) -> Table:
    lines = section.lines(w)
    if section.real is not None:
        title, scores = section.real
        lines.append(Line(title, "", scores.model_dump()))
    return _filled(w, section.title, columns_in(section, lines), lines)


def class_tables(report: AnyReport) -> tuple[Table, ...]:
    """Accuracy of each class, teacher and students, by w; none where `class_columns` are none."""
    found = []
    for w in dict.fromkeys(row.cell.w for row in report.rows):
        rows = [row for row in report.rows if row.cell.w == w]
        lines = [line_of(row) for row in rows if row.cell.role in ("teacher", "student")]
        columns = class_columns(lines)
        found += [_filled(w, "", columns, lines)] if columns else []
    return tuple(found)


def _filled(w: float, title: str, columns: Sequence[Column], lines: Sequence[Line]) -> Table:
    cells = [
        (0, line.title, line.evaluations, tuple(cell(line.scores, key, p) for _, key, p in columns))
        for line in lines
    ]
    return Table(w, title, tuple(head for head, _, _ in columns), tuple(cells))


def columns_in(section: Section, lines: Sequence[Line]) -> list[Column]:
    """What some of the lines have."""
    found = [column for metric in section.metrics for column in columns_of(metric, lines)]
    return [
        (title, key, part)
        for title, key, part in found
        if any(value_of(line.scores, key, part) for line in lines)
    ]


def line_of(row: Point) -> Line:
    """A row of a report as a line of a table."""
    # an agreement's yardstick has the teacher's title
    other = ", other noise" if row.cell.role == "yardstick" else ""
    return Line(f"{row.cell.title}{other}", str(row.evaluations), row.scores.model_dump())


def made_of(report: AnyReport) -> tuple[Made, ...]:
    """How all numbers were made."""
    return tuple(
        Made(
            column=metric.title,
            what=meaning_of(metric),
            reader=" ".join((metric.extractor, (metric.extractor_sha256 or "")[:12])).strip(),
            reference=metric.reference.name,
            constants=constants_of(metric),
            protocol=metric.identity,
        )
        for section in sections_of(report)
        for metric in section.metrics
    )
