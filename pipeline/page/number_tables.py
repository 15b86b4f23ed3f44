"""Tables of all metrics of a report for the page, and their protocols."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.documents import Document
from pipeline.evaluation.documents import Report
from pipeline.evaluation.figures.curves import ReportRow
from pipeline.evaluation.metric_protocol import MetricProtocol
from pipeline.evaluation.reports.agreement import AgreementReport
from pipeline.evaluation.tables import (
    Column,
    TableLine,
    class_columns,
    columns_of,
    constants_of,
    format_cell,
    meaning_of,
    value_of,
)
from pipeline.page.view_model import ColumnProtocol, Table

AnyReport = Report | AgreementReport


@dataclass(frozen=True)
class Section:
    """Metrics of one extractor, or of the report's own classifier and pixels.

    Attributes:
        kind: short name of the extractor; empty for the report's own metrics.
        title: name of the extractor; empty for the report's own metrics.
        rows: rows by w.
        metrics: protocols.
        real: title and scores of real images scored like samples.
    """

    kind: str
    title: str
    rows: Sequence[ReportRow]
    metrics: Sequence[MetricProtocol]
    real: tuple[str, Document] | None = None

    def lines(self, w: float) -> list[TableLine]:
        """Return the table lines of a guidance weight."""
        return [line_of(row) for row in self.rows if row.cell.w == w]


def sections_of(report: AnyReport) -> list[Section]:
    """Split a report into its own metrics and those of each extractor."""
    own = ("training images", report.real) if isinstance(report, Report) else None
    found = [Section("", "", report.rows, report.metrics, own)]
    for panel in report.panels:
        real = ("held-out images", panel.real) if panel.real else None
        found.append(Section(panel.kind, panel.extractor, panel.rows, panel.metrics, real))
    return found


def number_tables(report: AnyReport) -> tuple[Table, ...]:
    """Build a table of all networks for each section and guidance weight."""
    weights = dict.fromkeys(row.cell.w for row in report.rows)
    return tuple(_table(section, w) for section in sections_of(report) for w in weights)


def _table(section: Section, w: float) -> Table:
    lines = section.lines(w)
    if section.real is not None:
        title, scores = section.real
        lines.append(TableLine(title, "", scores.model_dump()))
    return _filled(w, section.title, columns_in(section, lines), lines)


def class_tables(report: AnyReport) -> tuple[Table, ...]:
    """Build tables of the accuracy by class by w; empty if `class_columns` is empty."""
    found = []
    for w in dict.fromkeys(row.cell.w for row in report.rows):
        rows = [row for row in report.rows if row.cell.w == w]
        lines = [line_of(row) for row in rows if row.cell.role in ("teacher", "student")]
        columns = class_columns(lines)
        found += [_filled(w, "", columns, lines)] if columns else []
    return tuple(found)


def _filled(w: float, title: str, columns: Sequence[Column], lines: Sequence[TableLine]) -> Table:
    cells = [
        (
            0,
            line.title,
            line.evaluations,
            tuple(format_cell(line.scores, key, p) for _, key, p in columns),
        )
        for line in lines
    ]
    return Table(w, title, tuple(head for head, _, _ in columns), tuple(cells))


def columns_in(section: Section, lines: Sequence[TableLine]) -> list[Column]:
    """Return the columns with values."""
    found = [column for metric in section.metrics for column in columns_of(metric, lines)]
    return [
        (title, key, part)
        for title, key, part in found
        if any(value_of(line.scores, key, part) for line in lines)
    ]


def line_of(row: ReportRow) -> TableLine:
    """Convert a row of a report to a line of a table."""
    # the noise-floor row of an agreement report has the teacher's title
    other = ", other noise" if row.cell.role == "noise_floor" else ""
    return TableLine(f"{row.cell.title}{other}", str(row.evaluations), row.scores.model_dump())


def column_protocols(report: AnyReport) -> tuple[ColumnProtocol, ...]:
    """Return the protocols of all metrics."""
    return tuple(
        ColumnProtocol(
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
