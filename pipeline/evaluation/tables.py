"""Markdown tables of a report: numbers with intervals, one column per protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.metric_protocol import MetricProtocol, check_comparable

Value = tuple[float, tuple[float, float] | None]

_FORMS = {
    "class_accuracy": ".1%",
    "accuracy_by_class": ".1%",
    "prompt_accuracy": ".1%",
    "inception_score": ".2f",
    "psnr_to_teacher": ".1f",
    "kid_to_real": ".4f",
    "clip_score": ".2f",
}
_PARTS = "prompt_accuracy"
_BY_CLASS = "accuracy_by_class"
_MOST_CLASSES = 20  # wider tables are not readable

Column = tuple[str, str, str | None]
"""Heading, metric, and part of the prompt or class."""


@dataclass(frozen=True)
class TableLine:
    """A row of a table: title, network evaluations per sample, and numbers by metric."""

    title: str
    evaluations: str
    scores: Mapping[str, Any]


def metric_table(metrics: Sequence[MetricProtocol], lines: Sequence[TableLine]) -> str:
    """Format a table with one column per protocol; missing numbers are dashes.

    Raises:
        DataError: two different protocols have the same metric.
    """
    by_metric: dict[str, list[MetricProtocol]] = {}
    for metric in metrics:
        by_metric.setdefault(metric.metric, []).append(metric)
    for protocols in by_metric.values():
        check_comparable(protocols)
    columns = [column for key in by_metric for column in columns_of(by_metric[key][0], lines)]
    return _written(columns, lines)


def plain_table(heads: Mapping[str, str], lines: Sequence[TableLine]) -> str:
    """Format a table of numbers by key, with the given headings; empty columns are omitted."""
    present = [key for key in heads if any(value_of(line.scores, key) for line in lines)]
    return _written([(heads[key], key, None) for key in present], lines)


def class_table(lines: Sequence[TableLine]) -> str:
    """Format a table of the accuracy of each class; empty if `class_columns` is empty."""
    columns = class_columns(lines)
    return _written(columns, lines) if columns else ""


def _written(columns: Sequence[Column], lines: Sequence[TableLine]) -> str:
    head = "".join(f"| {_in_a_cell(title)} " for title, _, _ in columns)
    text = f"| network | evaluations {head}|\n|---|--:|{':-:|' * len(columns)}\n"
    for line in lines:
        found = (format_cell(line.scores, key, part) for _, key, part in columns)
        cells = "".join(f"| {_in_a_cell(text)} " for text in found)
        text += f"| {line.title} | {line.evaluations} {cells}|\n"
    return text


def _in_a_cell(text: str) -> str:
    return text.replace("|", r"\|")  # class names are user input


def columns_of(metric: MetricProtocol, lines: Sequence[TableLine]) -> list[Column]:
    """Return the columns of a protocol: one, or one per part of the prompt."""
    if metric.metric != _PARTS:
        return [(metric.title, metric.metric, None)]
    parts = dict.fromkeys(part for line in lines for part in line.scores.get(_PARTS) or ())
    return [(part, _PARTS, part) for part in parts]


def class_columns(lines: Sequence[TableLine]) -> list[Column]:
    """Return a column per class; empty without accuracy by class, or with over 20 classes."""
    names = dict.fromkeys(name for line in lines for name in line.scores.get(_BY_CLASS) or ())
    return [(name, _BY_CLASS, name) for name in names] if len(names) <= _MOST_CLASSES else []


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


def protocol_table(metrics: Sequence[MetricProtocol]) -> str:
    """Format the protocols of all columns as a table."""
    heads = ("column", "meaning", "extractor", "reference", "constants", "protocol")
    text = f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|\n"
    for metric in metrics:
        weights = metric.extractor_sha256
        extractor = metric.extractor + (f", `{weights[:12]}`" if weights else "")
        cells = (metric.title, meaning_of(metric), extractor, metric.reference.name)
        text += "".join(f"| {each} " for each in (*cells, constants_of(metric)))
        text += f"| `{metric.identity}` |\n"
    return text


def meaning_of(metric: MetricProtocol) -> str:
    """Return the meaning of a metric with its source."""
    return metric.meaning + (f" ({metric.source})" if metric.source else "")


def constants_of(metric: MetricProtocol) -> str:
    """Format the constants of a metric; a dash if it has none."""
    return ", ".join(f"{name} {value:g}" for name, value in metric.settings.items()) or "-"
