"""Ablations of a round's settings: `python -m tests.benchmarks.ablations RUN OUT`.

RUN is a run on images of known classes, with or without captions, whose teacher and stage-1 student
are there. Every variant trains in this process on the product's own rounds (no Ray), all ladders
with the same number of updates and all stage-1 students too; what is done is kept in OUT, so that
the command goes on where it ended. Distances are to held-out images with 95 % bootstrap intervals,
as in a report.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from pipeline.bundle import read_manifest
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.data.latents import read_data_info
from pipeline.data.shards.dataset_info import read_info
from pipeline.documents import build, read_yaml
from pipeline.errors import ConfigError
from pipeline.evaluation.dataset_images import real_images
from pipeline.evaluation.features.classifier import Classifier, train_classifier
from pipeline.evaluation.scoring import ClassifiedImages, Scorer, TeacherReference, moments_of
from pipeline.ledger import Artifact, Ledger
from pipeline.sampling.conditions import choose_conditions
from pipeline.sampling.sampler import BundleSampler, Images
from pipeline.sampling.solvers import default_sampler
from pipeline.training.checkpoint import claim
from pipeline.training.engines import TorchEngine
from pipeline.training.plan import plan_rounds, round_key
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan
from stages.rounds.target_worker import TargetWorker
from stages.rounds.targets import shard_jobs
from stages.rounds.train import find_student, round_job
from stages.rounds.train_worker import RoundJob, train_with
from stages.workspace import Workspace
from tests.benchmarks.variants import Variant, variants

PROFILE = Profile()
SEED = 4321
GUIDED = "rounds/00-guidance/student"
REFERENCE_STEPS = 32


class Bench:
    """The base run, the judge, and the teacher's samples.

    Raises:
        ConfigError: the run's classes are unknown.
    """

    def __init__(self, base: Path, output: Path, num: int) -> None:
        self.base, self.output = base, output
        self.tree = read_yaml(base / "recipe.yaml")
        data, classifier = base / "data", output / "classifier"
        classes = read_info(data).num_classes
        if not classes:
            raise ConfigError(f"{data}: without classes there is no distance; use other data")
        self.asked = choose_conditions(data, num)
        heldout, training = real_images(data, "heldout"), real_images(data, "train")
        if not classifier.is_dir():
            train_classifier(classifier, training, heldout, num_classes=classes, seed=0)
        self._classifier = Classifier(classifier)
        self._judge = Scorer(self._classifier.read(heldout[0]).features, training[0])

    def run(self, variant: Variant) -> Iterator[dict[str, Any]]:
        """Train missing students and score them; one row for each step count and w."""
        folder = self.output / variant.folder
        if not folder.is_dir():
            for part in ("data", "latents", "components", "teacher", "ledger", GUIDED):
                if (self.base / part).is_dir():
                    shutil.copytree(self.base / part, folder / part)
        recipe, ledger = variant.recipe(self.tree), Ledger(folder)
        known = {artifact.path: artifact for artifact in ledger.records()}
        made: dict[int | None, Artifact] = {TEACHER_ROUND: known["teacher"], 0: known[GUIDED]}
        data = known.get("latents") or known["data"]
        plans = plan_rounds(recipe)
        for plan in plans[:1] if variant.stage_one else plans[1:]:
            teacher = made[plan.parent]
            found = find_student(Workspace(folder, recipe, PROFILE), plan, data, teacher)
            made[plan.index] = found or train(folder, recipe, plan, data, teacher)
            yield from self._judged(variant, folder / made[plan.index].path)

    def _judged(self, variant: Variant, bundle: Path) -> Iterator[dict[str, Any]]:
        steps = (read_manifest(bundle).steps or (16,))[0]
        for w in variant.w:
            images = self._drawn(bundle, steps, w)
            yield {"variant": variant.name, "steps": steps, "w": w, **self.score(images, w)}

    def _drawn(self, bundle: Path, steps: int, w: float) -> Images:
        parts = self.base / "components"
        opened = BundleSampler(bundle, components=parts if parts.is_dir() else None)
        return opened.sample(
            steps=steps,
            w=w,
            conditions=self.asked.network_inputs,
            seed=SEED,
            sampler=default_sampler(opened.manifest),
            batch_size=64,
        )

    def score(self, images: Images, w: float) -> dict[str, Any]:
        """Compute distance to real images, recall, and RMS to the teacher's paired samples."""
        reference = self.teacher(w)
        moments = moments_of(self._classifier.read(reference).features)
        rival = TeacherReference(w=w, samples=reference, noise_floors={w: moments})
        read = ClassifiedImages(images, self._classifier.read(images))
        scores = self._judge.score(read, self.asked, rival, SEED)
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
        """The teacher's samples in 32 DDIM steps, cached."""
        place = self.output / f"teacher-w{w:g}-{len(self.asked.labels)}.pt"
        if not place.is_file():
            drawn = self._drawn(self.base / "teacher", REFERENCE_STEPS, w)
            torch.save(torch.from_numpy(drawn), place)
        images: Images = torch.load(place, weights_only=True).numpy()
        return images


def train(
    run_dir: Path, recipe: Recipe, plan: RoundPlan, data: Artifact, teacher: Artifact
) -> Artifact:
    """Run the targets and the training of a round in this process."""
    ledger = Ledger(run_dir)
    key = round_key(plan, recipe, PROFILE.engine.precision, data, teacher)
    split = read_data_info(ledger.locate(data)).splits["train"]
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
    targets = None
    if recipe.targets.mode == "pregenerated":
        jobs = shard_jobs(plan, split, key)
        targets = [ledger.find(job["key"]) or Artifact(**worker.serve(job)) for job in jobs]
    job = round_job(
        Workspace(run_dir, recipe, PROFILE), plan, data=data, teacher=teacher, targets=targets
    )
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
    base = build(Recipe, bench.tree, "recipe.yaml")
    rows: list[dict[str, Any]] = []
    for variant in variants(asked.updates, base):
        if variant.name.startswith(asked.only):
            for row in bench.run(variant):
                rows.append(row)
                print(json.dumps(row), flush=True)  # noqa: T201 (a script for people)
            (asked.output / "ablations.json").write_text(json.dumps(rows, indent=1))
    for w in base.evaluation.ends_and_middle:
        row = {"variant": "teacher, 32 steps", "steps": REFERENCE_STEPS, "w": w}
        print(json.dumps({**row, **bench.score(bench.teacher(w), w)}))  # noqa: T201


if __name__ == "__main__":
    main()
