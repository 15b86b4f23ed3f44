"""What a page shows, in the order it is read. Plain values: nothing here computes or draws."""

from dataclasses import dataclass


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
    """

    name: str
    w: float | None
    title: str
    figure: str


@dataclass(frozen=True)
class RoundCost:
    """What one part of the chain cost.

    Attributes:
        title: of the round, or of what is not a round.
        updates: optimiser updates.
        evaluations: of networks, one sample each, learning included.
        bytes: of targets.
        targets_s: seconds of pre-generation; None where there is none.
        rest_s: seconds of training, or of all it does.
    """

    title: str
    updates: int
    evaluations: int
    bytes: int
    targets_s: float | None
    rest_s: float | None


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
        weights: the guidance weights that can be chosen.
        charts: see there.
        looks: pictures by weight.
        pictures: other pictures by weight, as data URIs.
        costs: by round.
        total_s: seconds in all.
        price: of those seconds, in words; empty if no price was given.
        lineage: what was made from what: (what, digest, from).
        environment: where it was made.
        usage: see there.
        protocol: how the numbers were made, line by line.
    """

    run: str
    what: str
    facts: tuple[tuple[str, str], ...]
    judgement: Judgement
    weights: tuple[float, ...]
    charts: tuple[Chart, ...]
    looks: tuple[Look, ...]
    pictures: tuple[tuple[float, str], ...]
    costs: tuple[RoundCost, ...]
    total_s: float
    price: str
    lineage: tuple[tuple[str, str, str], ...]
    environment: tuple[tuple[str, str], ...]
    usage: tuple[Usage, ...]
    protocol: tuple[str, ...]
