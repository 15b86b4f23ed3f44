"""What the page of a run shows, gathered from the files of its directory."""

import json
import os
import platform
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from infra.profile import Profile
from pipeline.bundle import Manifest, read_manifest
from pipeline.config import Recipe
from pipeline.errors import DataError
from pipeline.evaluation.agreement import AgreementReport, read_either
from pipeline.evaluation.asking import asked_of
from pipeline.evaluation.protocol import Cell, Report
from pipeline.evaluation.sampling import Images
from pipeline.ledger import Artifact, Ledger
from pipeline.page.charts import trade_charts, training_chart
from pipeline.page.content import Chart, Look, Page, RoundCost, Usage
from pipeline.page.curves import curve_charts, panel_charts
from pipeline.page.looks import look_at, picture_of
from pipeline.page.verdict import judge, listed
from pipeline.stock.card import THIS_DIRECTORY
from pipeline.tracking import read_metrics
from pipeline.training.plan import plan_decoders, plan_rounds, plan_teacher
from pipeline.training.plan_row import PlanRow
from pipeline.wording import counted
from stages.planning import describe
from stages.sample_sets import samples_place

_TARGETS, _DISTIL = ", pre-generate targets", ", distil"
_PACKAGES = ("stepfold", "torch", "diffusers", "deepspeed", "ray", "mlflow", "prefect")


def gather(run_dir: Path, recipe: Recipe, price_per_hour: float | None) -> Page:
    """Everything that is shown; arguments and errors are those of `stages.page.write_page`."""
    ledger = Ledger(run_dir)
    by_place = {artifact.path: artifact for artifact in ledger.records()}
    if "report" not in by_place:
        raise DataError(f"{run_dir} has no report yet; finish the run first")
    folder = ledger.locate(by_place["report"])
    report = read_either(folder)
    bundles = _bundles(recipe, by_place)
    manifests = [read_manifest(ledger.locate(artifact)) for _, artifact in bundles]
    seconds = _seconds(run_dir)
    total = sum(seconds.values())
    looks = _looks(run_dir, by_place["data"], report)
    return Page(
        run=recipe.run.name,
        what=_what(recipe, manifests[0], [m for m in manifests if m.direction == "decode"][-1]),
        facts=_facts(report, bundles, total),
        judgement=judge(report),
        weights=tuple(dict.fromkeys(row.cell.w for row in report.rows)),
        charts=tuple(_charts(run_dir, recipe, report)),
        looks=tuple(looks),
        pictures=_pictures(folder, report, {look.w for look in looks}),
        costs=_costs(recipe, seconds),
        total_s=total,
        price=_price(total, price_per_hour),
        lineage=_lineage(ledger, by_place["data"], bundles),
        environment=_environment(),
        usage=_usage(run_dir, recipe),
        protocol=_protocol(report),
    )


def _bundles(recipe: Recipe, by_place: dict[str, Artifact]) -> list[tuple[str, Artifact]]:
    places = [("teacher", "teacher")]
    places += [(plan.title, f"{plan.folder}/student") for plan in plan_rounds(recipe)]
    return [(title, by_place[place]) for title, place in places if place in by_place]


def _what(recipe: Recipe, teacher: Manifest, student: Manifest) -> str:
    """One sentence: which teacher, into what."""
    steps = [plan.student_steps for plan in plan_decoders(recipe) if plan.student_steps]
    guidance = f"take the guidance weight w, {recipe.guidance.w.in_words}, as an input"
    if student.baked_w is not None:
        guidance = f"have guidance baked in, at w = {student.baked_w:g}"
    return (
        f"A guided {teacher.network.family} teacher, distilled into students that draw in "
        f"{listed(steps)} {'step' if steps[-1] == 1 else 'steps'} and {guidance}."
    )


def _facts(
    report: Report | AgreementReport, bundles: Sequence[tuple[str, Artifact]], seconds: float
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
    )


def _charts(run_dir: Path, recipe: Recipe, report: Report | AgreementReport) -> list[Chart]:
    charts = curve_charts(report)
    charts += [chart for panel in report.panels for chart in panel_charts(panel)]
    if isinstance(report, Report):
        charts += trade_charts(report)
    teacher = plan_teacher(recipe)
    losses = {}
    for plan in [*([teacher] if teacher else []), *plan_rounds(recipe)]:
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


def _costs(recipe: Recipe, seconds: dict[str, float]) -> tuple[RoundCost, ...]:
    """Stage by stage, rounds in one line each; counts are those of a run without interruption."""
    with tempfile.TemporaryDirectory() as empty:  # where nothing is done, everything is counted
        rows = describe(recipe, Profile(), Path(empty))
    grouped: dict[str, list[PlanRow]] = {}
    for row in rows:
        grouped.setdefault(row.label.removesuffix(_TARGETS).removesuffix(_DISTIL), []).append(row)
    return tuple(
        RoundCost(
            title=title,
            updates=sum(row.updates for row in parts),
            evaluations=sum(row.teacher_evaluations + row.student_evaluations for row in parts),
            bytes=sum(row.bytes for row in parts),
            targets_s=seconds.get(title + _TARGETS),
            rest_s=seconds.get(title + _DISTIL, seconds.get(title)),
        )
        for title, parts in grouped.items()
    )


def _price(seconds: float, per_hour: float | None) -> str:
    if per_hour is None:
        return ""
    cost = seconds / 3600 * per_hour
    return f"At {per_hour:g} an hour for all machines together: {cost:.2f} in all."


def _lineage(
    ledger: Ledger, data: Artifact, bundles: Sequence[tuple[str, Artifact]]
) -> tuple[tuple[str, str, str], ...]:
    """What was made, its digest, and the digest of the teacher it was made from."""
    found = [("data", data.digest, "")]
    for title, artifact in bundles:
        parent = read_manifest(ledger.locate(artifact)).lineage.parent
        found.append((title, artifact.digest, f"from {parent[:12]}" if parent else ""))
    return tuple(found)


def _environment() -> tuple[tuple[str, str], ...]:
    cores = f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, {platform.system()}"
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        ("machine", cores),
        ("Python", platform.python_version()),
        ("packages", packages),
        ("page made", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
    )


def _usage(run_dir: Path, recipe: Recipe) -> tuple[Usage, ...]:
    """A stock pipeline where there is one, as its own card says; else our own sampler."""
    pipelines = sorted((run_dir / "pipelines").glob("*-steps"), key=_steps_of)
    if pipelines:
        title = f"In {counted(_steps_of(pipelines[0]), 'step')}, with diffusers alone"
        return (
            Usage(title, _code_of(pipelines[0] / "README.md", f"pipelines/{pipelines[0].name}")),
        )
    last = plan_decoders(recipe)[-1]
    place, steps = f"{last.folder}/student", last.student_steps
    w = recipe.guidance.w.middle
    command = f"stepfold sample {place} --steps {steps} --guidance-weight {w:g}"
    return (Usage("The shortest student", (f"{command} --output samples.png",)),)


def _code_of(card: Path, place: str) -> tuple[str, ...]:
    """The Python of a model card, with the place it speaks of."""
    _, _, rest = card.read_text(encoding="utf-8").partition("```python\n")
    code = rest.partition("```")[0].replace(THIS_DIRECTORY, place)
    return tuple(line for line in code.splitlines() if line)


def _steps_of(path: Path) -> int:
    return int(path.name.partition("-")[0])


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
