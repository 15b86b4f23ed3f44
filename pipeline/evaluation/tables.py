"""Tables of a report's numbers with intervals, as text: one column per metric protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.documents import Document
from pipeline.evaluation.documents import AnyReport, AnyRow, Report
from pipeline.evaluation.metric_protocol import MetricProtocol, check_comparable

Value = tuple[float, tuple[float, float] | None]
"""A number and its 95 % interval."""

Column = tuple[str, str, str | None]
"""Heading, metric, and part of the prompt or class."""

_FORMS = {
    "class_accuracy": ".1%",
    "accuracy_by_class": ".1%",
    "prompt_accuracy": ".1%",
    "inception_score": ".2f",
    "psnr_to_teacher": ".1f",
    "relative_distance": ".2f",
    "effective_w": ".2f",
    "kid_to_real": ".4f",
    "clip_score": ".2f",
}
_PARTS = "prompt_accuracy"
_BY_CLASS = "accuracy_by_class"
_MOST_CLASSES = 20  # wider tables are not readable
_OWN_TABLES = {
    "Against real images": (
        *(
            "distance_to_real",
            "relative_distance",
            "kid_to_real",
            "precision",
            "recall",
            "density",
            "coverage",
        ),
        "nearest_training",
    ),
    "Conditioning": ("class_accuracy", "accuracy_by_class", "inception_score", _PARTS),
    "Against the teacher": (
        *("effective_w", "distance_to_teacher", "rms_to_teacher", "psnr_to_teacher"),
        "ssim_to_teacher",
    ),
}


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        w: guidance weight of its rows; None if they differ.
        title: heading; may be empty.
        heads: column headings.
        rows: cells of each row, the first of which names the row.
        sides: index of each row's run (0 or 1) in a comparison of two runs; else empty.
    """

    w: float | None
    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sides: tuple[int, ...] = ()

    @property
    def markdown(self) -> str:
        """The table in Markdown, without its title."""
        rule = f"|---|--:|{':-:|' * (len(self.heads) - 2)}\n"
        head, *rows = (
            "".join(f"| {_escape(cell)} " for cell in cells) + "|\n"
            for cells in (self.heads, *self.rows)
        )
        return "".join([head, rule, *rows])


def _escape(cell: str) -> str:
    return cell.replace("|", r"\|")  # class names are user input


@dataclass(frozen=True)
class TableLine:
    """A row of a table: title, network evaluations per sample, and numbers by metric."""

    title: str
    evaluations: str
    scores: Mapping[str, Any]


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
    rows: Sequence[AnyRow]
    metrics: Sequence[MetricProtocol]
    real: tuple[str, Document] | None = None

    def tables(self, w: float) -> list[Table]:
        """Return the tables of all metrics at one guidance weight."""
        lines = [line_of(row) for row in self.rows if row.cell.w == w]
        if self.real is not None:
            lines.append(TableLine(self.real[0], "", self.real[1].model_dump()))
        groups: Mapping[str, Sequence[str]] = _OWN_TABLES
        if self.title:
            groups = {f"In the features of {self.title}": [each.metric for each in self.metrics]}
        found = []
        for title, keys in groups.items():
            metrics = [each for each in self.metrics if each.metric in keys]
            columns = _with_values(metric_columns(metrics, lines), lines)
            found += [filled_table(columns, lines, w, title)] if columns else []
        return found

    def columns(self) -> list[Column]:
        """Return the columns with values, over all guidance weights."""
        lines = [line_of(row) for row in self.rows]
        return _with_values(metric_columns(self.metrics, lines), lines)


def sections_of(report: AnyReport) -> list[Section]:
    """Split a report into its own metrics and those of each extractor."""
    own = ("training images", report.real) if isinstance(report, Report) else None
    found = [Section("", "", report.rows, report.metrics, own)]
    for panel in report.panels:
        real = ("held-out images", panel.real) if panel.real else None
        found.append(Section(panel.kind, panel.extractor, panel.rows, panel.metrics, real))
    return found


def class_tables(report: AnyReport) -> tuple[Table, ...]:
    """Build tables of the accuracy by class by w; empty if `class_columns` is empty."""
    found = []
    for w in report.weights:
        rows = [r for r in report.rows if r.cell.w == w and r.cell.role in ("teacher", "student")]
        lines = [line_of(row) for row in rows]
        columns = class_columns(lines)
        found += [filled_table(columns, lines, w)] if columns else []
    return tuple(found)


def line_of(row: AnyRow) -> TableLine:
    """Convert a row of a report to a line of a table."""
    # the noise-floor row of an agreement report has the teacher's title
    other = ", other noise" if row.cell.role == "noise_floor" else ""
    return TableLine(f"{row.cell.title}{other}", str(row.evaluations), row.scores.model_dump())


