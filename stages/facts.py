"""What a report says of one student, in words for the card of its pipeline."""

import json
from pathlib import Path
from typing import Any

from pipeline.evaluation.tables import worst_class
from pipeline.ledger import Artifact, Ledger
from pipeline.training.round_plan import RoundPlan

_SAID = {
    "distance_to_real": "Frechet distance to held-out images, not FID",
    "rms_to_teacher": "RMS to the teacher's sample from the same noise",
    "class_accuracy": "class seen as asked",
}


def report_facts(run_dir: Path, report: Artifact, plan: RoundPlan) -> dict[str, Any]:
    """The numbers of a round's student at every guidance weight, each beside its teacher's."""
    path = Ledger(run_dir).locate(report) / "report.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    facts: dict[str, Any] = {}
    for row in tree["rows"]:
        cell = row["cell"]
        if cell["role"] == "student" and cell["round"] == plan.index:
            teachers = [
                other["scores"]
                for other in tree["rows"]
                if other["cell"]["role"] == "teacher" and other["cell"]["w"] == cell["w"]
            ]
            teacher = teachers[0] if teachers else {}
            facts |= _at(cell["w"], row["scores"], teacher)
    if facts:
        facts["samples measured"] = tree["protocol"]["num_samples"]
    return facts


def _at(w: float, scores: dict[str, Any], teacher: dict[str, Any]) -> dict[str, str]:
    found = {}
    for key, words in _SAID.items():
        if scores.get(key) is not None:
            found[f"w = {w:g}: {words}"] = _beside(scores[key], teacher.get(key))
    if worst := worst_class(scores):
        share = scores["accuracy_by_class"][worst]
        theirs = (teacher.get("accuracy_by_class") or {}).get(worst)
        found[f"w = {w:g}: class seen as asked least"] = f"{worst}, {_beside(share, theirs)}"
    for part, share in (scores.get("prompt_accuracy") or {}).items():
        theirs = (teacher.get("prompt_accuracy") or {}).get(part)
        found[f"w = {w:g}: {part} seen as prompted"] = _beside(share, theirs)
    return found


def _beside(value: float, teacher: float | None) -> str:
    return f"{value:.3g}" if teacher in (None, 0.0) else f"{value:.3g} (teacher {teacher:.3g})"
