"""Stage `judge`: check a round's student against its teacher by the recipe's `gate`; a verdict.

This is the quality gate of a round. Exported pipelines are checked in `stages/export/parity.py`.

The gate draws few samples, from its own noise. The report uses other noise, so choosing students by
the gate does not bias it.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import ExtractorConfig, GateConfig, GateRules, Recipe
from pipeline.config.profile import Profile
from pipeline.evaluation.documents import SampleSpec
from pipeline.evaluation.features.extractor_weights import find_weights
from pipeline.evaluation.verdicts.gate_documents import VERDICT, RoundVerdict
from pipeline.ledger import Artifact, fingerprint
from pipeline.run_dir import layout
from pipeline.training.gate_policy import rules_of
from pipeline.training.round_plan import RoundPlan
from stages.evaluation import features
from stages.evaluation.features import ExtractFeatures
from stages.evaluation.sample_sets import SampleInputs, sample_cells
from stages.gate.gate_samples import gate_cells, gate_seed
from stages.rounds.promote import find_nonfinite_weight
from stages.workspace import Progress, Workspace

if TYPE_CHECKING:
    from stages.gate.gate_samples import DrawnSamples

FORMAT = 5  # 5: relative distance and effective w
FORMAT_STOCHASTIC = 6  # 6: as 5; no RMS of unpaired samples
_log = logging.getLogger(__name__)

SampleCells = Callable[
    [Workspace, Sequence[SampleSpec], Sequence[Artifact], SampleInputs], list[Artifact]
]
"""Draws samples; returns the committed samples of every cell, in order."""


@dataclass(frozen=True)
class GateWorkers:
    """Workers of the gate."""

    sample_cells: SampleCells
    extract_features: ExtractFeatures


@dataclass(frozen=True)
class Candidate:
    """A student to be judged, and its teacher."""

    plan: RoundPlan
    student: Artifact
    teacher: Artifact
    sample_inputs: SampleInputs


def on_workers(profile: Profile, progress: Progress) -> GateWorkers:
    """Return Ray workers that draw samples and extract features which are not committed yet."""

    def draw(
        work: Workspace,
        cells: Sequence[SampleSpec],
        bundles: Sequence[Artifact],
        sample_inputs: SampleInputs,
    ) -> list[Artifact]:
        return [
            samples
            for _, samples in sample_cells(
                work, cells, bundles, sample_inputs, progress, allow_nonfinite=True
            )
        ]

    return GateWorkers(draw, features.on_workers(profile, progress))


def judge(work: Workspace, candidate: Candidate, workers: GateWorkers) -> Artifact:
    """Judge a student, and commit the verdict with its images in the folder of the attempt.

    Callers first look for a committed verdict by `stages.gate.attempts.find_attempt`.
    """
    ledger, recipe, plan = work.ledger, work.recipe, candidate.plan
    key = verdict_key(recipe, candidate)
    reason = find_nonfinite_weight(ledger.locate(candidate.student))
    verdict = _empty_verdict(recipe, plan, f"weight {reason} is not finite" if reason else "")
    sets: list[tuple[SampleSpec, Artifact]] = []
    if not reason and _gate_config(recipe, plan)[0].asks_samples:
        bundles = (candidate.teacher, candidate.student)
        cells = gate_cells(ledger, recipe, plan, *bundles)
        sized = replace(work, recipe=_with_gate_size(recipe))
        drawn = workers.sample_cells(sized, cells, bundles, candidate.sample_inputs)
        sets = list(zip(cells, drawn, strict=True))

    def write(folder: Path) -> dict[str, Any]:
        from stages.gate.gate_samples import DrawnSamples

        samples = DrawnSamples(
            ledger, candidate.sample_inputs, tuple(sets), workers.extract_features
        )
        measured = _measure(recipe, candidate, samples, verdict, folder) if sets else verdict
        return write_verdict(measured, folder)

    parents = (candidate.student.fingerprint, candidate.teacher.fingerprint)
    artifact = ledger.publish("verdict", key, layout.verdict_of(plan), write, parents)
    _log.info("%s: verdict in %s", plan.title, ledger.locate(artifact))
    return artifact


def judge_divergence(work: Workspace, plan: RoundPlan, key: str, reason: str) -> Artifact:
    """Commit a failed verdict, under `divergence_key`, for a round whose training diverged."""
    verdict = _empty_verdict(work.recipe, plan, reason.removeprefix(f"{plan.title}: "))
    place = layout.verdict_of(plan)
    return work.ledger.publish("verdict", key, place, lambda at: write_verdict(verdict, at))


def divergence_key(round_fingerprint: str) -> str:
    """Return the fingerprint of that verdict, from the fingerprint of the student."""
    return fingerprint({"stage": "judge", "format": FORMAT, "diverged": round_fingerprint})


def _empty_verdict(recipe: Recipe, plan: RoundPlan, bad_numbers: str) -> RoundVerdict:
    _, gate = _gate_config(recipe, plan)
    return RoundVerdict(
        title=plan.title,
        num_samples=gate.num_samples,
        seed=gate_seed(recipe),
        bad_numbers=bad_numbers,
    )


def write_verdict(verdict: RoundVerdict, folder: Path) -> dict[str, Any]:
    """Write a verdict into its folder; return the details of its record."""
    text = json.dumps(verdict.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / VERDICT).write_text(text + "\n", encoding="utf-8")
    return {"passed": verdict.passed}


def verdict_key(recipe: Recipe, candidate: Candidate) -> str:
    """Return the fingerprint of a verdict: the student, the teacher, the bounds and the samples.

    It excludes `on_fail`, which does not affect the measurements.
    """
    sample_inputs, extractor = candidate.sample_inputs, extractor_of(recipe)
    # data with classes use the classifier that is trained on them
    reader = {} if extractor is None else {"extractor": find_weights(extractor).identity}
    return fingerprint(
        {
            "stage": "judge",
            "format": FORMAT_STOCHASTIC if candidate.plan.sampler == "stochastic" else FORMAT,
            **_verdict_settings(recipe, candidate.plan),
            "student": candidate.student.digest,
            "teacher": candidate.teacher.digest,
            "first_steps": recipe.any_steps,
            "data": sample_inputs.data.digest,
            "components": sample_inputs.components.digest if sample_inputs.components else None,
            **reader,
        }
    )


def extractor_of(recipe: Recipe) -> ExtractorConfig | None:
    """Return the gate's extractor for data without classes: the first of the recipe."""
    extractors = recipe.evaluation.extractors
    return extractors[0] if extractors and not recipe.data.has_classes else None


