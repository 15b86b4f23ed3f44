"""The digits chain against two single-file loops: time and fidelity, same teacher, same updates.

`peers_progressive` and `peers_lcm` are what a researcher would write in an afternoon. They train
here, with all cores in one process; the chain's own time is what its run noted, so the two were
not measured side by side. Samples of all start from the same noise and are scored by the chain's
classifier. The ratio in the fidelity rows is the distance to the teacher's samples over the floor,
the teacher's distance to itself from other noise.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.bundle import Manifest, read_manifest
from pipeline.config import Recipe
from pipeline.documents import build, read_yaml
from pipeline.errors import DataError
from pipeline.evaluation.dataset_images import real_images
from pipeline.evaluation.features.classifier import Classifier
from pipeline.evaluation.scores import Scores
from pipeline.evaluation.scoring import ClassifiedImages, Scorer, TeacherReference, moments_of
from pipeline.models.assemble import load_module
from pipeline.randomness import RowRandom
from pipeline.sampling.conditions import Conditions
from pipeline.sampling.sampler import BundleSampler, Images, LabelArray, balanced_labels
from tests.benchmarks import peers_lcm, peers_progressive
from tests.benchmarks.peers_plan import Budget, Draw
from tests.benchmarks.peers_run import tiny_run
from tests.benchmarks.rows import Row, Settings

WEIGHTS = (0.0, 1.0, 2.0, 4.0)
STEPS = (4, 2, 1)
SEED = 4321
_PEERS = {"plain progressive": peers_progressive.distil, "LCM": peers_lcm.distil}
_OWN = "this chain"

Sampler = Callable[[float, int, LabelArray], Images]


@dataclass(frozen=True)
class _Run:
    """A finished run of the digits recipe."""

    folder: Path
    recipe: Recipe
    manifest: Manifest

    def students(self) -> dict[int, Path]:
        """Students by step count."""
        found = {}
        for path in sorted(self.folder.glob("rounds/*/student")):
            steps = read_manifest(path).steps
            if steps:
                found[steps[0]] = path
        return found

    def budget(self) -> Budget:
        """What the peers may spend: the recipe's updates."""
        recipe = self.recipe
        images, labels = real_images(self.folder / "data", "train")
        steps = recipe.halving.steps
        return Budget(
            x=torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
            labels=torch.from_numpy(labels),
            null=self.manifest.num_classes,
            stage_one=recipe.guidance.updates,
            halvings=tuple(
                (steps[arrow], steps[arrow + 1], recipe.halving.training(arrow).updates)
                for arrow in range(len(steps) - 1)
            ),
            batch=recipe.guidance.batch_size,
            learning_rate=recipe.guidance.learning_rate,
            w_max=recipe.guidance.w.max,
            mass_at_zero=recipe.guidance.w.mass_at_min,
            seed=recipe.run.seed,
        )

    def seconds(self) -> dict[str, float]:
        """What the stages of its rounds took, as it noted itself; empty if it did not."""
        path = self.folder / "timing.json"
        if not path.is_file():
            return {}
        stages = json.loads(path.read_text(encoding="utf-8"))["stages"]
        return {s["title"]: s["seconds"] for s in stages if s["stage"].startswith("rounds/")}


def measure(settings: Settings) -> list[Row]:
    """Train the peers, then score all."""
    folder = tiny_run(settings.scratch / "run") if settings.quick else settings.teacher
    run = _open(folder)
    budget = run.budget()
    rows, samplers = [], {_OWN: _chain_sampler(run)}
    for name, distil in _PEERS.items():
        wall, cpu = time.perf_counter(), time.process_time()
        draw = distil(load_module(folder / "teacher", run.manifest), budget)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        samplers[name] = _peer_sampler(draw, run.manifest)
        rows.append(_time_row(name, budget, wall, {"cpu_s": round(cpu, 2)}))
    stages = run.seconds()
    if stages:
        rows.append(_time_row(f"{_OWN}, as its run noted", budget, sum(stages.values()), stages))
    return rows + _score(run, samplers, settings)


