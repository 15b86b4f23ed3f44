"""A tiny Gaussian chain with a gate, in this process: real training, real samples, no cluster."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import GateRules, Recipe
from pipeline.config.profile import EngineConfig, Profile, TrackingConfig
from pipeline.errors import DivergenceError
from pipeline.evaluation.documents import Cell
from pipeline.ledger import Artifact, Ledger
from pipeline.training.checkpoint import claim
from pipeline.training.engines import TorchEngine
from pipeline.training.gate_policy import Judged, rules_of, settle
from pipeline.training.plan import plan_rounds
from pipeline.training.round_plan import RoundPlan
from stages.data.shard import shard
from stages.evaluation.measurements import on_workers
from stages.evaluation.sample_sets import Subject, _samples_key, open_sampler, samples_place
from stages.gate.attempts import Setting, answer, judged_by, look_up
from stages.gate.judge import Hands, divergence_key, judge, judge_divergence
from stages.rounds.train import find_start, round_job
from stages.rounds.train_worker import RoundJob, train_with
from stages.teacher.adopt import adopt
from tests.support.small_run import small_recipe

ENOUGH = ("guidance.updates=150", "guidance.batch_size=128", "guidance.learning_rate=0.1")
GATE = "gate={num_samples: 60, w: [0, 2]}"


@dataclass
class GateCase:
    """One round of a chain; `made` says which attempts were trained and judged, in order."""

    run_dir: Path
    recipe: Recipe
    index: int = 0
    answers: list[bool] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    remedies: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.data = shard(self.recipe, self.run_dir)
        self.teacher = adopt(self.run_dir, self.recipe, self.data)
        quiet = TrackingConfig(pictures=0)
        profile = Profile(engine=EngineConfig(checkpoint_every=1000), tracking=quiet)
        subject = Subject(self.data, None)
        self.setting = Setting(self.run_dir, self.recipe, profile, self.data, self.teacher, subject)
        self.plan = plan_rounds(self.recipe)[self.index]

    @property
    def rules(self) -> GateRules:
        rules = rules_of(self.recipe, self.plan)
        assert rules is not None
        return rules

    def settle(self) -> Judged:
        outcome = settle(
            self.plan,
            self.rules,
            self.attempt,
            self.ask,
            lambda judged, tried, remedy: self.remedies.append(remedy),
        )
        assert outcome is not None
        return outcome

    def attempt(self, plan: RoundPlan) -> Judged:
        known = look_up(self.setting, plan)
        if known:
            return known
        self.made.append(plan.folder)
        try:
            student = self.setting.find_student(plan) or self.train(plan)
        except DivergenceError as error:
            key = divergence_key(self.setting.key(plan))
            record = judge_divergence(self.run_dir, self.recipe, plan, key, str(error))
            return judged_by(Ledger(self.run_dir), plan, None, record)
        candidate = self.setting.candidate(plan, student)
        record = judge(self.run_dir, self.recipe, candidate, hands_here())
        return judged_by(Ledger(self.run_dir), plan, student, record)

    def ask(self, judged: Judged) -> bool | None:
        if not self.answers:
            return None
        said = self.answers.pop(0)
        answer(self.run_dir, judged.record, accepted=said)
        return said

    def train(self, plan: RoundPlan) -> Artifact:
        """As `stages.rounds.train` does it, but for the cluster, with targets computed online."""
        ledger = Ledger(self.run_dir)
        job = round_job(
            *(self.run_dir, self.recipe, self.setting.profile, plan),
            data=self.data,
            teacher=self.teacher,
            targets=None,
        )
        claim(Path(job["checkpoints"]), job["attempt"])

        def write(output: Path) -> dict[str, Any]:
            train_with(RoundJob.model_validate({**job, "output": str(output)}), TorchEngine)
            return {"title": plan.title, "student_steps": plan.student_steps}

        parents = (self.data, self.teacher, find_start(ledger, plan))
        keys = tuple(parent.fingerprint for parent in parents if parent)
        return ledger.publish("student", job["key"], f"{plan.folder}/candidate", write, keys)


def draw_here(
    ledger: Ledger,
    recipe: Recipe,
    cells: Sequence[Cell],
    bundles: Sequence[Artifact],
    subject: Subject,
) -> list[Artifact]:
    """What Ray workers do, in this process, under the same keys."""
    num = recipe.evaluation.num_samples
    parents = {bundle.digest: bundle.fingerprint for bundle in bundles}
    spec = {
        "run_dir": str(ledger.run_dir),
        "num_samples": num,
        "data": subject.data.path,
        "components": None,
    }
    serve = open_sampler(spec)

    def drawn(cell: Cell) -> Artifact:
        key = _samples_key(cell, num, subject)
        part = f"evaluation/.parts.tmp/{key}.npy"
        job = {"key": key, "cell": cell.model_dump(mode="json"), "part": part}

        def write(path: Path) -> dict[str, Any]:
            told = serve({**job, "first": 0, "count": num})
            images = np.load(ledger.run_dir / part)
            with path.open("wb") as file:
                np.save(file, images)
            return {"evaluations": told["evaluations"], "count": num}

        place = samples_place(num, cell)
        kind = "samples" if cell.role == "student" else "reference"
        return ledger.find(key) or ledger.publish(kind, key, place, write, (parents[cell.digest],))

    return [drawn(cell) for cell in cells]


def hands_here() -> Hands:
    """Samples so small are read in the driver's process anyway."""
    return Hands(draw_here, on_workers(Profile(), lambda done, total: None))


def gate_case(run_dir: Path, *overrides: str, index: int = 0) -> GateCase:
    return GateCase(run_dir, small_recipe(*ENOUGH, GATE, *overrides), index)
