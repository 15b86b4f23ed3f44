"""Comparison of two runs: warnings, tables and charts.

Numbers share a column or a chart only if their protocols are equal.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import plotly.graph_objects as go

from pipeline.evaluation.documents import AnyReport, AnyRow, Report
from pipeline.evaluation.figures.curves import STUDENT
from pipeline.evaluation.reports.report_summary import join_numbers
from pipeline.evaluation.scores import Scores
from pipeline.evaluation.tables import (
    Section,
    Table,
    Value,
    format_cell,
    line_of,
    main_metric,
    metric_of,
    sections_of,
)
from pipeline.page.charts import (
    STUDENT_STYLES,
    Curves,
    Style,
    add_rows,
    curves_of,
    key_in,
    ladders,
    spans_of,
    trade_charts,
)
from pipeline.page.view_model import Chart, ChartKind, Encoders, Page, Picture, SampleGrids
from pipeline.wording import format_count

Pair = tuple[str, tuple[Chart, ...]]
"""Title of charts, and the chart of each run that has it."""

_Place = tuple[bool, int, float]
"""Key of a student: whether it is stochastic, its steps, the guidance weight."""

SHOWN = {
    "distance_to_real": "to real",
    "rms_to_teacher": "RMS to its teacher",
    "recall": "recall",
    "precision": "precision",
    "class_accuracy": "accuracy",
}
"""The main metrics, with their column headings."""

_Column = tuple[str, str, str | None, tuple[int, ...]]
"""Heading, metric, part of the prompt, and the indices of the runs in the column."""

_COLOURS = (STUDENT, "#3f8fd2")


@dataclass(frozen=True)
class ComparedRun:
    """One of the two runs: label, page and report."""

    label: str
    page: Page
    report: AnyReport


@dataclass(frozen=True)
class PairedGrid:
    """Samples of a network, and those of the same network in the other run, from equal seeds."""

    picture: Picture
    under: str | None


@dataclass(frozen=True)
class Comparison:
    """Content of the page of two runs.

    Attributes:
        sides: the two runs.
        summary: sentences on which run is nearer to real images.
        warnings: metrics that are not comparable, with the differing settings.
        tables: main metrics, by guidance weight.
        others: all other metrics, by extractor and guidance weight.
        charts: quality curves: shared charts, or one per run if not comparable.
        paired_charts: pairs of trade-off and training charts.
        encoders: encoder sections, with the index of the run.
        rows: condition of each row of the sample grids.
        looks: sample grids of both runs, by guidance weight.
        no_samples_reason: reason why there are no sample grids; empty if there are.
        differences: differences of the recipes (key, first, second).
    """

    sides: tuple[ComparedRun, ComparedRun]
    summary: tuple[str, ...]
    warnings: tuple[str, ...]
    tables: tuple[Table, ...]
    others: tuple[Table, ...]
    charts: tuple[Chart, ...]
    paired_charts: tuple[Pair, ...]
    encoders: tuple[tuple[int, Encoders], ...]
    rows: tuple[str, ...]
    looks: tuple[tuple[float, tuple[tuple[PairedGrid, ...], ...]], ...]
    no_samples_reason: str
    differences: tuple[tuple[str, str, str], ...]

    @property
    def weights(self) -> tuple[float, ...]:
        """Guidance weights of either run."""
        return tuple(table.w for table in self.tables if table.w is not None)


def identities(report: AnyReport) -> dict[str, str]:
    """Return the protocol identity of each metric; equal if numbers are comparable.

    Metrics of an extractor are prefixed by the extractor's kind.
    """
    return {
        key_in(section.kind, metric.metric): metric.identity
        for section in sections_of(report)
        for metric in section.metrics
    }


def comparable(one: AnyReport, two: AnyReport) -> bool:
    """Return whether both reports have the same main metric with the same protocol."""
    metric = main_metric(one)[0]
    shared = identities(one).get(metric)
    return metric == main_metric(two)[0] and shared == identities(two).get(metric)


def is_shared(sides: tuple[ComparedRun, ComparedRun], key: str) -> bool:
    """Return whether both runs have a metric with the same protocol."""
    one, two = (identities(side.report).get(key) for side in sides)
    return one is not None and one == two


def warnings_of(sides: tuple[ComparedRun, ComparedRun]) -> tuple[str, ...]:
    """Name the metrics that are not comparable, and the differing settings."""
    one, two = (identities(side.report) for side in sides)
    known = [key for key in SHOWN if key in one or key in two]
    differing_metrics = [SHOWN[key] for key in known if one.get(key) != two.get(key)]
    differing_metrics += _differing_extractors(sides, one, two)
    if not differing_metrics:
        return ()
    first, second = (_protocol_of(side.report) for side in sides)
    differing = [
        f"{key.replace('_', ' ')} {_short(first.get(key))} vs. {_short(second.get(key))}"
        for key in dict.fromkeys([*first, *second])
        if first.get(key) != second.get(key)
    ]
    columns = f"Different protocols, not comparable: {', '.join(differing_metrics)}."
    return (
        columns,
        *([f"Differences: {'; '.join(differing)}."] if differing else []),
    )


def titles_of(sides: tuple[ComparedRun, ComparedRun]) -> dict[str, str]:
    """Return the extractor titles by kind; the kind is "" for the reports' own metrics."""
    return {each.kind: each.title for side in sides for each in sections_of(side.report)}


