"""A report from samples that are drawn here, and its inputs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pipeline.bundle import Lineage
from pipeline.config import Recipe
from pipeline.data.shards.dataset_info import read_info
from pipeline.data.shards.writer import write_dataset
from pipeline.data.sources.datasets import load_source
from pipeline.documents import apply_override, build, read_yaml
from pipeline.evaluation.candidates import ReportInputs, SampleSet
from pipeline.evaluation.dataset_images import real_images
from pipeline.evaluation.documents import EvaluatedBundle, Report, plan_cells
from pipeline.evaluation.features.classifier import train_classifier
from pipeline.evaluation.reports.class_conditional import build_report, write_report_files
from pipeline.models.assemble import family_of, fresh_manifest, save_bundle
from pipeline.sampling.sampler import BundleSampler, balanced_labels
from tests.support.own_readings import read_all

RECIPES = Path(__file__).resolve().parents[2] / "flows" / "recipes"
SMALL = {
    "digits.yaml": [
        "teacher.network.block_channels=[8]",
        "teacher.network.norm_groups=2",
        "teacher.reference_steps=8",
        "halving.steps=[4, 2]",
        "halving.first_substeps=1",
        "halving.updates=1",
        "evaluation={num_samples: 40, w: [0, 2], baseline_steps: [1, 2]}",
    ],
    "gaussian.yaml": [
        "data={source: gaussian, num_samples: 120}",
        "evaluation={num_samples: 60, w: [0, 2], baseline_steps: [1, 2]}",
    ],
}


def small(name: str) -> Recipe:
    tree = read_yaml(RECIPES / name)
    for override in SMALL[name]:
        apply_override(tree, override)
    return build(Recipe, tree, name)


def prepare(recipe: Recipe, folder: Path) -> ReportInputs:
    """Real data, an untrained (or exact) teacher, its initial students, and samples."""
    network = recipe.teacher.network
    write_dataset(folder / "data", load_source(recipe.data, 0, network), recipe.data)
    info = read_info(folder / "data")
    real = [real_images(folder / "data", split) for split in ("train", "heldout")]
    train_classifier(
        folder / "classifier", *real, num_classes=info.num_classes, seed=0, updates=100
    )
    origin = Lineage(run="test", round=None, parent=None)
    manifest = fresh_manifest(recipe.teacher, info.num_classes, info.latent_shape, origin)
    torch.manual_seed(0)
    family = family_of(manifest)
    teacher = family.build()
    save_bundle(folder / "teacher", manifest, teacher)
    entrants = [EvaluatedBundle(manifest=manifest, path="teacher", digest="t")]
    for index, steps in enumerate(recipe.halving.steps):
        changes = {
            "role": "student",
            "steps": (steps,) if index else None,
            "w": recipe.guidance.w,
            "lineage": Lineage(run="test", round=index, parent="t"),
        }
        student = manifest.model_copy(update=changes)
        save_bundle(folder / f"s{index}", student, family.student_of(teacher, (0.0, 4.0)))
        entrants.append(EvaluatedBundle(manifest=student, path=f"s{index}", digest=f"s{index}"))
    cells = plan_cells(recipe, entrants[0], entrants[1:], recipe.evaluation.samplers)
    labels = balanced_labels(recipe.evaluation.num_samples, info.num_classes)
    sets = []
    for cell in cells:
        opened = BundleSampler(folder / cell.bundle)
        images = opened.sample(
            steps=cell.steps, w=cell.w, conditions=labels, seed=cell.seed, sampler=cell.sampler
        )
        evaluations = opened.evaluations(steps=cell.steps, w=cell.w)
        sets.append(SampleSet(cell, evaluations, returning(images)))
    num = recipe.evaluation.num_samples
    own = read_all(folder / "data", folder / "classifier", tuple(sets), num)
    return ReportInputs(recipe, folder / "data", own, tuple(sets), ("a reason",))


def returning(images: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: images


Made = tuple[ReportInputs, Report, Path]


def make(name: str, folder: Path) -> Made:
    comparison = prepare(small(name), folder)
    report = build_report(comparison)
    (folder / "report").mkdir()
    write_report_files(report, comparison, folder / "report")
    return comparison, report, folder / "report"
