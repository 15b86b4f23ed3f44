"""Two runs side by side. Numbers share a column only where they were made in the same way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.documents import Report
from pipeline.evaluation.tables import Value, value_of
from pipeline.page.number_tables import AnyReport, sections_of
from pipeline.page.quality_curves import key_in, main_number
from pipeline.page.summary import listed
from pipeline.page.view_model import Chart, Encoders, Look, Page, Picture, Table
from pipeline.wording import counted

Pair = tuple[str, tuple[Chart, ...]]
"""What charts answer, and one of each run that has it."""

_Place = tuple[bool, int, float]
"""A student's: whether it is stochastic, its steps, the guidance weight."""

SHOWN = {
    "distance_to_real": "to real",
    "rms_to_teacher": "RMS to its teacher",
    "recall": "recall",
    "precision": "precision",
    "class_accuracy": "accuracy",
}
"""The main numbers, with the heads of their columns."""


@dataclass(frozen=True)
class Side:
    """One of the two runs: what a person calls it, its own page, and what was measured."""

    label: str
    page: Page
    report: AnyReport


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
        tables: the main numbers by guidance weight.
        others: all other numbers, by reader and weight.
        charts: curves over each other, or side by side where they do not compare.
        beside: charts of each run's own.
        encoders: by the place of the run.
        rows: what each row of the pictures was asked for.
        looks: by guidance weight, the pictures of either side.
        no_looks: why there are none.
        differences: of the recipes: (key, one, other).
    """

    sides: tuple[Side, Side]
    told: tuple[str, ...]
    warnings: tuple[str, ...]
    tables: tuple[Table, ...]
    others: tuple[Table, ...]
    charts: tuple[Chart, ...]
    beside: tuple[Pair, ...]
    encoders: tuple[tuple[int, Encoders], ...]
    rows: tuple[str, ...]
    looks: tuple[tuple[float, tuple[tuple[Pictured, ...], ...]], ...]
    no_looks: str
    differences: tuple[tuple[str, str, str], ...]

    @property
    def weights(self) -> tuple[float, ...]:
        """The guidance weights of either."""
        return tuple(table.w for table in self.tables)


def identities(report: AnyReport) -> dict[str, str]:
    """By metric, a short name of how it was made; equal where numbers may be compared.

    A metric of an extractor has the extractor's kind before it.
    """
    return {
        key_in(section.kind, metric.metric): metric.identity
        for section in sections_of(report)
        for metric in section.metrics
    }


def comparable(one: AnyReport, two: AnyReport) -> bool:
    """Whether the numbers that both are about were made in the same way."""
    metric = main_number(one).key
    shared = identities(one).get(metric)
    return metric == main_number(two).key and shared == identities(two).get(metric)


def is_shared(sides: tuple[Side, Side], key: str) -> bool:
    """Whether both have a number, made in the same way."""
    one, two = (identities(side.report).get(key) for side in sides)
    return one is not None and one == two


def warnings_of(sides: tuple[Side, Side]) -> tuple[str, ...]:
    """What is measured in different ways, and how the ways differ."""
    one, two = (identities(side.report) for side in sides)
    known = [key for key in SHOWN if key in one or key in two]
    apart = [SHOWN[key] for key in known if one.get(key) != two.get(key)]
    apart += _readers_apart(sides, one, two)
    if not apart:
        return ()
    first, second = (_protocol_of(side.report) for side in sides)
    differing = [
        f"{key.replace('_', ' ')} {_short(first.get(key))} against {_short(second.get(key))}"
        for key in dict.fromkeys([*first, *second])
        if first.get(key) != second.get(key)
    ]
    columns = f"Measured in different ways, so not to be compared: {', '.join(apart)}."
    return (
        columns,
        *([f"What differs: {'; '.join(differing)}."] if differing else []),
    )


def titles_of(sides: tuple[Side, Side]) -> dict[str, str]:
    """Whose features there are numbers in, by kind; "" for the reports' own."""
    return {each.kind: each.title for side in sides for each in sections_of(side.report)}


def _readers_apart(
    sides: tuple[Side, Side], one: Mapping[str, str], two: Mapping[str, str]
) -> list[str]:
    """The extractors that read the images of both runs, but made a number in different ways."""
    found = []
    for kind, title in titles_of(sides).items():
        keys = [key for key in one.keys() & two.keys() if kind and key.startswith(f"{kind}/")]
        if any(one[key] != two[key] for key in keys):
            found.append(f"the features of {title}")
    return found


def _protocol_of(report: AnyReport) -> dict[str, object]:
    said: dict[str, object] = {}
    for metric in report.metrics:
        reference = metric.reference
        size = "x".join(map(str, metric.shape))
        told = {"data": reference.data_sha256, "teacher": reference.teacher_sha256}
        told |= {"image shape": size}
        said |= {key: value for key, value in told.items() if value}
    return {"kind": main_number(report).key, **report.protocol.model_dump(mode="json"), **said}


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def nearer(sides: tuple[Side, Side]) -> tuple[str, ...]:
    """Which run's fewest-step student is nearer to what it is measured against, by intervals."""
    one, two = (side.report for side in sides)
    if not comparable(one, two):
        return ()
    students = [
        {
            (r.cell.is_stochastic_student, r.cell.steps, r.cell.w): r.scores.model_dump()
            for r in report.rows
            if r.cell.role == "student"
        }
        for report in (one, two)
    ]
    common = sorted(students[0].keys() & students[1].keys())
    if not common:
        return ("No student of the one has as many steps as one of the other at the same w.",)
    ladders = dict.fromkeys(is_stochastic for is_stochastic, _, _ in common)
    return tuple(
        _nearer_of(sides, students, [key for key in common if key[0] == ladder])
        for ladder in ladders
    )


def _nearer_of(
    sides: tuple[Side, Side],
    students: Sequence[Mapping[_Place, Mapping[str, Any]]],
    common: Sequence[_Place],
) -> str:
    """The same of one ladder, at its fewest steps; `common` are its students that both have."""
    main = main_number(sides[0].report).key
    is_stochastic, steps, _ = common[0]
    better: dict[str, list[float]] = {side.label: [] for side in sides}
    level: list[float] = []
    for w in (w for _, count, w in common if count == steps):
        values = [value_of(found[is_stochastic, steps, w], main) for found in students]
        winner = _winner(values)
        (level if winner is None else better[sides[winner].label]).append(w)
    what = "real images" if isinstance(sides[0].report, Report) else "its teacher"
    said = [
        f"{label} is nearer to {what} at w = {listed(weights)}"
        for label, weights in better.items()
        if weights
    ]
    said += [f"their intervals overlap at w = {listed(level)}"] if level else []
    noisy = ", stochastic" if is_stochastic else ""
    return f"In {counted(steps, 'step')}{noisy}: {'; '.join(said)}."


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
