"""What a page shows, in the order it is read. Plain values: nothing here computes or draws."""

from dataclasses import dataclass
from typing import Literal

ChartKind = Literal["curve", "panel", "trade", "training", "encoders"]
"""Quality against cost in a report's own numbers or in those of an extractor; what guidance trades;
losses; the way to noise and back."""


@dataclass(frozen=True)
class Finding:
    """A student at a guidance weight.

    Attributes:
        passed: whether every check holds; None where nothing was judged.
        said: a few words, such as "distance 1.25 times".
    """

    passed: bool | None
    said: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """Is it good enough, and where.

    Attributes:
        sentences: the answer in words, the shortest first.
        weights: the columns.
        rows: students by title, each with a cell a weight.
        bounds: what was asked, in words.
    """

    sentences: tuple[str, ...]
    weights: tuple[float, ...]
    rows: tuple[tuple[str, tuple[Finding, ...]], ...]
    bounds: str


@dataclass(frozen=True)
class Picture:
    """The same seeds drawn by one network, as a data URI."""

    title: str
    evaluations: int
    is_student: bool
    source: str


@dataclass(frozen=True)
class Look:
    """The teacher and its students at one guidance weight, seed by seed.

    Attributes:
        w: the guidance weight.
        rows: what each row of the pictures was asked for.
        teacher: its picture.
        others: students', and of the cheapest training-free sampling.
    """

    w: float
    rows: tuple[str, ...]
    teacher: Picture
    others: tuple[Picture, ...]


@dataclass(frozen=True)
class Chart:
    """A chart of Plotly's, as JSON.

    Attributes:
        name: of its element.
        w: it is shown for this guidance weight; None for all.
        title: what it answers.
        figure: `{"data": ..., "layout": ...}`.
        kind: what it is about.
    """

    name: str
    w: float | None
    title: str
    figure: str
    kind: ChartKind


@dataclass(frozen=True)
class Table:
    """Numbers of all networks at one guidance weight, each with its interval.

    Attributes:
        w: the guidance weight.
        title: whose features they are read in; empty for a report's own numbers.
        heads: of the columns of numbers.
        lines: the run's place (0 or 1; of one run always 0), network, evaluations, and a cell for
            each column.
    """

    w: float
    title: str
    heads: tuple[str, ...]
    lines: tuple[tuple[int, str, str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Made:
    """How the numbers of a column were made.

    Attributes:
        column: its head.
        what: it says, and where it is defined.
        reader: what reads the images, with a digest of its weights.
        reference: what samples are compared with.
        constants: of the metric.
        protocol: a short name of all of it; equal where numbers may be compared.
    """

    column: str
    what: str
    reader: str
    reference: str
    constants: str
    protocol: str


@dataclass(frozen=True)
class Encoders:
    """From pictures to noise and back.

    Attributes:
        told: the shortest way in words.
        charts: what comes back, against steps; and what becomes of pictures, by weight.
        tables: all numbers by weight.
        pictures: by weight, as data URIs.
        note: what the numbers mean.
    """

    told: str
    charts: tuple[Chart, ...]
    tables: tuple[Table, ...]
    pictures: tuple[tuple[float, str], ...]
    note: str


@dataclass(frozen=True)
class Decision:
    """What became of a round's student at its gate.

    Attributes:
        mark: who let it through, the gate or a person; or nobody.
        words: the same for people.
        reason: why the gate did not, in short; empty if it did.
    """

    mark: Literal["pass", "person", "fail"]
    words: str
    reason: str


@dataclass(frozen=True)
class RoundCost:
    """What one part of the chain cost, or one attempt at a round.

    Attributes:
        title: of the round, or of what is not a round.
        updates: optimiser updates.
        evaluations: of networks, one sample each, learning included.
        bytes: of targets.
        targets_s: seconds of pre-generation; None where there is none.
        rest_s: seconds of training, or of all it does.
        decision: of the round's gate; None where there is none.
        money: what its seconds cost; None if no price was given.
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
        """Of all it does; 0 where nothing was measured."""
        return (self.targets_s or 0.0) + (self.rest_s or 0.0)


@dataclass(frozen=True)
class Usage:
    """How to draw with a student, in a few lines."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """Everything.

    Attributes:
        run: the recipe's name.
        what: what was distilled into what, in one sentence.
        facts: large numbers at the top, each with what it counts.
        judgement: see there.
        accepted: students that a person let through against their gate, a sentence each.
        weights: the guidance weights that can be chosen.
        charts: see there.
        looks: pictures by weight.
        pictures: other pictures by weight, as data URIs.
        tables: all numbers, by reader and weight.
        by_class: accuracy of each class, by weight; none without classes, or with too many.
        made: how they were made.
        encoders: the other report of a run that has them.
        costs: by stage and attempt.
        total_s: seconds in all.
        money: what those cost; None if no price was given.
        price: that price, in words; empty if there is none.
        lineage: what was made from what: (what, digest, from).
        environment: where it was made, and when the page was.
        usage: see there.
        protocol: how the numbers were made, line by line.
    """

    run: str
    what: str
    facts: tuple[tuple[str, str], ...]
    judgement: Judgement
    accepted: tuple[str, ...]
    weights: tuple[float, ...]
    charts: tuple[Chart, ...]
    looks: tuple[Look, ...]
    pictures: tuple[tuple[float, str], ...]
    tables: tuple[Table, ...]
    by_class: tuple[Table, ...]
    made: tuple[Made, ...]
    encoders: Encoders | None
    costs: tuple[RoundCost, ...]
    total_s: float
    money: float | None
    price: str
    lineage: tuple[tuple[str, str, str], ...]
    environment: tuple[tuple[str, str], ...]
    usage: tuple[Usage, ...]
    protocol: tuple[str, ...]
