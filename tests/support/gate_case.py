"""A tiny Gaussian chain with a gate, in this process: real training, real samples, no cluster."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import GateRules, Recipe
from pipeline.config.profile import EngineConfig, Profile, TrackingConfig
from pipeline.errors import DivergenceError
from pipeline.evaluation.documents import SampleSpec
from pipeline.ledger import Artifact, Ledger
from pipeline.training.checkpoint import claim
from pipeline.training.engines import TorchEngine
from pipeline.training.gate_policy import JudgedAttempt, rules_of, run_attempts
from pipeline.training.plan import plan_rounds
from pipeline.training.round_plan import RoundPlan
from stages.data.shard import shard
from stages.evaluation.features import on_workers
from stages.evaluation.sample_sets import SampleInputs, _samples_key, open_worker, samples_place
from stages.gate.attempts import GateContext, find_attempt, judged_attempt, record_answer
from stages.gate.judge import GateWorkers, divergence_key, judge, judge_divergence
from stages.rounds.train import find_start, round_job, student_details
from stages.rounds.train_worker import RoundJob, train_with
from stages.teacher.adopt import adopt
from stages.workspace import Workspace
from tests.support.small_run import small_recipe

ENOUGH = ("guidance.updates=150", "guidance.batch_size=128", "guidance.learning_rate=0.1")
GATE = "gate={num_samples: 60, w: [0, 2]}"


@dataclass
class GateCase:
    """One round of a chain; `made` lists the trained and judged attempts, in order."""

    run_dir: Path
    recipe: Recipe
    index: int = 0
    answers: list[bool] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    remedies: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        quiet = TrackingConfig(pictures=0)
        profile = Profile(engine=EngineConfig(checkpoint_every=1000), tracking=quiet)
        work = Workspace(self.run_dir, self.recipe, profile)
        self.data = shard(work).value
        self.teacher = adopt(work, self.data).value
        self.context = GateContext(work, self.data, self.teacher, SampleInputs(self.data, None))
        self.plan = plan_rounds(self.recipe)[self.index]

    @property
    def rules(self) -> GateRules:
        rules = rules_of(self.recipe, self.plan)
        assert rules is not None
        return rules

    def run_attempts(self) -> JudgedAttempt:
        outcome = run_attempts(
            self.plan,
            self.rules,
            self.attempt,
            self.ask,
            lambda judged, tried, remedy: self.remedies.append(remedy),
        )
        assert outcome is not None
        return outcome

    def attempt(self, plan: RoundPlan) -> JudgedAttempt:
        found = find_attempt(self.context, plan)
        if found.judged:
            return found.judged
        self.made.append(plan.folder)
        work = self.context.work
        try:
            student = found.student or self.train(plan)
        except DivergenceError as error:
            key = divergence_key(self.context.key(plan))
            record = judge_divergence(work, plan, key, str(error))
            return judged_attempt(Ledger(self.run_dir), plan, None, record)
        candidate = self.context.candidate(plan, student)
        record = judge(work, candidate, workers_here())
        return judged_attempt(Ledger(self.run_dir), plan, student, record)

    def ask(self, judged: JudgedAttempt) -> bool | None:
        if not self.answers:
            return None
        said = self.answers.pop(0)
        record_answer(self.run_dir, judged.record, accepted=said)
        return said

    def train(self, plan: RoundPlan) -> Artifact:
        """Train like `stages.rounds.train`, but without a cluster, with online targets."""
        ledger = Ledger(self.run_dir)
        work = Workspace(self.run_dir, self.recipe, self.context.work.profile)
        job = round_job(
            work,
            plan,
            data=self.data,
            teacher=self.teacher,
            targets=None,
        )
        claim(Path(job["checkpoints"]), job["attempt"])

        def write(output: Path) -> dict[str, Any]:
            train_with(RoundJob.model_validate({**job, "output": str(output)}), TorchEngine)
            return student_details(work, plan, self.data, self.teacher)

        parents = (self.data, self.teacher, find_start(ledger, plan))
        keys = tuple(parent.fingerprint for parent in parents if parent)
        return ledger.publish("student", job["key"], f"{plan.folder}/candidate", write, keys)


def sample_ours(
    work: Workspace,
    cells: Sequence[SampleSpec],
    bundles: Sequence[Artifact],
    sample_inputs: SampleInputs,
) -> list[Artifact]:
    """The Ray workers' jobs, in this process, under the same keys."""
    ledger, num = work.ledger, work.recipe.evaluation.num_samples
    parents = {bundle.digest: bundle.fingerprint for bundle in bundles}
    spec = {
        "run_dir": str(ledger.run_dir),
        "num_samples": num,
        "data": sample_inputs.data.path,
        "components": None,
    }
    serve = open_worker(spec)

    def drawn(cell: SampleSpec) -> Artifact:
        key = _samples_key(cell, num, sample_inputs)
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


def workers_here() -> GateWorkers:
    """Features of such small sets are extracted in the driver's process anyway."""
    return GateWorkers(sample_ours, on_workers(Profile(), lambda done, total: None))


def gate_case(run_dir: Path, *overrides: str, index: int = 0) -> GateCase:
    return GateCase(run_dir, small_recipe(*ENOUGH, GATE, *overrides), index)