def _open(folder: Path) -> _Run:
    if not (folder / "recipe.yaml").is_file():
        raise DataError(
            f"{folder} is not a finished run; `make demo` makes one, --teacher names another"
        )
    tree = read_yaml(folder / "recipe.yaml")
    recipe = build(Recipe, tree, str(folder / "recipe.yaml"))
    return _Run(folder, recipe, read_manifest(folder / "teacher"))


def _chain_sampler(run: _Run) -> Sampler:
    students = {steps: BundleSampler(path) for steps, path in run.students().items()}
    return lambda w, steps, labels: students[steps].sample(
        steps=steps, w=w, conditions=labels, seed=SEED, batch_size=64
    )


def _peer_sampler(draw: Draw, manifest: Manifest) -> Sampler:
    def sample(w: float, steps: int, labels: LabelArray) -> Images:
        # the same noise as BundleSampler's
        noise = RowRandom((SEED,), 0, len(labels)).normal("z_1", *manifest.latent_shape)
        x: Tensor = draw(noise, torch.from_numpy(labels), w, steps)
        return np.ascontiguousarray(x.clamp(-1, 1).permute(0, 2, 3, 1).numpy())

    return sample


def _time_row(name: str, budget: Budget, seconds: float, details: Mapping[str, float]) -> Row:
    return Row(
        name=f"time/{name}",
        what=f"all rounds from the trained teacher, {budget.updates} updates of {budget.batch}: "
        f"{name}",
        value=seconds,
        unit="s",
        details=dict(details),
    )


def _score(run: _Run, samplers: dict[str, Sampler], settings: Settings) -> list[Row]:
    data = run.folder / "data"
    seer = Classifier(run.folder / "evaluation" / "classifier")
    heldout, training = (real_images(data, split)[0] for split in ("heldout", "train"))
    judge = Scorer(seer.read(heldout).features, training)
    labels = balanced_labels(settings.count(1000, 40), run.manifest.num_classes)
    asked = Conditions(labels, None)
    weights, counts = (WEIGHTS[:2], STEPS[:2]) if settings.quick else (WEIGHTS, STEPS)
    teacher = BundleSampler(run.folder / "teacher")
    steps = run.recipe.teacher.reference_steps

    def reference(w: float, seed: int) -> Images:
        return teacher.sample(steps=steps, w=w, conditions=labels, seed=seed, batch_size=64)

    def score(images: Images, of_teacher: TeacherReference) -> Scores:
        return judge.score(ClassifiedImages(images, seer.read(images)), asked, of_teacher, SEED)

    noise_floors = {w: moments_of(seer.read(reference(w, SEED + 1)).features) for w in weights}
    rows = []
    for w in weights:
        of_teacher = TeacherReference(w=w, samples=reference(w, SEED), noise_floors=noise_floors)
        floor = score(of_teacher.samples, of_teacher)
        rows.append(_score_row("teacher", w, steps, floor, floor))
        for name, sample in samplers.items():
            for few in counts:
                scores = score(sample(w, few, labels), of_teacher)
                rows.append(_score_row(name, w, few, scores, floor))
    return rows


def _score_row(name: str, w: float, steps: int, scores: Scores, floor: Scores) -> Row:
    if scores.distance_to_teacher is None or floor.distance_to_teacher is None:
        raise TypeError("these samples were scored without a teacher")
    rms = "" if scores.rms_to_teacher is None else f", RMS to it {scores.rms_to_teacher:.2f}"
    return Row(
        name=f"fidelity/w{w:g}/{steps}/{name}",
        what=f"w = {w:g}, {steps} step{'s' * (steps > 1)}: {name} (recall {scores.recall:.2f}, "
        f"accuracy {scores.class_accuracy:.2f}{rms})",
        value=scores.distance_to_real,
        unit="to real",
        ratio=scores.distance_to_teacher / floor.distance_to_teacher,
        details=scores.model_dump(mode="json"),
    )
