"""Tables of a report for people: every number with its interval, every column with its protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.metric_protocol import MetricProtocol, check_comparable

Value = tuple[float, tuple[float, float] | None]

_FORMS = {
    "class_accuracy": ".1%",
    "prompt_accuracy": ".1%",
    "inception_score": ".2f",
    "psnr_to_teacher": ".1f",
    "kid_to_real": ".4f",
    "clip_score": ".2f",
}
_PARTS = "prompt_accuracy"

_Column = tuple[str, str, str | None]
"""Head, metric, part of the prompt."""


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
    columns = [column for key in by_metric for column in _columns(by_metric[key][0], lines)]
    return _written(columns, lines)


def plain_table(heads: Mapping[str, str], lines: Sequence[Line]) -> str:
    """As `table`, of numbers by key with the heads of their columns, without what no line has."""
    had = [key for key in heads if any(value_of(line.scores, key) for line in lines)]
    return _written([(heads[key], key, None) for key in had], lines)


def _written(columns: Sequence[_Column], lines: Sequence[Line]) -> str:
    head = "".join(f"| {title} " for title, _, _ in columns)
    text = f"| network | evaluations {head}|\n|---|--:|{':-:|' * len(columns)}\n"
    for line in lines:
        cells = "".join(f"| {_cell(line.scores, key, part)} " for _, key, part in columns)
        text += f"| {line.title} | {line.evaluations} {cells}|\n"
    return text


def _columns(metric: MetricProtocol, lines: Sequence[Line]) -> list[_Column]:
    """A protocol's columns."""
    if metric.metric != _PARTS:
        return [(metric.title, metric.metric, None)]
    parts = dict.fromkeys(part for line in lines for part in line.scores.get(_PARTS) or ())
    return [(part, _PARTS, part) for part in parts]


def value_of(scores: Mapping[str, Any], metric: str, part: str | None = None) -> Value | None:
    """A number of a row and its interval; None where it was not measured."""
    value, interval = scores.get(metric), scores.get(f"{metric}_interval")
    if part is not None:
        value, interval = (value or {}).get(part), (interval or {}).get(part)
    return None if value is None else (value, interval)


def _cell(scores: Mapping[str, Any], metric: str, part: str | None) -> str:
    found = value_of(scores, metric, part)
    return "-" if found is None else said(found, _FORMS.get(metric, ".3f"))


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
        constants = ", ".join(f"{name} {value:g}" for name, value in metric.settings.items())
        what = metric.meaning + (f" ({metric.source})" if metric.source else "")
        cells = (metric.title, what, reader, metric.reference.name, constants or "-")
        text += "".join(f"| {cell} " for cell in cells) + f"| `{metric.identity}` |\n"
    return text
