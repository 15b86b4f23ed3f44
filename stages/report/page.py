"""Build and write the HTML report of a run from the files of its directory."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from infra.process.machines import read_machines
from pipeline.bundle import Manifest, read_manifest
from pipeline.config import Recipe
from pipeline.durable import write_durably
from pipeline.errors import DataError
from pipeline.evaluation.documents import AnyReport, Report, SampleSpec, read_report
from pipeline.evaluation.reports.encoder_report import PictureKind, picture_name, read_translation
from pipeline.evaluation.reports.report_summary import ReportView, join_numbers
from pipeline.ledger import Artifact, Ledger
from pipeline.page.charts import curve_charts, trade_charts, training_chart
from pipeline.page.encoder_section import encoders_of
from pipeline.page.sample_images import build_sample_grids, png_data_uri
from pipeline.page.view_model import Chart, Encoders, Page, SampleGrids
from pipeline.run_dir import layout
from pipeline.run_dir.events import Timing
from pipeline.run_dir.gate_history import GateRecord, approved_record, gate_records, reasons
from pipeline.run_dir.layout import RunDir
from pipeline.sampling.conditions import choose_conditions
from pipeline.sampling.sampler import Images
from pipeline.tracking import read_metrics
from pipeline.training.plan import plan_decoders, plan_rounds, plan_teacher
from stages.evaluation.sample_sets import load_samples, samples_place
from stages.report.stage_costs import attempts_at, costs_of, price_of
from stages.report.usage import usage_of


def write_page(run_dir: Path, recipe: Recipe, price_per_hour: float | None = None) -> Path:
    """Write `report/index.html` of a run with a report.

    Args:
        run_dir: run directory.
        recipe: recipe of the run.
        price_per_hour: price of the whole cluster, in any currency; None to leave out costs.

    Raises:
        DataError: the run has no report yet.
    """
    from pipeline.page.render import render

    path = page_of(run_dir)
    write_durably(path, render(build_page(run_dir, recipe, price_per_hour)))
    return path


def page_of(run_dir: Path) -> Path:
    """Return the path of a run's HTML report."""
    return RunDir(run_dir).page


def remove_page(run_dir: Path) -> None:
    """Delete an outdated HTML report, so that it is written again."""
    page_of(run_dir).unlink(missing_ok=True)


def build_page(run_dir: Path, recipe: Recipe, price_per_hour: float | None) -> Page:
    """Collect the content of the HTML report; arguments and errors as in `write_page`."""
    ledger = Ledger(run_dir)
    by_path = RunDir(run_dir).artifacts()
    if layout.REPORT not in by_path:
        raise DataError(f"{run_dir} has no report yet; run stepfold run first")
    folder = ledger.locate(by_path[layout.REPORT])
    report = read_report(folder)
    view = ReportView(report)
    bundles = _bundles(recipe, by_path)
    manifests = [read_manifest(ledger.locate(artifact)) for _, artifact in bundles]
    records = gate_records(ledger)
    seconds = Timing(run_dir).seconds()
    total = sum(seconds.values())
    grids = _sample_grids(run_dir, by_path[layout.DATA], report)
    return Page(
        run=recipe.run.name,
        what=_headline(recipe, manifests[0], [m for m in manifests if m.direction == "decode"][-1]),
        facts=_facts(report, bundles, total, price_per_hour),
        data_notes=report.data_notes,
        judgement=view.judgement,
        accepted=tuple(_approvals(recipe, by_path, records)),
        weights=tuple(report.weights),
        charts=tuple(_charts(run_dir, recipe, report, records)),
        looks=tuple(grids),
        pictures=_pictures(folder, report, {each.w for each in grids}),
        tables=view.tables,
        by_class=view.by_class,
        made=view.protocols,
        encoders=_encoders(ledger, by_path.get(layout.ENCODERS)),
        costs=costs_of(run_dir, recipe, seconds, price_per_hour),
        total_s=total,
        money=None if price_per_hour is None else price_of(total, price_per_hour),
        price=_price(price_per_hour),
        lineage=_lineage(ledger, by_path[layout.DATA], bundles),
        environment=_environment(run_dir),
        usage=usage_of(run_dir, recipe, report),
        protocol=view.notes,
    )


def _bundles(recipe: Recipe, by_path: dict[str, Artifact]) -> list[tuple[str, Artifact]]:
    places = [("teacher", layout.TEACHER)]
    places += [(plan.title, layout.student_of(plan)) for plan in plan_rounds(recipe)]
    return [(title, by_path[place]) for title, place in places if place in by_path]


def _headline(recipe: Recipe, teacher: Manifest, student: Manifest) -> str:
    """Return one sentence about the teacher and its students."""
    steps = dict.fromkeys(p.student_steps for p in plan_decoders(recipe) if p.student_steps)
    few = f"{join_numbers(tuple(steps))} {'step' if tuple(steps) == (1,) else 'steps'}"
    samplers = recipe.samplers
    kinds = f", {' and '.join(samplers)}," if samplers != ("deterministic",) else ""
    guidance = f"take the guidance weight w, {recipe.w.in_words}, as an input"
    if student.baked_w is not None:
        guidance = f"have a fixed guidance weight, w = {student.baked_w:g}"
    return (
        f"A guided {teacher.network.family} teacher, distilled into students that sample in "
        f"{few}{kinds} and {guidance}."
    )


