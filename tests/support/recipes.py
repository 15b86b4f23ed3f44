"""Recipes and profiles of tests: shipped ones with overrides, and ones that adopt a pipeline."""

from pathlib import Path

from flows.cli.request import read_request
from pipeline.config import Recipe
from pipeline.config.profile import ComputeConfig, Profile
from pipeline.documents import apply_override, build, read_yaml
from tests.support.terminal import ROOT

RECIPES = {path.stem: path for path in sorted((ROOT / "flows/recipes").glob("*.yaml"))}

INLINE = Profile(compute=ComputeConfig(launcher="inline", workers=1))
"""All work in this process, with the bytes of one worker on Ray."""

CAPTIONS = "{source: captioned_digits, size: 16, count: 40, holdout_count: 8}"
CANVASES = "{source: digit_canvases, size: 16, numbers: [7, 18]}"

_ADOPTING = """
run: {{name: adopted}}
data: {data}
teacher: {{pipeline: {pipeline}, reference_steps: 8{more}}}
guidance: {{w: {w}, updates: 2, conversion_updates: 2, batch_size: 4, learning_rate: 0.001}}
halving: {{steps: [4, 2], updates: 2, batch_size: 4}}
evaluation: {{num_samples: 40, w: [2], baseline_steps: [2]}}
"""


def shipped_recipe(name: str, *overrides: str) -> Recipe:
    """Return a recipe of flows/recipes with overrides like `--set`."""
    tree = read_yaml(RECIPES[name])
    for override in overrides:
        apply_override(tree, override)
    return build(Recipe, tree, name)


def write_adopting(
    folder: Path,
    pipeline: Path | str,
    *,
    more: str = "",
    data: str = CAPTIONS,
    w: str = "{min: 0, max: 4}",
) -> Path:
    """Write a recipe whose teacher is a pipeline; `more` follows in its section `teacher`."""
    path = folder / "recipe.yaml"
    path.write_text(_ADOPTING.format(pipeline=pipeline, more=more, data=data, w=w))
    return path


def adopting_recipe(folder: Path, pipeline: Path | str, **options: str) -> Recipe:
    """Read the same recipe like a command, completed from the pipeline."""
    return read_request(write_adopting(folder, pipeline, **options), None, None, []).recipe
