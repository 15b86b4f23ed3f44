"""Tables of a report for people: every number with its interval, every column with its protocol."""

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
_MOST_CLASSES = 20  # a table with more columns is not read

Column = tuple[str, str, str | None]
"""Head, metric, part of the prompt or class."""


@dataclass(frozen=True)
class Line:
    """A row of a table: what it is, what a sample cost, its numbers by metric."""

    title: str
    evaluations: str
    scores: Mapping[str, Any]


def table(metrics: Sequence[MetricProtocol], lines: Sequence[Line]) -> str:
    """A column for each protocol, a line each; a number that was not measured is a dash.

    Raises:
        DataError: two protocols would share a column.
    """
    by_metric: dict[str, list[MetricProtocol]] = {}
    for metric in metrics:
        by_metric.setdefault(metric.metric, []).append(metric)
    for sharing in by_metric.values():
        check_comparable(sharing)
    columns = [column for key in by_metric for column in columns_of(by_metric[key][0], lines)]
    return _written(columns, lines)


def plain_table(heads: Mapping[str, str], lines: Sequence[Line]) -> str:
    """As `table`, of numbers by key with the heads of their columns, without what no line has."""
    had = [key for key in heads if any(value_of(line.scores, key) for line in lines)]
    return _written([(heads[key], key, None) for key in had], lines)


def class_table(lines: Sequence[Line]) -> str:
    """As `table`, of the accuracy of each class; empty where `class_columns` are none."""
    columns = class_columns(lines)
    return _written(columns, lines) if columns else ""


def _written(columns: Sequence[Column], lines: Sequence[Line]) -> str:
    head = "".join(f"| {_in_a_cell(title)} " for title, _, _ in columns)
    text = f"| network | evaluations {head}|\n|---|--:|{':-:|' * len(columns)}\n"
    for line in lines:
        found = (cell(line.scores, key, part) for _, key, part in columns)
        cells = "".join(f"| {_in_a_cell(text)} " for text in found)
        text += f"| {line.title} | {line.evaluations} {cells}|\n"
    return text


def _in_a_cell(text: str) -> str:
    return text.replace("|", r"\|")  # names of classes are a user's words


def columns_of(metric: MetricProtocol, lines: Sequence[Line]) -> list[Column]:
    """A protocol's columns: one, or one for each part of the prompt that a line has."""
    if metric.metric != _PARTS:
        return [(metric.title, metric.metric, None)]
    parts = dict.fromkeys(part for line in lines for part in line.scores.get(_PARTS) or ())
    return [(part, _PARTS, part) for part in parts]


def class_columns(lines: Sequence[Line]) -> list[Column]:
    """A column for each class; none if nothing was measured by class, or classes are too many."""
    names = dict.fromkeys(name for line in lines for name in line.scores.get(_BY_CLASS) or ())
    return [(name, _BY_CLASS, name) for name in names] if len(names) <= _MOST_CLASSES else []


def value_of(scores: Mapping[str, Any], metric: str, part: str | None = None) -> Value | None:
    """A number of a row and its interval; None where it was not measured.

    Accuracy by class is that of the worst class unless `part` names another.
    """
    if metric == _BY_CLASS and part is None:
        part = worst_class(scores)
    value, interval = scores.get(metric), scores.get(f"{metric}_interval")
    if part is not None:
        value, interval = (value or {}).get(part), (interval or {}).get(part)
    return None if value is None else (value, interval)


def cell(scores: Mapping[str, Any], metric: str, part: str | None = None) -> str:
    """A number of a row with its interval; a dash where it was not measured.

    The worst class has its name before it, such as "3: 81.0% (72.0% to 90.0%)".
    """
    found = value_of(scores, metric, part)
    if found is None:
        return "-"
    text = said(found, _FORMS.get(metric, ".3f"))
    is_worst = metric == _BY_CLASS and part is None
    return f"{worst_class(scores)}: {text}" if is_worst else text


def worst_class(scores: Mapping[str, Any]) -> str | None:
    """The class that is seen as asked least often, the first of equal ones."""
    shares: Mapping[str, float] = scores.get(_BY_CLASS) or {}
    return min(shares, key=lambda name: shares[name], default=None)


def said(found: Value, form: str = ".3f") -> str:
    """A number and its interval, such as "0.381 (0.345 to 0.412)"."""
    value, interval = found
    if interval is None:
        return f"{value:{form}}"
    return f"{value:{form}} ({interval[0]:{form}} to {interval[1]:{form}})"


def protocol_table(metrics: Sequence[MetricProtocol]) -> str:
    """What each column means and how it was made."""
    heads = ("column", "what", "read by", "compared with", "constants", "protocol")
    text = f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|\n"
    for metric in metrics:
        weights = metric.extractor_sha256
        reader = metric.extractor + (f", `{weights[:12]}`" if weights else "")
        cells = (metric.title, meaning_of(metric), reader, metric.reference.name)
        text += "".join(f"| {each} " for each in (*cells, constants_of(metric)))
        text += f"| `{metric.identity}` |\n"
    return text


def meaning_of(metric: MetricProtocol) -> str:
    """What a number says, and where it is defined."""
    return metric.meaning + (f" ({metric.source})" if metric.source else "")


def constants_of(metric: MetricProtocol) -> str:
    """The constants of a metric; a dash if it has none."""
    return ", ".join(f"{name} {value:g}" for name, value in metric.settings.items()) or "-"
