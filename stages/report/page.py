"""What the page of a run shows, gathered from the files of its directory."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import numpy as np

from infra.process.machines import read_machines
from pipeline.bundle import Manifest, read_manifest
from pipeline.config import Recipe
from pipeline.durable import write_durably
from pipeline.errors import DataError
from pipeline.evaluation.documents import Cell, Report
from pipeline.evaluation.reports.agreement import AgreementReport, read_either
from pipeline.evaluation.reports.encoder_report import PictureKind, picture_name, read_translation
from pipeline.ledger import Artifact, Ledger
from pipeline.page.charts import trade_charts, training_chart
from pipeline.page.encoder_section import encoders_of
from pipeline.page.number_tables import class_tables, made_of, number_tables
from pipeline.page.quality_curves import curve_charts
from pipeline.page.sample_images import look_at, picture_of
from pipeline.page.summary import judge, listed
from pipeline.page.view_model import Chart, Encoders, Look, Page
from pipeline.run_dir.gate_history import GateRecord, gate_records, let_through, reasons
from pipeline.sampling.conditions import asked_of
from pipeline.sampling.sampler import Images
from pipeline.tracking import read_metrics
from pipeline.training.plan import plan_decoders, plan_rounds, plan_teacher
from stages.evaluation.encoders import FOLDER as ENCODERS
from stages.evaluation.sample_sets import samples_place
from stages.report.stage_costs import attempts_at, costs_of, money_for
from stages.report.usage import usage_of


def gather(run_dir: Path, recipe: Recipe, price_per_hour: float | None) -> Page:
    """Collect all content of the page; arguments and errors as in `write_page`."""
    ledger = Ledger(run_dir)
    by_place = {artifact.path: artifact for artifact in ledger.records()}
    if "report" not in by_place:
        raise DataError(f"{run_dir} has no report yet; finish the run first")
    folder = ledger.locate(by_place["report"])
    report = read_either(folder)
    bundles = _bundles(recipe, by_place)
    manifests = [read_manifest(ledger.locate(artifact)) for _, artifact in bundles]
    records = gate_records(ledger)
    seconds = _seconds(run_dir)
    total = sum(seconds.values())
    looks = _looks(run_dir, by_place["data"], report)
    return Page(
        run=recipe.run.name,
        what=_what(recipe, manifests[0], [m for m in manifests if m.direction == "decode"][-1]),
        facts=_facts(report, bundles, total, price_per_hour),
        judgement=judge(report),
        accepted=tuple(_accepted(recipe, by_place, records)),
        weights=tuple(dict.fromkeys(row.cell.w for row in report.rows)),
        charts=tuple(_charts(run_dir, recipe, report, records)),
        looks=tuple(looks),
        pictures=_pictures(folder, report, {look.w for look in looks}),
        tables=number_tables(report),
        by_class=class_tables(report),
        made=made_of(report),
        encoders=_encoders(ledger, by_place.get(ENCODERS)),
        costs=costs_of(run_dir, recipe, seconds, price_per_hour),
        total_s=total,
        money=None if price_per_hour is None else money_for(total, price_per_hour),
        price=_price(price_per_hour),
        lineage=_lineage(ledger, by_place["data"], bundles),
        environment=_environment(run_dir),
        usage=usage_of(run_dir, recipe, report),
        protocol=_protocol(report),
    )


def _bundles(recipe: Recipe, by_place: dict[str, Artifact]) -> list[tuple[str, Artifact]]:
    places = [("teacher", "teacher")]
    places += [(plan.title, f"{plan.folder}/student") for plan in plan_rounds(recipe)]
    return [(title, by_place[place]) for title, place in places if place in by_place]


def _what(recipe: Recipe, teacher: Manifest, student: Manifest) -> str:
    """One sentence: which teacher, into what."""
    steps = dict.fromkeys(p.student_steps for p in plan_decoders(recipe) if p.student_steps)
    few = f"{listed(tuple(steps))} {'step' if tuple(steps)[-1] == 1 else 'steps'}"
    samplers = recipe.halving.samplers
    kinds = f", {' and '.join(samplers)}," if samplers != ("deterministic",) else ""
    guidance = f"take the guidance weight w, {recipe.guidance.w.in_words}, as an input"
    if student.baked_w is not None:
        guidance = f"have guidance baked in, at w = {student.baked_w:g}"
    return (
        f"A guided {teacher.network.family} teacher, distilled into students that draw in "
        f"{few}{kinds} and {guidance}."
    )


def _accepted(
    recipe: Recipe, by_place: Mapping[str, Artifact], records: Sequence[GateRecord]
) -> Iterator[str]:
    """The students that teach, or are the last, because a person said so."""
    for plan in plan_rounds(recipe):
        record = let_through(records, by_place.get(f"{plan.folder}/student"))
        if record is not None:
            yield (
                f"A person accepted the student of {record.verdict.title}, which its gate had "
                f"failed: {reasons(record.verdict)}."
            )


def _facts(
    report: Report | AgreementReport,
    bundles: Sequence[tuple[str, Artifact]],
    seconds: float,
    per_hour: float | None,
) -> tuple[tuple[str, str], ...]:
    students = [row for row in report.rows if row.cell.role == "student"]
    fewest = min(students, key=lambda row: row.evaluations)
    guided = [row.evaluations for row in report.rows if row.cell.role in ("teacher", "yardstick")]
    minutes = seconds / 60
    took = f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
    return (
        (f"{fewest.cell.steps}", "sampling steps at the least"),
        (f"{max(guided) // fewest.evaluations} x", "fewer network evaluations than the teacher"),
        (f"{len(bundles) - 1}", "rounds of distillation"),
        (f"{report.protocol.num_samples}", "samples measured a cell"),
        (took, "in all, teacher included"),
        *([] if per_hour is None else [(f"{money_for(seconds, per_hour):.2f}", _at(per_hour))]),
    )


def _at(per_hour: float) -> str:
    return f"in money, at {per_hour:g} an hour"


def _charts(
    run_dir: Path,
    recipe: Recipe,
    report: Report | AgreementReport,
    records: Sequence[GateRecord],
) -> list[Chart]:
    charts = curve_charts(report)
    if isinstance(report, Report):
        charts += trade_charts(report)
    teacher = plan_teacher(recipe)
    tried = (each for plan in plan_rounds(recipe) for each in attempts_at(plan, records, run_dir))
    losses = {}
    for plan in [*([teacher] if teacher else []), *tried]:
        lines = list(read_metrics(run_dir / plan.folder / "metrics.jsonl"))
        if lines:
            losses[plan.title] = lines
    training = training_chart(losses)
    return [*charts, *([training] if training else [])]


def _looks(run_dir: Path, data: Artifact, report: Report | AgreementReport) -> list[Look]:
    number = report.protocol.num_samples
    labels = asked_of(run_dir / data.path, number).labels

    def load(cell: Cell) -> Images | None:
        path = run_dir / samples_place(number, cell)
        found: Images | None = np.load(path, allow_pickle=False) if path.is_file() else None
        return found

    looks = [look_at(report, w, labels, load) for w in dict.fromkeys(r.cell.w for r in report.rows)]
    return [look for look in looks if look]


def _pictures(
    folder: Path, report: Report | AgreementReport, seen: set[float]
) -> tuple[tuple[float, str], ...]:
    """The report's own pictures: samples beside their prompts, or what has no other picture."""
    found = []
    for w in dict.fromkeys(row.cell.w for row in report.rows):
        for name in report.pictures:
            kind, _, rest = name.partition("-")
            if rest == f"w{w:g}.png" and (kind == "prompts" or w not in seen):
                found.append((w, picture_of(folder / name)))
    return tuple(found)


