"""Stage `judge`: a round's student against its teacher, by the recipe's `gate`; a verdict.

This is the quality gate of a round. Exported pipelines are checked in `stages/export/parity.py`.

Samples are few, drawn from noise of their own: the report, which is drawn later from other noise,
is not flattered by a gate that has chosen among students.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import ExtractorConfig, GateConfig, GateRules, Recipe, UnclassedData
from pipeline.config.profile import Profile
from pipeline.evaluation.documents import Cell
from pipeline.evaluation.features.extractor_weights import find_weights
from pipeline.evaluation.verdicts.gate_documents import VERDICT, RoundVerdict
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.training.gate_policy import rules_of
from pipeline.training.round_plan import RoundPlan
from stages.evaluation import measurements
from stages.evaluation.measurements import Read
from stages.evaluation.sample_sets import Progress, Subject, draw_sets
from stages.gate.samples import gate_cells, seed_of
from stages.rounds.promote import not_finite

if TYPE_CHECKING:
    from stages.gate.samples import Seen

FORMAT = 1
FORMAT_STOCHASTIC = 2  # 2 asks no RMS of samples that are no pairs
_log = logging.getLogger(__name__)

Draw = Callable[[Ledger, Recipe, Sequence[Cell], Sequence[Artifact], Subject], list[Artifact]]
"""The committed samples of every cell, in order."""


@dataclass(frozen=True)
class Hands:
    """Who draws what the gate looks at, and who reads it."""

    draw: Draw
    read: Read


@dataclass(frozen=True)
class Candidate:
    """Who is judged, and against whom.

    Attributes:
        plan: the attempt at the round.
        student: its student.
        teacher: the bundle that taught it.
        subject: what is drawn.
    """

    plan: RoundPlan
    student: Artifact
    teacher: Artifact
    subject: Subject


def on_workers(profile: Profile, progress: Progress) -> Hands:
    """Have Ray workers draw and read what is not committed yet."""

    def draw(
        ledger: Ledger,
        recipe: Recipe,
        cells: Sequence[Cell],
        bundles: Sequence[Artifact],
        subject: Subject,
    ) -> list[Artifact]:
        found = draw_sets(ledger, recipe, profile, cells, bundles, subject, progress)
        return [samples for _, samples in found]

    return Hands(draw, measurements.on_workers(profile, progress))


def judge(run_dir: Path, recipe: Recipe, candidate: Candidate, hands: Hands) -> Artifact:
    """The verdict on a student, `verdict/` in the folder of its attempt: numbers and pictures.

    Args:
        run_dir: the run directory, seen by every worker.
        recipe: has a gate.
        candidate: who is judged.
        hands: draw and read.
    """
    ledger, plan = Ledger(run_dir), candidate.plan
    key = verdict_key(recipe, candidate)
    found = ledger.find(key)
    if found:
        return found
    told = not_finite(ledger.locate(candidate.student))
    verdict = _blank(recipe, plan, f"weight {told} is not finite" if told else "")
    sets: list[tuple[Cell, Artifact]] = []
    if not told and _required(recipe, plan)[0].asks_samples:
        bundles = (candidate.teacher, candidate.student)
        cells = gate_cells(ledger, recipe, plan, *bundles)
        drawn = hands.draw(ledger, _sized(recipe), cells, bundles, candidate.subject)
        sets = list(zip(cells, drawn, strict=True))

    def write(folder: Path) -> dict[str, Any]:
        from stages.gate.samples import Seen

        seen = Seen(ledger, candidate.subject, tuple(sets), hands.read)
        found = _found(recipe, candidate, seen, verdict, folder) if sets else verdict
        return write_verdict(found, folder)

    parents = (candidate.student.fingerprint, candidate.teacher.fingerprint)
    artifact = ledger.publish("verdict", key, f"{plan.folder}/verdict", write, parents)
    _log.info("%s: verdict in %s", plan.title, ledger.locate(artifact))
    return artifact


def judge_divergence(
    run_dir: Path, recipe: Recipe, plan: RoundPlan, key: str, told: str
) -> Artifact:
    """The verdict on a round that has no student, because its numbers went bad.

    Args:
        run_dir: the run directory.
        recipe: has a gate.
        plan: the attempt at the round.
        key: see `divergence_key`.
        told: what training said.
    """
    verdict = _blank(recipe, plan, told.removeprefix(f"{plan.title}: "))
    place = f"{plan.folder}/verdict"
    return Ledger(run_dir).publish("verdict", key, place, lambda at: write_verdict(verdict, at))


def divergence_key(round_fingerprint: str) -> str:
    """The fingerprint of that verdict; `round_fingerprint` is that of the student there is not."""
    return fingerprint({"stage": "judge", "format": FORMAT, "diverged": round_fingerprint})


def _blank(recipe: Recipe, plan: RoundPlan, bad_numbers: str) -> RoundVerdict:
    _, gate = _required(recipe, plan)
    return RoundVerdict(
        title=plan.title,
        num_samples=gate.num_samples,
        seed=seed_of(recipe),
        bad_numbers=bad_numbers,
    )


def write_verdict(verdict: RoundVerdict, folder: Path) -> dict[str, Any]:
    """Write a verdict into its folder; returns the record's details."""
    text = json.dumps(verdict.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / VERDICT).write_text(text + "\n", encoding="utf-8")
    return {"passed": verdict.passed}


