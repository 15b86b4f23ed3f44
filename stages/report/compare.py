"""Write the HTML comparison of two runs from the files of their directories."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.bundle import read_manifest
from pipeline.config import Recipe
from pipeline.documents import leaves
from pipeline.durable import write_durably
from pipeline.errors import ConfigError
from pipeline.evaluation.documents import AgreementReport, Report, read_report
from pipeline.page.comparison import (
    ComparedRun,
    Comparison,
    encoder_sections,
    other_tables_of,
    overlay_charts,
    paired_charts,
    side_by_side,
    summarise_distances,
    tables_of,
    warnings_of,
)
from pipeline.page.render import render_comparison
from pipeline.run_dir import layout
from pipeline.run_dir.layout import RunDir
from stages.report.page import build_page

Run = tuple[Path, Recipe]


def write_comparison(
    first_run: Run, second_run: Run, output: Path, price_per_hour: float | None
) -> None:
    """Write one HTML file that compares two runs.

    Args:
        first_run: directory and recipe of a run with a report.
        second_run: directory and recipe of the other run.
        output: HTML file.
        price_per_hour: price of the whole cluster; None to leave out costs.

    Raises:
        ConfigError: both are the same run.
        DataError: a run has no report yet.
    """
    sides = _sides(first_run, second_run, price_per_hour)
    grids, rows, no_samples_reason = _sample_grids(sides, first_run, second_run)
    comparison = Comparison(
        sides=sides,
        summary=summarise_distances(sides),
        warnings=warnings_of(sides),
        tables=tables_of(sides),
        others=other_tables_of(sides),
        charts=overlay_charts(sides),
        paired_charts=paired_charts(sides),
        encoders=encoder_sections(sides),
        rows=rows,
        looks=grids,
        no_samples_reason=no_samples_reason,
        differences=tuple(_differences(first_run[1], second_run[1])),
    )
    write_durably(output, render_comparison(comparison))


def labels_of(first_run: Path, second_run: Path) -> tuple[str, str]:
    """Return display names of two run directories: the shortest path endings that differ.

    Raises:
        ConfigError: both are the same run.
    """
    first, second = first_run.resolve().parts, second_run.resolve().parts
    if first == second:
        raise ConfigError(f"{first_run} and {second_run} are the same run; give two different runs")
    length = next(
        count for count in range(1, len(first) + len(second)) if first[-count:] != second[-count:]
    )
    return "/".join(first[-length:]), "/".join(second[-length:])


def _sides(first_run: Run, second_run: Run, price: float | None) -> tuple[ComparedRun, ComparedRun]:
    first, second = labels_of(first_run[0], second_run[0])
    return _side(first, first_run, price), _side(second, second_run, price)


def _side(label: str, run: Run, price: float | None) -> ComparedRun:
    run_dir, recipe = run
    page = build_page(run_dir, recipe, price)
    return ComparedRun(label, page, read_report(RunDir(run_dir).report))


def _sample_grids(
    sides: tuple[ComparedRun, ComparedRun], first_run: Run, second_run: Run
) -> tuple[tuple[Any, ...], tuple[str, ...], str]:
    """Return images by guidance weight, the names of their rows, and why there are none."""
    reports = sides[0].report, sides[1].report
    manifests = [read_manifest(run_dir / layout.TEACHER) for run_dir, _ in (first_run, second_run)]
    same_noise = (
        reports[0].protocol.seed == reports[1].protocol.seed
        and manifests[0].latent_shape == manifests[1].latent_shape
    )
    if not same_noise or not _same_conditions(sides):
        return (
            (),
            (),
            "The runs differ in conditions or noise; their samples are not comparable.",
        )
    by_weight = [{each.w: each for each in side.page.looks} for side in sides]
    common = [w for w in by_weight[0] if w in by_weight[1]]
    if not common:
        return (), (), "The runs have no samples at a common guidance weight."
    grids = tuple((w, side_by_side(by_weight[0][w], by_weight[1][w])) for w in common)
    return grids, by_weight[0][common[0]].rows, ""


def _same_conditions(sides: tuple[ComparedRun, ComparedRun]) -> bool:
    """Return whether both reports have the same conditions, sample by sample."""
    first_run, second_run = sides[0].report, sides[1].report
    if first_run.protocol.num_samples != second_run.protocol.num_samples:
        return False
    if isinstance(first_run, Report) and isinstance(second_run, Report):
        return first_run.class_names == second_run.class_names
    data = {side.page.lineage[0][1] for side in sides}
    return (
        isinstance(first_run, AgreementReport)
        and isinstance(second_run, AgreementReport)
        and len(data) == 1
    )


def _differences(first_run: Recipe, second_run: Recipe) -> Iterator[tuple[str, str, str]]:
    first, second = (dict(leaves(each.model_dump(mode="json"))) for each in (first_run, second_run))
    for key in dict.fromkeys([*first, *second]):
        if first.get(key) != second.get(key):
            yield key, str(first.get(key, "")), str(second.get(key, ""))
