"""View model of the report page: plain values in reading order."""

from dataclasses import dataclass
from typing import Literal

from pipeline.evaluation.reports.report_summary import VerdictTable
from pipeline.evaluation.tables import Table

ChartKind = Literal["curve", "panel", "trade", "training", "encoders"]
"""Kinds: quality against cost by the report's own metric, or by an extractor's ("panel"); guidance
trade-off; training losses; encoders."""


@dataclass(frozen=True)
class Picture:
    """Sample grid of one network as a data URI."""

    title: str
    evaluations: int
    is_student: bool
    source: str


@dataclass(frozen=True)
class SampleGrids:
    """Sample grids of teacher and students at one guidance weight, from the same seeds.

    Attributes:
        w: guidance weight.
        rows: condition of each row; empty without classes.
        teacher: grid of the teacher.
        others: grids of the students and of the cheapest training-free baseline.
    """

    w: float
    rows: tuple[str, ...]
    teacher: Picture
    others: tuple[Picture, ...]


@dataclass(frozen=True)
class Chart:
    """A Plotly chart as JSON.

    Attributes:
        name: id of its HTML element.
        w: guidance weight at which it is visible; None for all.
        title: title of the chart.
        figure: `{"data": ..., "layout": ...}`.
        kind: kind of the chart.
    """

    name: str
    w: float | None
    title: str
    figure: str
    kind: ChartKind


@dataclass(frozen=True)
class Encoders:
    """Section on encoders.

    Attributes:
        summary: summary of the encoder with the fewest steps.
        charts: round-trip error against steps; translation results, by guidance weight.
        tables: all metrics, by guidance weight.
        pictures: figures as data URIs, by guidance weight.
        note: explanation of the metrics.
    """

    summary: str
    charts: tuple[Chart, ...]
    tables: tuple[Table, ...]
    pictures: tuple[tuple[float, str], ...]
    note: str


@dataclass(frozen=True)
class Decision:
    """Decision of the quality gate on a round's student.

    Attributes:
        mark: passed by the gate, approved by a person, or failed.
        words: the same as text.
        reason: short reason of a failed gate; empty if passed.
    """

    mark: Literal["pass", "person", "fail"]
    words: str
    reason: str


@dataclass(frozen=True)
class RoundCost:
    """Cost of one stage, or of one attempt at a round.

    Attributes:
        title: title of the round or stage.
        updates: optimiser updates.
        evaluations: network evaluations per sample, summed, including training.
        bytes: size of the targets.
        targets_s: seconds of target pregeneration; None without targets.
        rest_s: seconds of training, or of the whole stage.
        decision: decision of the round's gate; None without a gate.
        money: price of its time; None without a price.
    """

    title: str
    updates: int
    evaluations: int
    bytes: int
    targets_s: float | None
    rest_s: float | None
    decision: Decision | None = None
    money: float | None = None

    @property
    def seconds(self) -> float:
        """Total seconds; 0 where nothing was measured."""
        return (self.targets_s or 0.0) + (self.rest_s or 0.0)


@dataclass(frozen=True)
class Usage:
    """Commands or code for using a student."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """Content of the report page.

    Attributes:
        run: name of the recipe.
        what: one-sentence description of teacher and students.
        facts: key figures at the top, each with its label.
        data_notes: notes on the data, one sentence each.
        judgement: verdicts on the students.
        accepted: one sentence per student approved by a person after a failed gate.
        weights: selectable guidance weights.
        charts: charts of metrics and training.
        looks: sample grids, by guidance weight.
        pictures: further figures as data URIs, by guidance weight.
        tables: all metrics, by section and guidance weight.
        by_class: accuracy by class, by guidance weight; empty without classes or with too many.
        made: protocols of the metrics, by section.
        encoders: section on encoders; None without encoders.
        costs: costs by stage and attempt.
        total_s: total seconds.
        money: price of the total time; None without a price.
        price: description of the price; empty if there is none.
        lineage: artifacts as (name, digest, parent).
        environment: versions, machine and date.
        usage: commands and code for using the students.
        protocol: measurement settings, line by line.
    """

    run: str
    what: str
    facts: tuple[tuple[str, str], ...]
    data_notes: tuple[str, ...]
    judgement: VerdictTable
    accepted: tuple[str, ...]
    weights: tuple[float, ...]
    charts: tuple[Chart, ...]
    looks: tuple[SampleGrids, ...]
    pictures: tuple[tuple[float, str], ...]
    tables: tuple[Table, ...]
    by_class: tuple[Table, ...]
    made: tuple[Table, ...]
    encoders: Encoders | None
    costs: tuple[RoundCost, ...]
    total_s: float
    money: float | None
    price: str
    lineage: tuple[tuple[str, str, str], ...]
    environment: tuple[tuple[str, str], ...]
    usage: tuple[Usage, ...]
    protocol: tuple[str, ...]
