"""A run for the playground, created in a second, with untrained, distinct networks."""

from pathlib import Path

import torch
from torch import nn

from pipeline.config import Recipe
from pipeline.documents import apply_override, build, read_yaml, to_yaml
from pipeline.models.assemble import family_of, save_bundle
from pipeline.run_dir.layout import RECIPE
from tests.support.cases import student_manifest, teacher_manifest
from tests.support.terminal import ROOT

ANY, FOUR, ONE = (f"rounds/{each}/student" for each in ("00-guidance", "01-8-to-4", "02-4-to-1"))


def playable_run(run_dir: Path, *overrides: str) -> Path:
    """A class-conditional teacher of digits, and students: stage 1, 4 steps and 1 step."""
    tree = read_yaml(ROOT / "flows/recipes/digits.yaml")
    tree.pop("$schema", None)
    ladder = ("halving.steps=[8, 4, 1]", "halving.updates=2", "halving.first_substeps=8")
    for override in (*ladder, *overrides):
        apply_override(tree, override)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / RECIPE).write_text(to_yaml(build(Recipe, tree, RECIPE)), encoding="utf-8")
    manifest = teacher_manifest("unet")
    family = family_of(manifest)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = _moved(family.build())
        save_bundle(run_dir / "teacher", manifest, teacher)
        for place, steps in ((ANY, None), (FOUR, (4,)), (ONE, (1,))):
            told = student_manifest(manifest).model_copy(update={"steps": steps})
            save_bundle(run_dir / place, told, _moved(family.student_of(teacher, (0.0, 4.0))))
    return run_dir


def _moved(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return module
