"""A student that fails the gate, is accepted by a person and put in its place: to be killed."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from pipeline.bundle import Lineage, read_manifest
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.ledger import Artifact, Ledger
from pipeline.models.assemble import family_of, save_bundle
from pipeline.training.plan import plan_rounds
from pipeline.training.round_plan import RoundPlan
from stages.data.shard import shard
from stages.evaluation.sample_sets import Subject
from stages.gate.attempts import Setting, accept, answer, judged_by, look_up
from stages.gate.judge import judge, on_workers
from stages.teacher.adopt import adopt
from tests.support.small_run import small_recipe


def gated_recipe() -> Recipe:
    return small_recipe("gate={num_samples: 6}")


def _setting(run_dir: Path) -> tuple[Setting, RoundPlan]:
    recipe = gated_recipe()
    data = shard(recipe, run_dir)
    teacher = adopt(run_dir, recipe, data)
    setting = Setting(run_dir, recipe, Profile(), data, teacher, Subject(data, None))
    return setting, plan_rounds(recipe)[0]


def failed_candidate(run_dir: Path) -> None:
    """A candidate whose weights are not finite, so that nothing has to be drawn of it."""
    setting, plan = _setting(run_dir)
    lineage = Lineage(run="gaussian", round=0, parent=setting.teacher.digest)
    told = {"role": "student", "w": setting.recipe.guidance.w, "lineage": lineage}
    manifest = read_manifest(run_dir / setting.teacher.path).model_copy(update=told)
    family = family_of(manifest)

    def write(folder: Path) -> dict[str, Any]:
        save_bundle(folder, manifest, family.student_of(family.build(), (0.0, 4.0)))
        file = folder / "gaussian" / "tables.safetensors"
        tables = load_file(file)
        tables["slope.weight"][0, 0] = torch.nan
        save_file(tables, file)
        return {}

    parents = (setting.data.fingerprint, setting.teacher.fingerprint)
    place = f"{plan.folder}/candidate"
    Ledger(run_dir).publish("student", setting.key(plan), place, write, parents)


def judge_and_accept(run_dir: Path) -> Artifact:
    """As a run does it whose question a person answers with yes."""
    setting, plan = _setting(run_dir)
    judged = look_up(setting, plan)
    if judged is None:
        student = setting.find_student(plan)
        assert student is not None
        hands = on_workers(setting.profile, lambda done, total: None)
        record = judge(run_dir, setting.recipe, setting.candidate(plan, student), hands)
        judged = judged_by(Ledger(run_dir), plan, student, record)
    assert judged.verdict.reasons == ("weight slope.weight is not finite",)
    if judged.answer is None:
        answer(run_dir, judged.record, accepted=True)
    accepted = look_up(setting, plan)
    assert accepted is not None
    return accept(run_dir, plan, accepted)
