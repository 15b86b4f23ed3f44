"""A synthetic finished run for the report page: all artifacts committed, scores made up.

The data come from a folder of images, which a test may remove. The students are untrained and in
two ladders, there are encoders, and the report has metrics of two extractors.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.bundle import read_manifest
from pipeline.config import Recipe
from pipeline.documents import build, read_yaml
from pipeline.evaluation.documents import (
    EvaluatedBundle,
    Protocol,
    Report,
    Row,
    SampleSpec,
    plan_cells,
)
from pipeline.evaluation.metric_specs import ProtocolContext, classifier_metrics
from pipeline.evaluation.reports.encoder_report import (
    TEACHER,
    PictureKind,
    RoundTrip,
    TranslationReport,
    TranslationRow,
    picture_name,
    sources_of,
    write_translation,
)
from pipeline.evaluation.reports.report_summary import write_report
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.models.assemble import family_of, save_bundle
from pipeline.run_dir.layout import ENCODERS
from pipeline.run_dir.recipe_file import prepare_run_dir
from pipeline.tracking import JsonlTracker
from pipeline.training.plan import plan_rounds, plan_teacher
from stages.chain import StageId, Step, round_steps
from stages.data.shard import shard
from stages.evaluation.sample_sets import samples_place
from stages.workspace import Workspace
from tests.support.cases import teacher_manifest
from tests.support.page_numbers import EXTRACTORS, around, cost, harm_of, panel, scores, verdicts

NUM = 80
DIGITS = Path(__file__).resolve().parents[2] / "flows" / "recipes" / "digits.yaml"
_STEPS = {"steps": [8, 4, 2, 1], "first_substeps": 2, "updates": 300, "batch_size": 64}


@dataclass(frozen=True)
class PageRun:
    """A run directory, its recipe, and the source folder of its data."""

    run_dir: Path
    recipe: Recipe
    source: Path


def make_page_run(root: Path, *, off: float = 1.0, seed: int = 0) -> PageRun:
    """Create a run below `root`; `off` scales the students' distances."""
    source = root / "images"
    _draw_source(source)
    recipe = _recipe(source)
    run_dir = root / "run"
    prepare_run_dir(recipe, run_dir, accept_changes=False)
    data = shard(Workspace(run_dir, recipe)).value
    bundles = _bundles(run_dir, recipe, data)
    _log_losses(run_dir, recipe)
    _report(run_dir, recipe, data, bundles, off, seed)
    _translate(run_dir, recipe, off)
    seconds = [
        {"stage": step.id, "title": step.title, "seconds": 60.0 + at}
        for at, step in enumerate(_steps(recipe))
    ]
    (run_dir / "timing.json").write_text(json.dumps({"stages": seconds}))
    return PageRun(run_dir, recipe, source)


def _draw_source(folder: Path) -> None:
    """Write twelve scans of each digit."""
    scans = load_digits()
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True)
        for at, scan in enumerate(scans.images[scans.target == digit][:12]):
            pixels = (scan * 255 / 16).round().astype(np.uint8)
            Image.fromarray(pixels).save(folder / str(digit) / f"{at}.png")


def _recipe(source: Path) -> Recipe:
    tree = read_yaml(DIGITS)
    tree["data"] = {"source": "image_folder", "path": str(source), "size": 8, "channels": 1}
    tree["data"]["holdout"] = 0.3
    tree["teacher"]["network"] = {"family": "unet", "block_channels": [8, 16]}
    tree["halving"] = {**_STEPS, "sampler": "both"}
    tree["encoding"] = {**_STEPS, "steps": [8, 4, 2]}
    tree["evaluation"] = {"num_samples": NUM, "w": [0, 2, 4], "baseline_steps": [1, 4]}
    return build(Recipe, tree, "page")


def _bundles(run_dir: Path, recipe: Recipe, data: Artifact) -> list[Artifact]:
    """Publish the teacher and a student of every round, all with the same small weights."""
    manifest = teacher_manifest("unet").model_copy(update={"network": recipe.teacher.network})
    family = family_of(manifest)
    module = family.build()

    def published(place: str, kind: str, told: Any) -> Artifact:
        def write(folder: Path) -> dict[str, Any]:
            save_bundle(folder, told, module)
            return {}

        return Ledger(run_dir).publish(kind, fingerprint({"at": place}), place, write)

    made = [published("teacher", "teacher", manifest)]
    for plan in plan_rounds(recipe):
        lineage = manifest.lineage.model_copy(
            update={"round": plan.index, "parent": made[(plan.parent or 0) + 1].digest}
        )
        told = {
            "role": "student",
            "w": plan.w,
            "steps": None if plan.student_steps is None else (plan.student_steps,),
            "sampler": plan.sampler,
            "direction": plan.direction,
            "lineage": lineage,
        }
        student = manifest.model_copy(update=told)
        made.append(published(f"{plan.folder}/student", "student", student))
    return made


def _log_losses(run_dir: Path, recipe: Recipe) -> None:
    teacher = plan_teacher(recipe)
    for plan in [*([teacher] if teacher else []), *plan_rounds(recipe)]:
        tracker = JsonlTracker(run_dir / plan.folder / "metrics.jsonl", 0)
        for update in range(10, plan.training.updates, 100):
            loss = 2 / (update + 5) + 0.01
            tracker.log({"update": float(update), "train/loss": loss}, update)


