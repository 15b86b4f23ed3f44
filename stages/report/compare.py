"""Write the page of two runs side by side, from the files of their directories alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.bundle import read_manifest
from pipeline.config import Recipe
from pipeline.documents import leaves
from pipeline.durable import write_durably
from pipeline.errors import ConfigError
from pipeline.evaluation.documents import Report
from pipeline.evaluation.reports.agreement import AgreementReport, read_either
from pipeline.page.comparison import Comparison, Side, nearer, side_by_side, warnings_of
from pipeline.page.overlay import beside, encoders_beside, overlaid
from pipeline.page.render import render_comparison
from pipeline.page.side_tables import others_of, tables_of
from stages.report.page import gather

Run = tuple[Path, Recipe]


def write_comparison(one: Run, two: Run, output: Path, price_per_hour: float | None) -> None:
    """Write one file that shows both.

    Args:
        one: directory and recipe of a run that has a report.
        two: the other.
        output: the file.
        price_per_hour: as for the page of one run.

    Raises:
        ConfigError: they are the same run.
        DataError: one has no report yet.
    """
    sides = _sides(one, two, price_per_hour)
    looks, rows, why_not = _looks(sides, one, two)
    comparison = Comparison(
        sides=sides,
        told=nearer(sides),
        warnings=warnings_of(sides),
        tables=tables_of(sides),
        others=others_of(sides),
        charts=overlaid(sides),
        beside=beside(sides),
        encoders=encoders_beside(sides),
        rows=rows,
        looks=looks,
        no_looks=why_not,
        differences=tuple(_differences(one[1], two[1])),
    )
    write_durably(output, render_comparison(comparison))


def labels_of(one: Path, two: Path) -> tuple[str, str]:
    """What a person calls two run directories: as little of their paths as tells them apart.

    Raises:
        ConfigError: they are the same.
    """
    first, second = one.resolve().parts, two.resolve().parts
    if first == second:
        raise ConfigError(f"{one} and {two} are the same run; give two")
    length = next(
        count for count in range(1, len(first) + len(second)) if first[-count:] != second[-count:]
    )
    return "/".join(first[-length:]), "/".join(second[-length:])


def _sides(one: Run, two: Run, price: float | None) -> tuple[Side, Side]:
    first, second = labels_of(one[0], two[0])
    return _side(first, one, price), _side(second, two, price)


def _side(label: str, run: Run, price: float | None) -> Side:
    run_dir, recipe = run
    page = gather(run_dir, recipe, price)
    return Side(label, page, read_either(run_dir / "report"))


def _looks(
    sides: tuple[Side, Side], one: Run, two: Run
) -> tuple[tuple[Any, ...], tuple[str, ...], str]:
    """Pictures by guidance weight, the names of their rows, and why there are none."""
    reports = sides[0].report, sides[1].report
    manifests = [read_manifest(run_dir / "teacher") for run_dir, _ in (one, two)]
    same_noise = (
        reports[0].protocol.seed == reports[1].protocol.seed
        and manifests[0].latent_shape == manifests[1].latent_shape
    )
    if not same_noise or not _ask_alike(sides):
        return (), (), "The runs draw other classes, or from other noise: no pictures side by side."
    by_weight = [{look.w: look for look in side.page.looks} for side in sides]
    common = [w for w in by_weight[0] if w in by_weight[1]]
    if not common:
        return (), (), "There are no pictures of both at one guidance weight."
    looks = tuple((w, side_by_side(by_weight[0][w], by_weight[1][w])) for w in common)
    return looks, by_weight[0][common[0]].rows, ""


def _ask_alike(sides: tuple[Side, Side]) -> bool:
    """Whether both were asked for the same, sample by sample."""
    one, two = sides[0].report, sides[1].report
    if one.protocol.num_samples != two.protocol.num_samples:
        return False
    if isinstance(one, Report) and isinstance(two, Report):
        return one.class_names == two.class_names
    data = {side.page.lineage[0][1] for side in sides}
    return isinstance(one, AgreementReport) and isinstance(two, AgreementReport) and len(data) == 1


def _differences(one: Recipe, two: Recipe) -> Iterator[tuple[str, str, str]]:
    first, second = (dict(leaves(each.model_dump(mode="json"))) for each in (one, two))
    for key in dict.fromkeys([*first, *second]):
        if first.get(key) != second.get(key):
            yield key, str(first.get(key, "")), str(second.get(key, ""))