def _differing_extractors(
    sides: tuple[ComparedRun, ComparedRun], one: Mapping[str, str], two: Mapping[str, str]
) -> list[str]:
    """List the extractors of both runs with a metric of different protocols."""
    found = []
    for kind, title in titles_of(sides).items():
        keys = [key for key in one.keys() & two.keys() if kind and key.startswith(f"{kind}/")]
        if any(one[key] != two[key] for key in keys):
            found.append(f"the features of {title}")
    return found


def _protocol_of(report: AnyReport) -> dict[str, object]:
    values: dict[str, object] = {}
    for metric in report.metrics:
        reference = metric.reference
        found = {"data": reference.data_sha256, "teacher": reference.teacher_sha256}
        found |= {"image shape": "x".join(map(str, metric.shape))}
        values |= {key: value for key, value in found.items() if value}
    return {"kind": main_metric(report)[0], **report.protocol.model_dump(mode="json"), **values}


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def summarise_distances(sides: tuple[ComparedRun, ComparedRun]) -> tuple[str, ...]:
    """Summarise which run's fewest-step student is nearer to its reference, by intervals."""
    one, two = (side.report for side in sides)
    if not comparable(one, two):
        return ()
    students = [
        {
            (r.cell.is_stochastic_student, r.cell.steps, r.cell.w): r
            for r in report.rows
            if r.cell.role == "student"
        }
        for report in (one, two)
    ]
    common = sorted(students[0].keys() & students[1].keys())
    if not common:
        return ("The runs have no students with equal steps and w.",)
    ladders = dict.fromkeys(is_stochastic for is_stochastic, _, _ in common)
    return tuple(
        _nearer_of(sides, students, [key for key in common if key[0] == ladder])
        for ladder in ladders
    )


def _nearer_of(
    sides: tuple[ComparedRun, ComparedRun],
    students: Sequence[Mapping[_Place, AnyRow]],
    common: Sequence[_Place],
) -> str:
    """Summarise one ladder at its fewest steps; `common` are the students of both runs."""
    main = main_metric(sides[0].report)[0]
    is_stochastic, steps, _ = common[0]
    better: dict[str, list[float]] = {side.label: [] for side in sides}
    undecided: list[float] = []
    for w in (w for _, count, w in common if count == steps):
        values = [metric_of(found[is_stochastic, steps, w], main) for found in students]
        winner = _winner(values)
        (undecided if winner is None else better[sides[winner].label]).append(w)
    reference = "real images" if isinstance(sides[0].report, Report) else "its teacher"
    parts = [
        f"{label} is nearer to {reference} at w = {join_numbers(weights)}"
        for label, weights in better.items()
        if weights
    ]
    parts += (
        [f"no clear difference at w = {join_numbers(undecided)} (intervals overlap)"]
        if undecided
        else []
    )
    noisy = ", stochastic" if is_stochastic else ""
    return f"With {format_count(steps, 'step')}{noisy}: {'; '.join(parts)}."


