"""What the choices of a round are worth: `python -m tests.benchmarks.ablations RUN OUT`.

RUN is a run of the digits recipe whose teacher and stage-1 student are there. Every variant trains
in this process on the product's own rounds (no Ray), all of one group with the same number of
updates; what is done is kept in OUT, so that the command goes on where it ended. Distances are to
held-out images with 95 % bootstrap intervals, as in a report; compare within a group only.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from infra.profile import Profile
from infra.train_worker import RoundJob, train_with
from pipeline.bundle import read_manifest
from pipeline.config import Recipe
from pipeline.data.open import read_content
from pipeline.documents import apply_override, build, read_yaml
from pipeline.evaluation.asking import Asked
from pipeline.evaluation.assessment import real_images
from pipeline.evaluation.classifier import Classifier, train_classifier
from pipeline.evaluation.samplers import own_sampler
from pipeline.evaluation.sampling import BundleSampler, Images, balanced_labels
from pipeline.evaluation.scoring import Judge, Teacher
from pipeline.ledger import Artifact, Ledger
from pipeline.training.checkpoint import claim
from pipeline.training.plan import plan_rounds, round_key
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan
from pipeline.training.torch_engine import TorchEngine
from stages.distill import find_student, round_job
from stages.pregenerate import shard_jobs
from stages.target_worker import TargetWorker

PROFILE = Profile()
SEED = 4321
LADDER = "halving.steps=[16, 8, 4, 2, 1]"
SHARED = (
    "encoding=null",  # the base run may have encoders, which would be judged as students
    *("halving.first_substeps=1", "targets.draws_per_tuple=4", "targets.keep=all"),
)


@dataclass(frozen=True)
class Variant:
    """A recipe that differs in a few values, and what is looked at.

    Attributes:
        name: of the variant, `group/name`.
        overrides: as for `--set`.
        w: guidance weights its students are judged at.
        stage_one: judge the stage-1 student, in 16 steps, and train no other.
    """

    name: str
    overrides: tuple[str, ...]
    w: tuple[float, ...] = (0.0, 2.0, 4.0)
    stage_one: bool = False


def variants(updates: int) -> list[Variant]:
    """All of them; `updates` of a whole ladder, in the demo's proportions."""
    part = [updates * share // 18 for share in (3, 3, 4, 8)]
    whole = (LADDER, f"halving.updates={part}")
    early = [part[0] + part[1], part[2], part[3]]
    found = [
        Variant("jumps/16-8-4-2-1", whole),
        Variant("sampler/stochastic", (*whole, "halving.sampler=stochastic")),
        Variant("states/own quarter", (*whole, "halving.own_states=0.25")),
        Variant("jumps/16-1", ("halving.steps=[16, 1]", f"halving.updates={sum(part)}")),
        Variant("jumps/16-4-1", _steps([16, 4, 1], [early[0], part[2] + part[3]])),
        Variant("jumps/16-4-2-1", _steps([16, 4, 2, 1], early)),
    ]
    some = f"guidance.updates={updates * 5 // 6}"
    for w in (2, 0, 4):
        law = (f"guidance.w={{values: [{w}]}}", f"evaluation.w=[{w}]", some)
        found.append(Variant(f"laws of w/{w} alone", law, (float(w),), stage_one=True))
    found.append(Variant("laws of w/range", (some,), stage_one=True))
    law = ("guidance.w={values: [0, 2, 4]}", "evaluation.w=[0, 2, 4]", some)
    found.append(Variant("laws of w/three values", law, stage_one=True))
    found.append(Variant("laws of w/range, all updates", (), stage_one=True))
    return found


def _steps(steps: list[int], updates: list[int]) -> tuple[str, ...]:
    return (f"halving.steps={steps}", f"halving.updates={updates}")


class Bench:
    """The base run, the judge, and the teacher's samples."""

    def __init__(self, base: Path, output: Path, num: int) -> None:
        self.base, self.output = base, output
        self.labels = balanced_labels(num, 10)
        classifier = output / "classifier"
        heldout = real_images(base / "data", "heldout")
        training = real_images(base / "data", "train")
        if not classifier.is_dir():
            train_classifier(classifier, training, heldout, num_classes=10, seed=0)
        self._judge = Judge(Classifier(classifier), heldout[0], training[0])

    def recipe(self, variant: Variant) -> Recipe:
        """The base run's recipe with the variant's values."""
        tree = read_yaml(self.base / "recipe.yaml")
        for override in (*SHARED, *variant.overrides):
            apply_override(tree, override)
        return build(Recipe, tree, variant.name)

    def run(self, variant: Variant) -> Iterator[dict[str, Any]]:
        """Train what is missing and judge it, a row for each step count and w."""
        folder = self.output / variant.name.replace("/", "-").replace(" ", "-")
        if not folder.is_dir():
            for part in ("data", "teacher", "ledger", "rounds/00-guidance/student"):
                shutil.copytree(self.base / part, folder / part)
        recipe, ledger = self.recipe(variant), Ledger(folder)
        known = {artifact.path: artifact for artifact in ledger.records()}
        guided = known["rounds/00-guidance/student"]
        made: dict[int | None, Artifact] = {TEACHER_ROUND: known["teacher"], 0: guided}
        plans = plan_rounds(recipe)
        for plan in plans[:1] if variant.stage_one else plans[1:]:
            teacher, data = made[plan.parent], known["data"]
            found = find_student(folder, recipe, PROFILE, plan, data, teacher)
            if variant.stage_one and not variant.overrides:
                found = guided
            made[plan.index] = found or train(folder, recipe, plan, data, teacher)
            yield from self._judged(variant, folder / made[plan.index].path)

    def _judged(self, variant: Variant, bundle: Path) -> Iterator[dict[str, Any]]:
        sampler, steps = BundleSampler(bundle), (read_manifest(bundle).steps or (16,))[0]
        kind = own_sampler(sampler.manifest)
        for w in variant.w:
            images = sampler.sample(
                steps=steps, w=w, asked=self.labels, seed=SEED, sampler=kind, batch_size=64
            )
            yield {"variant": variant.name, "steps": steps, "w": w, **self.score(images, w)}

    def score(self, images: Images, w: float) -> dict[str, Any]:
        """Distance to real images, recall, and RMS to the teacher's samples of the same noise."""
        reference = self.teacher(w)
        rival = Teacher(w=w, samples=reference, yardsticks={w: self._judge.moments(reference)})
        scores = self._judge.score(images, Asked(labels=self.labels, prompts=None), rival, SEED)
        low, high = scores.distance_to_real_interval
        return {
            "distance": scores.distance_to_real,
            "low": low,
            "high": high,
            "recall": scores.recall,
            "score": scores.inception_score,
            "accuracy": scores.class_accuracy,
            "rms": scores.rms_to_teacher,
            "rms_interval": scores.rms_to_teacher_interval,
        }

    def teacher(self, w: float) -> Images:
        """Its samples in 32 DDIM steps, drawn once."""
        place = self.output / f"teacher-w{w:g}-{len(self.labels)}.pt"
        if not place.is_file():
            opened = BundleSampler(self.base / "teacher")
            drawn = opened.sample(steps=32, w=w, asked=self.labels, seed=SEED, batch_size=64)
            torch.save(torch.from_numpy(drawn), place)
        images: Images = torch.load(place, weights_only=True).numpy()
        return images


def train(
    run_dir: Path, recipe: Recipe, plan: RoundPlan, data: Artifact, teacher: Artifact
) -> Artifact:
    """A round in this process: its targets, its training."""
    ledger = Ledger(run_dir)
    key = round_key(plan, recipe, PROFILE.engine.precision, data, teacher)
    split = read_content(ledger.locate(data)).splits["train"]
    worker = TargetWorker(
        {
            "run_dir": str(run_dir),
            "plan": plan.model_dump(mode="json"),
            "data": str(ledger.locate(data)),
            "teacher": str(ledger.locate(teacher)),
            "parents": [data.fingerprint, teacher.fingerprint],
            "dtype": recipe.targets.dtype,
        }
    )
    jobs = shard_jobs(recipe, plan, split, key)
    targets = [ledger.find(job["key"]) or Artifact(**worker.serve(job)) for job in jobs]
    asked = {"data": data, "teacher": teacher, "targets": targets}
    job = round_job(run_dir, recipe, PROFILE, plan, **asked)

    claim(Path(job["checkpoints"]), job["attempt"])

    def write(output: Path) -> dict[str, Any]:
        train_with(RoundJob.model_validate({**job, "output": str(output)}), TorchEngine)
        return {"title": plan.title, "student_steps": plan.student_steps}

    return ledger.publish("student", key, f"{plan.folder}/student", write)


def main() -> None:
    """Run every variant and write `ablations.json` after each."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ablations")
    parser.add_argument("run", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--updates", type=int, default=1800, help="of a ladder")
    parser.add_argument("--num-samples", type=int, default=1000)
    parser.add_argument("--only", default="", help="variants whose name begins so")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.output.mkdir(parents=True, exist_ok=True)
    bench = Bench(asked.run.resolve(), asked.output.resolve(), asked.num_samples)
    rows: list[dict[str, Any]] = []
    for variant in variants(asked.updates):
        if variant.name.startswith(asked.only):
            for row in bench.run(variant):
                rows.append(row)
                print(json.dumps(row), flush=True)  # noqa: T201 (a script for people)
            (asked.output / "ablations.json").write_text(json.dumps(rows, indent=1))
    for w in (0.0, 2.0, 4.0):
        row = {"variant": "teacher, 32 steps", "steps": 32, "w": w}
        print(json.dumps({**row, **bench.score(bench.teacher(w), w)}))  # noqa: T201


if __name__ == "__main__":
    main()