def _seconds(run_dir: Path) -> dict[str, float]:
    """By stage, in the order they first ran."""
    path = run_dir / "timing.json"
    tree = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {stage["label"]: float(stage["seconds"]) for stage in tree.get("stages", [])}


def _price(per_hour: float | None) -> str:
    if per_hour is None:
        return ""
    return f"At {per_hour:g} an hour for all machines together, for as long as each row took."


def _encoders(ledger: Ledger, made: Artifact | None) -> Encoders | None:
    """What the other report says, of a run that has encoders."""
    if made is None:
        return None
    folder = ledger.locate(made)
    report = read_translation(folder)
    weights = dict.fromkeys(row.w for row in report.rows)
    kinds = get_args(PictureKind)
    names = {picture_name(w, kind): w for kind in kinds for w in weights}
    pictures = [(names[name], picture_of(folder / name)) for name in report.pictures]
    return encoders_of(report, pictures)


def _lineage(
    ledger: Ledger, data: Artifact, bundles: Sequence[tuple[str, Artifact]]
) -> tuple[tuple[str, str, str], ...]:
    """What was made, its digest, and the digest of the teacher it was made from."""
    found = [("data", data.digest, "")]
    for title, artifact in bundles:
        parent = read_manifest(ledger.locate(artifact)).lineage.parent
        found.append((title, artifact.digest, f"from {parent[:12]}" if parent else ""))
    return tuple(found)