def verdict_key(recipe: Recipe, candidate: Candidate) -> str:
    """The fingerprint of a verdict: who is judged, by which bounds, on which samples.

    What follows a no is not in it: it changes nothing that was found.
    """
    subject, extractor = candidate.subject, extractor_of(recipe)
    # data with classes are read by the classifier that is trained on them
    reader = {} if extractor is None else {"extractor": find_weights(extractor).identity}
    return fingerprint(
        {
            "stage": "judge",
            "format": FORMAT_STOCHASTIC if candidate.plan.sampler == "stochastic" else FORMAT,
            **_bounds(recipe, candidate.plan),
            "student": candidate.student.digest,
            "teacher": candidate.teacher.digest,
            "first_steps": recipe.halving.first_steps,
            "data": subject.data.digest,
            "components": subject.components.digest if subject.components else None,
            **reader,
        }
    )


def extractor_of(recipe: Recipe) -> ExtractorConfig | None:
    """The extractor that the gate reads by where data have no classes: the recipe's first."""
    extractors = recipe.evaluation.extractors
    return extractors[0] if extractors and isinstance(recipe.data, UnclassedData) else None


def _bounds(recipe: Recipe, plan: RoundPlan) -> dict[str, Any]:
    rules, gate = _required(recipe, plan)
    bounds = {"distance", "rms", "recall", "w_consistency", "finite"}
    return {
        "bounds": rules.model_dump(mode="json", include=bounds),
        "num": gate.num_samples,
        "w": recipe.gate_weights,
        "seed": seed_of(recipe),
    }


def _required(recipe: Recipe, plan: RoundPlan) -> tuple[GateRules, GateConfig]:
    rules = rules_of(recipe, plan)
    if rules is None or recipe.gate is None:
        raise TypeError("this recipe has no gate")
    return rules, recipe.gate


def _sized(recipe: Recipe) -> Recipe:
    """The recipe with the gate's number of samples for the evaluation's."""
    num = recipe.gate.num_samples if recipe.gate else recipe.evaluation.num_samples
    evaluation = recipe.evaluation.model_copy(update={"num_samples": num})
    return recipe.model_copy(update={"evaluation": evaluation})


def _found(
    recipe: Recipe, candidate: Candidate, seen: "Seen", verdict: RoundVerdict, folder: Path
) -> RoundVerdict:
    from pipeline.evaluation.verdicts.gate_checks import measure
    from stages.gate.samples import unmeasured

    rules, _ = _required(recipe, candidate.plan)
    drawn = seen.load()
    bad = [w for w, sets in drawn.items() if not sets.are_finite]
    if bad:
        told = f"samples at w = {bad[0]:g} are not finite"
        return verdict.model_copy(update={"bad_numbers": told})
    instrument = seen.instrument(extractor_of(recipe))
    return verdict.model_copy(
        update={
            "teacher_steps": seen.sets[1][0].steps,
            "student_steps": seen.sets[2][0].steps,
            "found": measure(drawn, rules, instrument, seed_of(recipe)),
            "unmeasured": unmeasured(drawn, instrument),
            "extractor": instrument.extractor if instrument else "",
            "pictures": seen.draw_pictures(candidate.plan.title, folder),
        }
    )
