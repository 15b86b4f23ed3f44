"""The numbers of two runs in tables: a column for each way of measuring, which both may share."""

from collections.abc import Mapping, Sequence

from pipeline.evaluation.figures.curves import Point
from pipeline.evaluation.tables import cell
from pipeline.page.comparison import SHOWN, Side, identities, is_shared, titles_of
from pipeline.page.number_tables import Section, columns_in, line_of, sections_of
from pipeline.page.quality_curves import key_in
from pipeline.page.view_model import Table

_Column = tuple[str, str, str | None, tuple[int, ...]]
"""Head, metric, part of the prompt, and the places of the runs whose numbers stand in it."""


def tables_of(sides: tuple[Side, Side]) -> tuple[Table, ...]:
    """The main numbers, by guidance weight; a column for each way of measuring."""
    main = [_of_kind(side, "") for side in sides]
    columns = _columns(sides, "", {(key, None): title for key, title in SHOWN.items()})
    return tuple(_table(main, w, columns) for w in _weights(sides))


def others_of(sides: tuple[Side, Side]) -> tuple[Table, ...]:
    """All the other numbers of the reports, and then those of each extractor."""
    found = []
    for kind in titles_of(sides):
        sections = [_of_kind(side, kind) for side in sides]
        heads = {
            (key, part): title
            for section in sections
            if section is not None
            for title, key, part in columns_in(section, [line_of(row) for row in section.rows])
            if kind or key not in SHOWN
        }
        columns = _columns(sides, kind, heads)
        if columns:
            found += [_table(sections, w, columns) for w in _weights(sides)]
    return tuple(found)


def _weights(sides: tuple[Side, Side]) -> list[float]:
    return sorted({row.cell.w for side in sides for row in side.report.rows})


def _of_kind(side: Side, kind: str) -> Section | None:
    return next((each for each in sections_of(side.report) if each.kind == kind), None)


def _columns(
    sides: tuple[Side, Side], kind: str, heads: Mapping[tuple[str, str | None], str]
) -> list[_Column]:
    """The columns that either run has something for."""
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


def _table(
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
            cells = tuple(
                cell(line.scores, key, part) if place in places else ""
                for _, key, part, places in columns
            )
            lines.append((_order(row), (place, line.title, line.evaluations, cells)))
    # the teachers first, then each ladder from many steps to few, of both runs beside each other
    ordered = sorted(lines, key=lambda line: (line[0], line[1][0]))
    title = next(each.title for each in sections if each)
    return Table(w, title, tuple(head for head, *_ in columns), tuple(line for _, line in ordered))


def _order(row: Point) -> tuple[bool, bool, int]:
    made = row.cell
    return (made.role != "teacher", made.is_stochastic_student, -made.steps)