def _winner(values: Sequence[Value | None]) -> int | None:
    """Return the index of the smaller number if the intervals do not overlap."""
    if values[0] is None or values[1] is None:
        return None
    (one, first), (two, second) = values[0], values[1]
    low, high = (first or (one, one)), (second or (two, two))
    if low[1] < high[0]:
        return 0
    return 1 if high[1] < low[0] else None


def side_by_side(one: SampleGrids, two: SampleGrids) -> tuple[tuple[PairedGrid, ...], ...]:
    """Pair every network's samples with those of the same title in the other run."""
    both = [(look.teacher, *look.others) for look in (one, two)]
    by_title = [{picture.title: picture.source for picture in pictures} for pictures in both]
    return tuple(
        tuple(PairedGrid(picture, by_title[1 - place].get(picture.title)) for picture in pictures)
        for place, pictures in enumerate(both)
    )


def tables_of(sides: tuple[ComparedRun, ComparedRun]) -> tuple[Table, ...]:
    """Build tables of the main metrics by guidance weight, one column per protocol."""
    main = [_section_of_kind(side, "") for side in sides]
    columns = _compared_columns(sides, "", {(key, None): title for key, title in SHOWN.items()})
    return tuple(_compared_table(main, w, columns) for w in _all_weights(sides))


def other_tables_of(sides: tuple[ComparedRun, ComparedRun]) -> tuple[Table, ...]:
    """Build tables of all other metrics of the reports, then of each extractor."""
    found = []
    for kind in titles_of(sides):
        sections = [_section_of_kind(side, kind) for side in sides]
        heads = {
            (key, part): title
            for section in sections
            if section is not None
            for title, key, part in section.columns()
            if kind or key not in SHOWN
        }
        columns = _compared_columns(sides, kind, heads)
        if columns:
            found += [_compared_table(sections, w, columns) for w in _all_weights(sides)]
    return tuple(found)


def _all_weights(sides: tuple[ComparedRun, ComparedRun]) -> list[float]:
    return sorted({row.cell.w for side in sides for row in side.report.rows})


def _section_of_kind(side: ComparedRun, kind: str) -> Section | None:
    return next((each for each in sections_of(side.report) if each.kind == kind), None)


def _compared_columns(
    sides: tuple[ComparedRun, ComparedRun], kind: str, heads: Mapping[tuple[str, str | None], str]
) -> list[_Column]:
    """Return the columns that either run has values for."""
    known = [identities(side.report) for side in sides]
    columns: list[_Column] = []
    for (metric, part), title in heads.items():
        key = key_in(kind, metric)
        having = tuple(place for place in (0, 1) if key in known[place])
        if len(having) == 2 and is_shared(sides, key):
            columns.append((title, metric, part, having))
        else:
            columns += [(f"{title}, {sides[at].label} only", metric, part, (at,)) for at in having]
    return columns


def _compared_table(
    sections: Sequence[Section | None],
    w: float,
    columns: Sequence[_Column],
) -> Table:
    lines = []
    for place, section in enumerate(sections):
        for row in section.rows if section else ():
            if row.cell.w != w or row.cell.role not in ("teacher", "student"):
                continue
            line = line_of(row)
            cells = [
                format_cell(line.scores, key, part) if place in places else ""
                for _, key, part, places in columns
            ]
            lines.append((_line_order(row), place, (line.title, line.evaluations, *cells)))
    # teachers first, then each ladder by falling steps, with both runs next to each other
    lines.sort(key=lambda line: line[:2])
    title = next(each.title for each in sections if each)
    return Table(
        w,
        f"In the features of {title}" if title else "",
        ("network", "evaluations", *(head for head, *_ in columns)),
        tuple(row for *_, row in lines),
        tuple(place for _, place, _ in lines),
    )