def metric_columns(metrics: Sequence[MetricProtocol], lines: Sequence[TableLine]) -> list[Column]:
    """Return one column per protocol, or one per part of the prompt.

    Raises:
        DataError: two different protocols have the same metric.
    """
    by_metric: dict[str, list[MetricProtocol]] = {}
    for metric in metrics:
        by_metric.setdefault(metric.metric, []).append(metric)
    columns: list[Column] = []
    for key, protocols in by_metric.items():
        check_comparable(protocols)
        if key == _PARTS:
            parts = dict.fromkeys(part for line in lines for part in line.scores.get(_PARTS) or ())
            columns += [(part, _PARTS, part) for part in parts]
        else:
            columns.append((protocols[0].title, key, None))
    return columns


def class_columns(lines: Sequence[TableLine]) -> list[Column]:
    """Return a column per class; empty without accuracy by class, or with over 20 classes."""
    names = dict.fromkeys(name for line in lines for name in line.scores.get(_BY_CLASS) or ())
    return [(name, _BY_CLASS, name) for name in names] if len(names) <= _MOST_CLASSES else []


def headed_table(heads: Mapping[str, str], lines: Sequence[TableLine], w: float) -> Table:
    """Build a table of numbers by key, with the given headings; empty columns are omitted."""
    columns: list[Column] = [(title, key, None) for key, title in heads.items()]
    return filled_table(_with_values(columns, lines), lines, w)


def filled_table(
    columns: Sequence[Column], lines: Sequence[TableLine], w: float | None, title: str = ""
) -> Table:
    """Build a table of networks and their evaluations; missing numbers are dashes."""
    rows = tuple(
        (line.title, line.evaluations, *(format_cell(line.scores, key, p) for _, key, p in columns))
        for line in lines
    )
    return Table(w, title, ("network", "evaluations", *(head for head, _, _ in columns)), rows)


def _with_values(columns: Sequence[Column], lines: Sequence[TableLine]) -> list[Column]:
    return [
        (title, key, part)
        for title, key, part in columns
        if any(value_of(line.scores, key, part) for line in lines)
    ]


def value_of(scores: Mapping[str, Any], metric: str, part: str | None = None) -> Value | None:
    """Return a number of a row and its interval; None where it was not measured.

    For accuracy by class, returns that of the worst class unless `part` names a class.
    """
    if metric == _BY_CLASS and part is None:
        part = worst_class(scores)
    value, interval = scores.get(metric), scores.get(f"{metric}_interval")
    if part is not None:
        value, interval = (value or {}).get(part), (interval or {}).get(part)
    return None if value is None else (value, interval)


def main_metric(report: AnyReport) -> tuple[str, str]:
    """Return the key and the name of the main metric of a report."""
    if isinstance(report, Report):
        return "distance_to_real", "Fréchet distance to real images"
    return "rms_to_teacher", "RMS to the teacher's sample"


def metric_of(row: AnyRow, key: str, part: str | None = None) -> Value | None:
    """Return a metric of a row with its interval; None if it was not measured."""
    return value_of(row.scores.model_dump(), key, part)


def format_cell(scores: Mapping[str, Any], metric: str, part: str | None = None) -> str:
    """Format a number of a row with its interval; a dash where it was not measured.

    The worst class is prefixed by its name, such as "3: 81.0% (72.0% to 90.0%)".
    """
    found = value_of(scores, metric, part)
    if found is None:
        return "-"
    text = format_estimate(found, _FORMS.get(metric, ".3f"))
    is_worst = metric == _BY_CLASS and part is None
    return f"{worst_class(scores)}: {text}" if is_worst else text


def worst_class(scores: Mapping[str, Any]) -> str | None:
    """Return the class of lowest accuracy, the first one of ties."""
    shares: Mapping[str, float] = scores.get(_BY_CLASS) or {}
    return min(shares, key=lambda name: shares[name], default=None)


def format_estimate(found: Value, form: str = ".3f") -> str:
    """Format a number and its interval, such as "0.381 (0.345 to 0.412)"."""
    value, interval = found
    if interval is None:
        return f"{value:{form}}"
    return f"{value:{form}} ({interval[0]:{form}} to {interval[1]:{form}})"


def protocol_table(metrics: Sequence[MetricProtocol], title: str = "") -> Table:
    """Build a table of the protocols of all columns."""
    heads = ("column", "meaning", "extractor", "reference", "constants", "protocol")
    rows = tuple(
        (
            metric.title,
            metric.meaning + (f" ({metric.source})" if metric.source else ""),
            " ".join((metric.extractor, (metric.extractor_sha256 or "")[:12])).strip(),
            metric.reference.name,
            ", ".join(f"{name} {value:g}" for name, value in metric.settings.items()) or "-",
            metric.identity,
        )
        for metric in metrics
    )
    return Table(None, title, heads, rows)
