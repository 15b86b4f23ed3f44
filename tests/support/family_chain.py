"""A chain of a tiny stock pipeline, stage by stage in this process: no Ray, no DeepSpeed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flows.cli.request import read_request
from pipeline.config import Recipe
from pipeline.data.latents import read_data_info
from pipeline.documents import dump_yaml
from pipeline.ledger import Artifact, Ledger
from pipeline.training.checkpoint import claim
from pipeline.training.engines import TorchEngine
from pipeline.training.plan import plan_rounds
from pipeline.training.round_plan import RoundPlan
from stages.data.encode import Jobs, encode
from stages.data.encode_worker import open_worker
from stages.data.shard import shard
from stages.rounds import target_worker
from stages.rounds.train import round_job
from stages.rounds.train_worker import RoundJob, train_with
from stages.teacher.adopt import adopt, adopt_components
from stages.workspace import Workspace
from tests.support.tiny_pipelines import CLASSES, PIXELS, tiny_pipeline

CAPTIONS = ("red", "a red of red", "blue of a kind", "nothing much", "the end")
COUNT = 15
"""Captioned images: three of each caption."""

UPDATES = 2
BAKED = 3.0
"""The w of students that cannot be told it."""


@dataclass(frozen=True)
class Chain:
    """Results of a run: guidance with online targets, then a halving with stored targets.

    Attributes:
        run_dir: the run directory.
        recipe: the resolved recipe.
        images: the sharded data.
        components: the pipeline without its network.
        samples: the encoded data.
        bundles: teacher, stage-1 student, student of two steps.
    """

    run_dir: Path
    recipe: Recipe
    images: Artifact
    components: Artifact
    samples: Artifact
    bundles: tuple[Artifact, ...]

    def at(self, artifact: Artifact) -> Path:
        return self.run_dir / artifact.path


def run_chain(kind: str, root: Path, *, of_prompts: bool = False, **guidance: Any) -> Chain:
    """Every stage up to the students, of that kind of `tests.support.tiny_pipelines`."""
    recipe = resolve(kind, root, of_prompts=of_prompts, **guidance)
    run_dir = root / "run"
    work = Workspace(run_dir, recipe)
    images, components = shard(work).value, adopt_components(work).value
    samples = encode_here(work, images, components)
    guided, halving = plan_rounds(recipe)
    teacher = adopt(work, samples).value
    first = train_here(run_dir, recipe, guided, samples, teacher, None)
    targets = [ask_here(run_dir, halving, samples, first)]
    second = train_here(run_dir, recipe, halving, samples, first, targets)
    return Chain(run_dir, recipe, images, components, samples, (teacher, first, second))


def resolve(kind: str, root: Path, *, of_prompts: bool = False, **guidance: Any) -> Recipe:
    """Write such a chain's pipeline, data and recipe, and read the recipe like a command.

    With `of_prompts` the data are prompts, for which the teacher samples the latents.
    """
    make = _prompts if of_prompts else _classes if kind == "dit" else _captions
    pipeline = root / "pipeline"
    if not pipeline.exists():
        tiny_pipeline(kind, pipeline)
    bakes = kind in ("sd3", "dit")
    law = {"min": BAKED, "max": BAKED, "mass_at_min": 0} if bakes else {"min": 1, "max": 7}
    tree = {
        "run": {"name": f"tiny-{kind}"},
        "data": make(root / "data"),
        "teacher": {"pipeline": str(pipeline), "reference_steps": 4},
        "guidance": {
            "w": law,
            "updates": UPDATES,
            "conversion_updates": 1,  # of teachers that predict epsilon
            "batch_size": 4,
            **guidance,
        },
        "halving": {"steps": [4, 2], "updates": UPDATES, "batch_size": 4},
        "evaluation": {"w": [BAKED], "num_samples": 20},
    }
    path = root / "recipe.yaml"
    path.write_text(dump_yaml(tree))
    return read_request(path, None, None, []).recipe


def encode_here(work: Workspace, images: Artifact, components: Artifact) -> Artifact:
    """Stage `encode`, its worker in this process."""

    def serve(spec: dict[str, Any], jobs: Jobs) -> Iterator[dict[str, Any]]:
        yield from map(open_worker(spec), jobs)

    return encode(work, data=images, components=components, run=serve).value


def train_here(
    run_dir: Path,
    recipe: Recipe,
    plan: RoundPlan,
    samples: Artifact,
    teacher: Artifact | None,
    targets: list[Artifact] | None,
) -> Artifact:
    """Stage `train`, on the engine in plain torch in this process."""
    job = round_job(
        Workspace(run_dir, recipe), plan, data=samples, teacher=teacher, targets=targets
    )
    claim(Path(job["checkpoints"]), job["attempt"])

    def train(output: Path) -> dict[str, Any]:
        train_with(RoundJob.model_validate({**job, "output": str(output)}), TorchEngine)
        return {}

    return Ledger(run_dir).publish("student", job["key"], f"{plan.folder}/student", train)


def ask_here(run_dir: Path, plan: RoundPlan, samples: Artifact, teacher: Artifact) -> Artifact:
    """Stage `targets` in this process: one target for each sample."""
    spec = {
        "run_dir": str(run_dir),
        "plan": plan.model_dump(mode="json"),
        "data": str(run_dir / samples.path),
        "teacher": str(run_dir / teacher.path),
        "parents": [],
        "dtype": "float32",
    }
    count = read_data_info(run_dir / samples.path).splits["train"].count
    job = {"key": "t" * 64, "path": f"{plan.folder}/targets/all", "first": 0, "count": count}
    made = target_worker.open_worker(spec)({**job, "first_tuple": 0})
    return Artifact.model_validate(made)


def _captions(folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    lines = []
    for number in range(COUNT):
        name = f"{number:02d}.png"
        _draw(folder / name, number)
        lines.append(json.dumps({"file_name": name, "text": CAPTIONS[number % len(CAPTIONS)]}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return {"source": "captioned_folder", "path": str(folder), "size": PIXELS}


def _prompts(folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    path = folder / "prompts.txt"
    path.write_text("\n".join(CAPTIONS[number % len(CAPTIONS)] for number in range(COUNT)))
    return {"source": "prompts", "path": str(path), "size": PIXELS, "steps": 3, "w": BAKED}


def _classes(folder: Path) -> dict[str, Any]:
    for number in range(2 * CLASSES):
        (folder / f"{number % CLASSES}").mkdir(parents=True, exist_ok=True)
        _draw(folder / f"{number % CLASSES}" / f"{number:02d}.png", number)
    return {"source": "image_folder", "path": str(folder), "size": PIXELS}


def _draw(path: Path, number: int) -> None:
    pixels = np.random.default_rng(number).integers(0, 256, (PIXELS, PIXELS, 3), np.uint8)
    Image.fromarray(pixels).save(path)