def _steps(recipe: Recipe) -> list[Step]:
    rounds = [step for plan in plan_rounds(recipe) for step in round_steps(recipe, plan)]
    first, last = (StageId.DATA, StageId.TEACHER), (StageId.EVALUATE, StageId.PUBLISH)
    return [*map(Step, first), *rounds, *map(Step, last)]


def _report(
    run_dir: Path, recipe: Recipe, data: Artifact, made: Sequence[Artifact], off: float, seed: int
) -> None:
    entrants = [
        EvaluatedBundle(
            manifest=read_manifest(run_dir / each.path), path=each.path, digest=each.digest
        )
        for each in made
    ]
    drawing = [each for each in entrants if each.manifest.direction == "decode"]
    cells = [
        cell
        for cell in plan_cells(recipe, drawing[0], drawing[1:], ["ddim"])
        if cell.role != "noise_floor"
    ]
    _draw_samples(run_dir, data, cells, seed)
    context = ProtocolContext(NUM, 0, 1, 64, 100, data.digest, (8, 8, 1), "c" * 64)
    rows = tuple(Row(cell=cell, evaluations=cost(cell), scores=scores(cell, off)) for cell in cells)
    report = Report(
        run=recipe.run.name,
        protocol=Protocol(
            features="features of a classifier of 8x8 digits",
            classifier_sha256="ab" * 32,
            classifier_parameters=12345,
            classifier_heldout_accuracy=0.987,
            num_samples=NUM,
            num_heldout=36,
            num_training=84,
            seed=0,
            noise_floor_seed=1,
            reference_steps=64,
        ),
        class_names=tuple(map(str, range(10))),
        real=scores(cells[0], 0.5),
        rows=rows,
        verdicts=tuple(verdicts(rows)),
        skipped=(),
        pictures=(),
        metrics=classifier_metrics(
            context, ("classifier", "ab" * 32), {"heldout": 36, "train": 84}, reads_prompts=False
        ),
        panels=tuple(panel(kind, title, context, cells, off) for kind, title in EXTRACTORS),
    )

    def write(folder: Path) -> dict[str, Any]:
        write_report(report, folder)
        return {}

    parents = tuple(each.fingerprint for each in (data, *made))
    Ledger(run_dir).publish("report", "cd" * 32, "report", write, parents)


def _draw_samples(run_dir: Path, data: Artifact, cells: Sequence[SampleSpec], seed: int) -> None:
    """Write digits of the sample sets' classes; fewer steps add more noise."""
    scans = load_digits()
    labels = np.sort(np.arange(NUM) % 10)
    chosen = [scans.images[scans.target == label][at % 8] for at, label in enumerate(labels)]
    clean = (np.stack(chosen)[..., None] / 8 - 1).astype(np.float32)
    noise = np.random.default_rng(seed).normal(size=clean.shape).astype(np.float32)
    for cell in cells:
        place = run_dir / samples_place(NUM, cell)
        place.parent.mkdir(parents=True, exist_ok=True)
        np.save(place, (clean + 0.15 * (harm_of(cell, 1.0) - 1) * noise).clip(-1, 1))


def _translate(run_dir: Path, recipe: Recipe, off: float) -> None:
    sources = sources_of(run_dir / "data", NUM)
    weights = recipe.evaluation.w
    ways: list[tuple[str, int, int | None]] = [
        *((TEACHER, 64, None), ("stage-1 student", 8, None)),
        *(("encoder and student", n, None) for n in (4, 2)),
        *((TEACHER, 64, 32), ("student", 4, 2)),  # edits
    ]

    def turned(who: str, steps: int, taken: int | None) -> RoundTrip:
        pictures = {w: np.roll(sources.pictures, -len(sources.pictures) // 2, 0) for w in weights}
        evaluations = {w: taken or steps * (3 if who == TEACHER and w else 2) for w in weights}
        back = None if taken else sources.pictures
        return RoundTrip(who, steps, evaluations, back, pictures, pictures, taken)

    rows = []
    for w in weights:
        for who, steps, taken in ways:
            worse = 1.0 if who == TEACHER else off * (1 + 3 / steps)
            told: dict[str, Any] = {"who": who, "steps": steps, "taken": taken, "w": w}
            told["evaluations"] = turned(who, steps, taken).evaluations[w]
            told |= {} if taken else around("round_trip", 0.04 * worse)
            told |= around("class_accuracy", 0.95 / worse**0.1, 0.03)
            told |= around("to_source", 0.5 + w / 20)
            told |= around("fresh_to_source", 0.75)
            told |= around("to_teacher", 0.05 * (worse - 1))
            rows.append(TranslationRow.model_validate(told))
    report = TranslationReport(
        run=recipe.run.name,
        num_pictures=len(sources.pictures),
        rows=tuple(rows),
        pictures=tuple(picture_name(w, kind) for kind in get_args(PictureKind) for w in weights),
    )

    def write(folder: Path) -> dict[str, Any]:
        names = tuple(map(str, range(10)))
        write_translation(report, sources, [turned(*way) for way in ways], names, folder)
        return {}

    Ledger(run_dir).publish("side report", "ef" * 32, ENCODERS, write)
