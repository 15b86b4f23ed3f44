"""Synthetic numbers of a report: fewer steps give worse scores."""

from collections.abc import Sequence
from typing import Any

from pipeline.evaluation.documents import ExtractorMetrics, ExtractorRow, Row, SampleSpec
from pipeline.evaluation.metric_specs import (
    ProtocolContext,
    real_image_metrics,
    teacher_metric,
)
from pipeline.evaluation.scores import ExtractorScores, Scores
from pipeline.evaluation.verdicts.checks import Check, Verdict

EXTRACTORS = (("inception", "InceptionV3 (FID)"), ("clip", "CLIP ViT-B/32"))


def cost(cell: SampleSpec) -> int:
    return cell.steps * (2 if cell.role != "student" and cell.w else 1)


def harm_of(cell: SampleSpec, off: float) -> float:
    """Return the factor by which fewer steps worsen scores; 1 for the teacher's reference."""
    harm = 0.6 if cell.role == "student" else 6.0
    return 1.0 if cell.role == "teacher" else off * (1 + harm / cell.steps**1.3)


def around(name: str, value: float, spread: float = 0.08) -> dict[str, Any]:
    return {name: value, f"{name}_interval": (value * (1 - spread), value * (1 + spread))}


def scores(cell: SampleSpec, off: float) -> Scores:
    worse, w = harm_of(cell, off), cell.w
    found: dict[str, Any] = {}
    for name, value in {
        "distance_to_real": (0.5 + w) * worse,
        "relative_distance": worse / off,
        "distance_to_teacher": 0.2 * worse,
        "kid_to_real": 0.002 * worse,
        "class_accuracy": min(1.0, (0.9 + w / 50) / worse**0.1),
        "inception_score": (7 + w / 2) / worse**0.2,
        "precision": min(1.0, (0.8 + w / 30) / worse**0.3),
        "recall": (0.9 - w / 10) / worse**0.5,
        "density": 0.9 / worse,
        "coverage": 0.85 / worse,
        "rms_to_teacher": 0.05 * worse,
        "psnr_to_teacher": 30 / worse**0.2,
        "ssim_to_teacher": 0.95 / worse**0.2,
        "nearest_training": 0.31,
    }.items():
        found |= around(name, value)
    shares = [min(1.0, found["class_accuracy"] - (digit - 4.5) / 100) for digit in range(10)]
    by_class = {str(digit): around("share", share) for digit, share in enumerate(shares)}
    found["accuracy_by_class"] = {name: each["share"] for name, each in by_class.items()}
    intervals = {name: each["share_interval"] for name, each in by_class.items()}
    found["accuracy_by_class_interval"] = intervals
    return Scores.model_validate(found)


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    found = []
    for row in (row for row in rows if row.cell.role == "student"):
        reference = next(r for r in rows if r.cell.role == "teacher" and r.cell.w == row.cell.w)
        ratio = row.scores.distance_to_real / reference.scores.distance_to_real
        checks = (
            Check(name="distance", value=ratio, most=1.2, interval=(0.96 * ratio, 1.04 * ratio)),
            Check(name="recall", value=row.scores.recall / reference.scores.recall, least=0.9),
            Check(
                name="RMS",
                value=row.scores.rms_to_teacher or 0.0,
                most=None if row.cell.adds_noise else 0.15,
            ),
        )
        fields = {"title": row.cell.title, "w": row.cell.w, "floor_factor": 1.0, "checks": checks}
        found.append(Verdict.model_validate({"judged": "student", **fields}))
        bad = (Check(name="recall", value=0.0, least=0.9),)
        found.append(Verdict.model_validate({**fields, "judged": "class means", "checks": bad}))
    return found


def panel(
    kind: str, title: str, setting: ProtocolContext, cells: Sequence[SampleSpec], off: float
) -> ExtractorMetrics:
    extractor = (title, ("e" if kind == "clip" else "f") * 64)
    distance = "FID" if kind == "inception" else f"to real, by {kind}"
    metrics = [*real_image_metrics(setting, extractor, setting.real("heldout", 36), distance)]
    metrics.append(teacher_metric(setting, extractor))
    keys = ("distance_to_real", "kid_to_real", "precision", "recall", "density", "coverage")
    rows = []
    for cell in cells:
        worse = harm_of(cell, off)
        found = {key: value for name in keys for key, value in around(name, 0.6 / worse).items()}
        found |= around("distance_to_real", (12 + cell.w) * worse)
        found |= around("distance_to_teacher", 4 * worse)
        if kind == "clip":
            found |= around("clip_score", 26 / worse**0.1, 0.02)
        measured = ExtractorScores.model_validate(found)
        rows.append(ExtractorRow(cell=cell, evaluations=cost(cell), scores=measured))
    if kind == "clip":
        metrics.append(setting.metric("clip_score", extractor, setting.conditions("the prompt")))
    return ExtractorMetrics(extractor=title, kind=kind, metrics=tuple(metrics), rows=tuple(rows))