def _line_order(row: AnyRow) -> tuple[bool, bool, int]:
    spec = row.cell
    return (spec.role != "teacher", spec.is_stochastic_student, -spec.steps)


def overlay_charts(sides: tuple[ComparedRun, ComparedRun]) -> tuple[Chart, ...]:
    """Build charts of quality against network evaluations with both runs, by guidance weight.

    Where protocols differ, or one run lacks the metric, each run has a separate chart.
    """
    return tuple(_overlaid(sides))


def _overlaid(sides: tuple[ComparedRun, ComparedRun]) -> Iterator[Chart]:
    curves = [{each.key: each for each in curves_of(side.report)} for side in sides]
    for key in dict.fromkeys([*curves[0], *curves[1]]):
        if is_shared(sides, key):
            yield from _over(sides, (curves[0][key], curves[1][key]))
            continue
        for place, (side, its) in enumerate(zip(sides, curves, strict=True)):
            if key in its:
                yield from (_labelled(chart, side, place) for chart in its[key].charts)


def paired_charts(sides: tuple[ComparedRun, ComparedRun]) -> tuple[Pair, ...]:
    """Build pairs of trade-off and training charts, one of each run.

    Trade-off charts share axis ranges where the protocols are equal.
    """
    trades = _trades(sides)
    by_title = [
        {chart.title: chart for chart in (*its, *_charts_of_kind(side, "training"))}
        for side, its in zip(sides, trades, strict=True)
    ]
    titles = dict.fromkeys([*by_title[0], *by_title[1]])
    return tuple(
        (
            title,
            tuple(
                _labelled(charts[title], side, place)
                for place, (side, charts) in enumerate(zip(sides, by_title, strict=True))
                if title in charts
            ),
        )
        for title in titles
    )


def _trades(sides: tuple[ComparedRun, ComparedRun]) -> list[list[Chart]]:
    reports = [side.report for side in sides if isinstance(side.report, Report)]
    if len(reports) < len(sides):
        return [_charts_of_kind(side, "trade") for side in sides]
    separate = {key for key in Scores.model_fields if not is_shared(sides, key)}
    spans = {key: span for key, span in spans_of(reports).items() if key not in separate}
    return [trade_charts(report, spans) for report in reports]


def _charts_of_kind(side: ComparedRun, kind: ChartKind) -> list[Chart]:
    return [chart for chart in side.page.charts if chart.kind == kind]


def encoder_sections(sides: tuple[ComparedRun, ComparedRun]) -> tuple[tuple[int, Encoders], ...]:
    """Return the encoder sections of the runs that have encoders, with the index of the run."""
    return tuple(
        (place, replace(its, charts=tuple(_labelled(chart, side, place) for chart in its.charts)))
        for place, side in enumerate(sides)
        if (its := side.page.encoders)
    )


def _labelled(chart: Chart, side: ComparedRun, place: int) -> Chart:
    return replace(chart, name=f"{chart.name}-{place}", title=f"{side.label}: {chart.title}")


def _over(sides: tuple[ComparedRun, ComparedRun], curves: tuple[Curves, Curves]) -> Iterator[Chart]:
    rows = [each.by_weight for each in curves]
    for w in sorted({*rows[0], *rows[1]}):
        figure = _figure(sides, curves[0].metric, [each.get(w, []) for each in rows])
        yield curves[0].chart(w, figure)


def _figure(
    sides: tuple[ComparedRun, ComparedRun], metric: str, rows: Sequence[Sequence[AnyRow]]
) -> go.Figure:
    """Draw both runs' rows at one guidance weight."""
    figure = go.Figure()
    for side, colour, its in zip(sides, _COLOURS, rows, strict=True):
        for name, ladder in ladders(its).items():
            style = replace(STUDENT_STYLES[name], color=colour)
            add_rows(figure, ladder, metric, f"{side.label}, {name}", style)
        teachers = [row for row in its if row.cell.role == "teacher"]
        star = Style(colour, "star", 0, size=13)
        add_rows(figure, teachers, metric, f"{side.label}, teacher", star)
    return figure
