"""A student that fails the gate, is approved by a person and put in its place: to be killed."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from pipeline.bundle import Lineage, read_manifest
from pipeline.config import Recipe
from pipeline.ledger import Artifact, Ledger
from pipeline.models.assemble import family_of, save_bundle
from pipeline.training.plan import plan_rounds
from pipeline.training.round_plan import RoundPlan
from stages.data.shard import shard
from stages.evaluation.sample_sets import SampleInputs
from stages.gate.attempts import GateContext, accept, find_attempt, judged_attempt, record_answer
from stages.gate.judge import judge, on_workers
from stages.teacher.adopt import adopt
from stages.workspace import Workspace
from tests.support.small_run import small_recipe


def gated_recipe() -> Recipe:
    return small_recipe("gate={num_samples: 6}")


def _setting(run_dir: Path) -> tuple[GateContext, RoundPlan]:
    recipe = gated_recipe()
    work = Workspace(run_dir, recipe)
    data = shard(work).value
    teacher = adopt(work, data).value
    return GateContext(work, data, teacher, SampleInputs(data, None)), plan_rounds(recipe)[0]


def failed_candidate(run_dir: Path) -> None:
    """A candidate whose weights are not finite, so that nothing has to be drawn of it."""
    context, plan = _setting(run_dir)
    lineage = Lineage(run="gaussian", round=0, parent=context.teacher.digest)
    told = {"role": "student", "w": context.work.recipe.guidance.w, "lineage": lineage}
    manifest = read_manifest(run_dir / context.teacher.path).model_copy(update=told)
    family = family_of(manifest)

    def write(folder: Path) -> dict[str, Any]:
        save_bundle(folder, manifest, family.student_of(family.build(), (0.0, 4.0)))
        file = folder / "gaussian" / "tables.safetensors"
        tables = load_file(file)
        tables["slope.weight"][0, 0] = torch.nan
        save_file(tables, file)
        return {}

    parents = (context.data.fingerprint, context.teacher.fingerprint)
    place = f"{plan.folder}/candidate"
    Ledger(run_dir).publish("student", context.key(plan), place, write, parents)


def judge_and_accept(run_dir: Path) -> Artifact:
    """As a run does it whose question a person answers with yes."""
    context, plan = _setting(run_dir)
    found = find_attempt(context, plan)
    judged = found.judged
    if judged is None:
        assert found.student is not None
        workers = on_workers(context.work.profile, lambda done, total: None)
        record = judge(context.work, context.candidate(plan, found.student), workers)
        judged = judged_attempt(Ledger(run_dir), plan, found.student, record)
    assert judged.verdict.reasons == ("weight slope.weight is not finite",)
    if judged.answer is None:
        record_answer(run_dir, judged.record, accepted=True)
    accepted = find_attempt(context, plan).judged
    assert accepted is not None
    return accept(run_dir, plan, accepted)