def _environment(run_dir: Path) -> tuple[tuple[str, str], ...]:
    """Where the run was worked on, as it has recorded that itself."""
    found = [line for each in read_machines(run_dir) for line in each.lines]
    unknown = ("machine", "unknown: the run has not recorded it")
    now = ("page written", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    return (*(found or [unknown]), now)


def _protocol(report: Report | AgreementReport) -> tuple[str, ...]:
    protocol = report.protocol
    said = [
        f"{protocol.num_samples} samples a cell, the same noise (seed {protocol.seed}) in all of "
        "them; bars and bands are 95 % bootstrap intervals.",
        f"The teacher's reference is DDIM in {protocol.reference_steps} steps.",
        protocol.w_convention + ".",
    ]
    if isinstance(report, Report):
        known = report.protocol
        said += [
            f"Fréchet distances to {known.num_heldout} held-out real images, in the "
            f"{known.features}; compare them within this page only.",
            f"The classifier has {known.classifier_parameters:,} parameters, gets "
            f"{known.classifier_heldout_accuracy:.1%} of held-out images right, and has sha256 "
            f"{known.classifier_sha256[:16]}.",
            f"Precision and recall by {known.neighbours} nearest neighbours in the same features.",
        ]
        said += [f"Left out: {reason}." for reason in report.skipped]
    for panel in report.panels:
        read_by = panel.metrics[0].extractor_sha256 or "none"
        said.append(
            f"Numbers in the features of {panel.extractor} stand in charts of their own; sha256 of "
            f"its weights: {read_by[:16]}."
        )
    return tuple(said)


def page_of(run_dir: Path) -> Path:
    """Where a run's page lies, if there is one."""
    return run_dir / "report" / "index.html"


def forget_page(run_dir: Path) -> None:
    """Take a page away that does not tell all that the run has made; it is then written again."""
    page_of(run_dir).unlink(missing_ok=True)


def write_page(run_dir: Path, recipe: Recipe, price_per_hour: float | None = None) -> Path:
    """Write `report/index.html` of a run that has a report.

    Args:
        run_dir: the run directory.
        recipe: of the run.
        price_per_hour: of all machines together, in any currency; None to say nothing of money.

    Raises:
        DataError: there is no report yet.
    """
    from pipeline.page.render import render
    from stages.report.page import gather

    path = page_of(run_dir)
    write_durably(path, render(gather(run_dir, recipe, price_per_hour)))
    return path