def _verdict_settings(recipe: Recipe, plan: RoundPlan) -> dict[str, Any]:
    rules, gate = _gate_config(recipe, plan)
    bounds = {"relative_distance", "rms", "recall", "effective_w", "finite"}
    return {
        "bounds": rules.model_dump(mode="json", include=bounds),
        "num": gate.num_samples,
        "w": recipe.gate_weights,
        "seed": gate_seed(recipe),
    }


def _gate_config(recipe: Recipe, plan: RoundPlan) -> tuple[GateRules, GateConfig]:
    rules = rules_of(recipe, plan)
    if rules is None or recipe.gate is None:
        raise TypeError("the recipe has no gate")
    return rules, recipe.gate


def _with_gate_size(recipe: Recipe) -> Recipe:
    """Return the recipe with the gate's number of samples in place of the evaluation's."""
    num = recipe.gate.num_samples if recipe.gate else recipe.evaluation.num_samples
    evaluation = recipe.evaluation.model_copy(update={"num_samples": num})
    return recipe.model_copy(update={"evaluation": evaluation})


def _measure(
    recipe: Recipe,
    candidate: Candidate,
    samples: "DrawnSamples",
    verdict: RoundVerdict,
    folder: Path,
) -> RoundVerdict:
    from pipeline.evaluation.verdicts.gate_checks import compute_checks
    from stages.gate.gate_samples import unmeasured_reasons

    rules, _ = _gate_config(recipe, candidate.plan)
    drawn = samples.load()
    bad = [w for w, sets in drawn.items() if not sets.are_finite]
    if bad:
        reason = f"samples at w = {bad[0]:g} are not finite"
        return verdict.model_copy(update={"bad_numbers": reason})
    features = samples.measure_features(extractor_of(recipe))
    found = compute_checks(drawn, rules, features, gate_seed(recipe))
    return verdict.model_copy(
        update={
            "teacher_steps": samples.sets[1][0].steps,
            "student_steps": samples.sets[2][0].steps,
            "found": found,
            "unmeasured": unmeasured_reasons(drawn, features, found),
            "extractor": features.extractor if features else "",
            "pictures": samples.draw_pictures(candidate.plan.title, folder),
        }
    )