def _approvals(
    recipe: Recipe, by_path: Mapping[str, Artifact], records: Sequence[GateRecord]
) -> Iterator[str]:
    """Yield a sentence for each student that a person approved."""
    for plan in plan_rounds(recipe):
        record = approved_record(records, by_path.get(layout.student_of(plan)))
        if record is not None:
            yield (
                f"A person approved the student of {record.verdict.title}, which failed the "
                f"quality gate: {reasons(record.verdict)}."
            )


def _facts(
    report: AnyReport,
    bundles: Sequence[tuple[str, Artifact]],
    seconds: float,
    per_hour: float | None,
) -> tuple[tuple[str, str], ...]:
    students = [row for row in report.rows if row.cell.role == "student"]
    fewest = min(students, key=lambda row: row.evaluations)
    guided = [row.evaluations for row in report.rows if row.cell.role in ("teacher", "noise_floor")]
    minutes = seconds / 60
    took = f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
    return (
        (f"{fewest.cell.steps}", "fewest sampling steps"),
        (f"{max(guided) // fewest.evaluations} x", "fewer network evaluations than the teacher"),
        (f"{len(bundles) - 1}", "rounds of distillation"),
        (f"{report.protocol.num_samples}", "samples per cell"),
        (took, "total time, including the teacher"),
        *(
            []
            if per_hour is None
            else [(f"{price_of(seconds, per_hour):.2f}", _price_label(per_hour))]
        ),
    )


def _price_label(per_hour: float) -> str:
    return f"total cost, at {per_hour:g} per hour"


def _charts(
    run_dir: Path,
    recipe: Recipe,
    report: AnyReport,
    records: Sequence[GateRecord],
) -> list[Chart]:
    charts = curve_charts(report)
    if isinstance(report, Report):
        charts += trade_charts(report)
    teacher = plan_teacher(recipe)
    tried = (each for plan in plan_rounds(recipe) for each in attempts_at(plan, records, run_dir))
    losses = {}
    for plan in [*([teacher] if teacher else []), *tried]:
        lines = list(read_metrics(RunDir(run_dir).metrics(plan)))
        if lines:
            losses[plan.title] = lines
    training = training_chart(losses)
    return [*charts, *([training] if training else [])]


def _sample_grids(run_dir: Path, data: Artifact, report: AnyReport) -> list[SampleGrids]:
    number = report.protocol.num_samples
    labels = choose_conditions(run_dir / data.path, number).labels

    def load(cell: SampleSpec) -> Images | None:
        path = run_dir / samples_place(number, cell)
        return load_samples(path) if path.is_file() else None

    grids = [build_sample_grids(report, w, labels, load) for w in report.weights]
    return [each for each in grids if each]


def _pictures(
    folder: Path, report: AnyReport, weights_with_grids: set[float]
) -> tuple[tuple[float, str], ...]:
    """Return the report's own figures: samples with prompts, or at weights without sample grids."""
    found = []
    for w in report.weights:
        for name in report.pictures:
            kind, _, rest = name.partition("-")
            if rest == f"w{w:g}.png" and (kind == "prompts" or w not in weights_with_grids):
                found.append((w, png_data_uri(folder / name)))
    return tuple(found)


def _price(per_hour: float | None) -> str:
    if per_hour is None:
        return ""
    return f"Price: time of each row at {per_hour:g} per hour for the whole cluster."


def _encoders(ledger: Ledger, made: Artifact | None) -> Encoders | None:
    """Return the encoders' report; None for a run without encoders."""
    if made is None:
        return None
    folder = ledger.locate(made)
    report = read_translation(folder)
    weights = dict.fromkeys(row.w for row in report.rows)
    kinds = get_args(PictureKind)
    names = {picture_name(w, kind): w for kind in kinds for w in weights}
    pictures = [(names[name], png_data_uri(folder / name)) for name in report.pictures]
    return encoders_of(report, pictures)


def _lineage(
    ledger: Ledger, data: Artifact, bundles: Sequence[tuple[str, Artifact]]
) -> tuple[tuple[str, str, str], ...]:
    """Return the name of each artifact, its digest, and the digests of its teacher and start."""
    found = [("data", data.digest, "")]
    for title, artifact in bundles:
        lineage = read_manifest(ledger.locate(artifact)).lineage
        sources = [f"from {lineage.parent[:12]}"] if lineage.parent else []
        sources += [f"started as {lineage.start[:12]}"] if lineage.start else []
        found.append((title, artifact.digest, ", ".join(sources)))
    return tuple(found)


def _environment(run_dir: Path) -> tuple[tuple[str, str], ...]:
    """Return the machines of the run, and the time of writing."""
    found = [line for each in read_machines(run_dir) for line in each.lines]
    unknown = ("machine", "not recorded")
    now = ("page written", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    return (*(found or [unknown]), now)
