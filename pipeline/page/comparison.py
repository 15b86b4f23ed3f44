"""Two runs side by side. Numbers share a column only where they were made in the same way."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.evaluation.agreement import AgreementReport
from pipeline.evaluation.metric_protocol import MetricProtocol
from pipeline.evaluation.protocol import Cell, Report
from pipeline.evaluation.tables import Value, said, value_of
from pipeline.ledger import fingerprint
from pipeline.page.content import Chart, Look, Page, Picture
from pipeline.page.verdict import listed
from pipeline.wording import counted

AnyReport = Report | AgreementReport

_SHOWN = {
    "distance_to_real": "to real",
    "rms_to_teacher": "RMS to its teacher",
    "recall": "recall",
    "precision": "precision",
    "class_accuracy": "accuracy",
    "clip_score": "CLIP score",
}


@dataclass(frozen=True)
class Side:
    """One of the two runs: what a person calls it, its own page, and what was measured."""

    label: str
    page: Page
    report: AnyReport


@dataclass(frozen=True)
class Table:
    """All networks of both runs at one guidance weight.

    Attributes:
        w: the guidance weight.
        heads: of the columns of numbers.
        lines: the run's place (0 or 1), network, evaluations, and a cell for each column.
    """

    w: float
    heads: tuple[str, ...]
    lines: tuple[tuple[int, str, int, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Pictured:
    """The same seeds drawn by both: a network's picture, and the other run's of the same name."""

    picture: Picture
    under: str | None


@dataclass(frozen=True)
class Comparison:
    """What the page of two runs shows.

    Attributes:
        sides: the two.
        told: which is nearer to real images, in words.
        warnings: what cannot be compared, loudly.
        tables: by guidance weight.
        charts: curves over each other, or side by side where they do not compare.
        rows: what each row of the pictures was asked for.
        looks: by guidance weight, the pictures of either side.
        no_looks: why there are none.
        differences: of the recipes: (key, one, other).
    """

    sides: tuple[Side, Side]
    told: tuple[str, ...]
    warnings: tuple[str, ...]
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...]
    rows: tuple[str, ...]
    looks: tuple[tuple[float, tuple[tuple[Pictured, ...], ...]], ...]
    no_looks: str
    differences: tuple[tuple[str, str, str], ...]

    @property
    def weights(self) -> tuple[float, ...]:
        """The guidance weights of either."""
        return tuple(table.w for table in self.tables)


def main_metric(report: AnyReport) -> str:
    """The number that a report is about."""
    return "distance_to_real" if isinstance(report, Report) else "rms_to_teacher"


def identities(report: AnyReport) -> dict[str, str]:
    """By metric, a short name of how it was made; equal where numbers may be compared."""
    metrics: Sequence[MetricProtocol] = report.metrics
    if metrics:
        return {metric.metric: metric.identity for metric in metrics}
    protocol = report.protocol.model_dump(mode="json")  # a report of before says it once for all
    keys = [key for key in _SHOWN if key in type(report.rows[0].scores).model_fields]
    return {key: fingerprint({"metric": key, **protocol})[:12] for key in keys}


def comparable(one: AnyReport, two: AnyReport) -> bool:
    """Whether the numbers that both are about were made in the same way."""
    metric = main_metric(one)
    shared = identities(one).get(metric)
    return metric == main_metric(two) and shared == identities(two).get(metric)


def warnings_of(sides: tuple[Side, Side]) -> tuple[str, ...]:
    """What is measured in different ways, and how the ways differ."""
    one, two = (identities(side.report) for side in sides)
    known = [key for key in _SHOWN if key in one or key in two]
    apart = [_SHOWN[key] for key in known if one.get(key) != two.get(key)]
    if not apart:
        return ()
    first, second = (_protocol_of(side.report) for side in sides)
    differing = [
        f"{key.replace('_', ' ')} {_short(first.get(key))} against {_short(second.get(key))}"
        for key in dict.fromkeys([*first, *second])
        if first.get(key) != second.get(key)
    ]
    columns = f"Measured in different ways, so not to be compared: {', '.join(apart)}."
    return (columns, f"What differs: {'; '.join(differing)}.")


def _protocol_of(report: AnyReport) -> dict[str, object]:
    said = dict(report.protocol.model_dump(mode="json"))
    for metric in report.metrics:
        if metric.metric == main_metric(report):
            said["data"] = metric.reference.data_sha256
    return {"kind": main_metric(report), **said}


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def tables_of(sides: tuple[Side, Side]) -> tuple[Table, ...]:
    """All numbers, by guidance weight; a column for each way of measuring."""
    known = [identities(side.report) for side in sides]
    columns: list[tuple[str, str, tuple[int, ...]]] = []
    for key, title in _SHOWN.items():
        having = [place for place in (0, 1) if key in known[place]]
        if len(having) == 2 and known[0][key] == known[1][key]:
            columns.append((title, key, (0, 1)))
        else:
            columns += [(f"{title}, {sides[at].label} only", key, (at,)) for at in having]
    weights = dict.fromkeys(row.cell.w for side in sides for row in side.report.rows)
    return tuple(_table(sides, w, columns) for w in sorted(weights))


def _table(
    sides: tuple[Side, Side], w: float, columns: Sequence[tuple[str, str, tuple[int, ...]]]
) -> Table:
    lines = []
    for place, side in enumerate(sides):
        for row in side.report.rows:
            if row.cell.w != w or row.cell.role not in ("teacher", "student"):
                continue
            scores = row.scores.model_dump()
            cells = tuple(
                _cell(value_of(scores, key)) if place in places else ""
                for _, key, places in columns
            )
            lines.append((_order(row.cell), (place, row.cell.title, row.evaluations, cells)))
    # the teachers first, then students of many steps to few, of both runs beside each other
    ordered = sorted(lines, key=lambda line: (line[0], line[1][0]))
    return Table(w, tuple(title for title, _, _ in columns), tuple(line for _, line in ordered))


def _order(cell: Cell) -> tuple[int, int]:
    return (0 if cell.role == "teacher" else 1, -cell.steps)


def _cell(found: Value | None) -> str:
    return "-" if found is None else said(found, ".3g")


def nearer(sides: tuple[Side, Side]) -> tuple[str, ...]:
    """Which run's fewest-step student is nearer to what it is measured against, by intervals."""
    one, two = (side.report for side in sides)
    if not comparable(one, two):
        return ()
    students = [
        {
            (r.cell.steps, r.cell.w): r.scores.model_dump()
            for r in report.rows
            if _is_student(r.cell)
        }
        for report in (one, two)
    ]
    common = sorted(students[0].keys() & students[1].keys())
    if not common:
        return ("No student of the one has as many steps as one of the other at the same w.",)
    steps = common[0][0]
    better: dict[str, list[float]] = {side.label: [] for side in sides}
    level: list[float] = []
    for w in (w for count, w in common if count == steps):
        values = [value_of(found[steps, w], main_metric(one)) for found in students]
        winner = _winner(values)
        (level if winner is None else better[sides[winner].label]).append(w)
    what = "real images" if isinstance(one, Report) else "its teacher"
    said = [
        f"{label} is nearer to {what} at w = {listed(weights)}"
        for label, weights in better.items()
        if weights
    ]
    said += [f"their intervals overlap at w = {listed(level)}"] if level else []
    return (f"In {counted(steps, 'step')}: {'; '.join(said)}.",)


def _is_student(cell: Cell) -> bool:
    return cell.role == "student"


def _winner(values: Sequence[Value | None]) -> int | None:
    """The place of the smaller number if the intervals are apart."""
    if values[0] is None or values[1] is None:
        return None
    (one, first), (two, second) = values[0], values[1]
    low, high = (first or (one, one)), (second or (two, two))
    if low[1] < high[0]:
        return 0
    return 1 if high[1] < low[0] else None


def side_by_side(one: Look, two: Look) -> tuple[tuple[Pictured, ...], ...]:
    """Every network's picture, with the one of the same name in the other run under it."""
    both = [(look.teacher, *look.others) for look in (one, two)]
    by_title = [{picture.title: picture.source for picture in pictures} for pictures in both]
    return tuple(
        tuple(Pictured(picture, by_title[1 - place].get(picture.title)) for picture in pictures)
        for place, pictures in enumerate(both)
    )
