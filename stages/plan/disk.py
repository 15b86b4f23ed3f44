"""Estimate of a run's disk usage, an upper bound known before anything is written."""

import math
import shutil
from pathlib import Path

from pipeline.config import Recipe
from pipeline.data.sources.datasets import count_source
from pipeline.documents import Document
from pipeline.errors import ConfigError
from pipeline.run_dir.recipe_file import existing_ancestor
from pipeline.training.plan import plan_decoders, plan_rounds, plan_teacher
from pipeline.training.round_plan import RoundPlan
from pipeline.wording import format_bytes
from stages.chain import exported_rounds
from stages.plan.sizes import count_components, count_parameters, sample_shape, trained_shape

_ALLOWANCE = 64 * 2**20  # logs, the report and the MLflow database
_CHECKPOINTS = 3  # two kept and one being written
_BYTES_PER_PARAMETER = 20  # weights, float32 masters, two Adam moments, an average
_TUPLE_OVERHEAD = 64  # ids, t, w
_VALUE_BYTES = {"png": 1, "npy": 4, None: 0}  # by encoding; a png is rarely larger
_MOST_TOKENS = 512  # of a T5 prompt; CLIP has 77


class DiskEstimate(Document):
    """Final size of a run directory in bytes; targets at their peak, samples of the evaluation."""

    data: int
    targets: int
    weights: int
    samples: int

    @property
    def total(self) -> int:
        """The sum, with an allowance for logs and the report."""
        return self.data + self.targets + self.weights + self.samples + _ALLOWANCE


def estimate(recipe: Recipe) -> DiskEstimate:
    """Return the disk usage of a recipe."""
    num_samples = count_source(recipe)[0]
    pixels, values = math.prod(sample_shape(recipe)), math.prod(trained_shape(recipe))
    width = _VALUE_BYTES[recipe.data.encoding]
    latents = 4 * values * recipe.samples_per_image if recipe.teacher.network.reads_text else 0
    plans = plan_rounds(recipe)
    return DiskEstimate(
        # a tar member takes two 512-byte blocks; a sample has a label or a caption or both
        data=num_samples * (pixels * width + 3 * 1024 + latents + _text_bytes(recipe)),
        targets=_peak(recipe, [_targets(recipe, plan, num_samples, values) for plan in plans]),
        weights=_weights(recipe),
        samples=_num_sets(recipe) * recipe.evaluation.num_samples * values * 4,
    )


def check_disk(recipe: Recipe, run_dir: Path) -> None:
    """Validate that the disk has room for a run.

    Raises:
        ConfigError: the disk is too small; the message has the need by kind and the free space.
    """
    needed = estimate(recipe)
    held = sum(file.lstat().st_size for file in run_dir.rglob("*") if file.is_file())
    missing = needed.total - held
    free = shutil.disk_usage(existing_ancestor(run_dir)).free
    if missing > free:
        raise ConfigError(
            f"{run_dir}: not enough disk: about {format_bytes(missing)} needed "
            f"(data {format_bytes(needed.data)}, targets {format_bytes(needed.targets)}, weights "
            f"and checkpoints {format_bytes(needed.weights)}, samples "
            f"{format_bytes(needed.samples)}), {format_bytes(free)} free. Free some space, "
            "choose another --run-dir, raise targets.draws_per_tuple, or set targets.mode: online"
        )


def _text_bytes(recipe: Recipe) -> int:
    """Return the bytes of one embedded caption in half precision, without duplicates."""
    token, pooled = recipe.teacher.network.embedding_widths
    parts = recipe.teacher.components
    tokens = _MOST_TOKENS if parts is None else parts.text_tokens
    return 2 * (tokens * token + pooled)


def _targets(recipe: Recipe, plan: RoundPlan, num_samples: int, values: int) -> int:
    if plan.targets.mode == "online":
        return 0
    images = max(1, math.ceil(num_samples * (1 - recipe.data.holdout)))
    trained_on = images * recipe.samples_per_image
    tuples = plan.passes(trained_on) * trained_on
    width = 4 if plan.targets.dtype == "float32" else 2
    return tuples * (2 * values * width + _TUPLE_OVERHEAD)


def _peak(recipe: Recipe, pools: list[int]) -> int:
    if recipe.targets.keep == "all":
        return sum(pools)
    # targets of a round are kept until the next round's student is promoted
    return max(now + before for now, before in zip(pools, [0, *pools[:-1]], strict=True))


def _weights(recipe: Recipe) -> int:
    """Return the bytes of bundles and checkpoints, and of the components and their exports."""
    parameters = max(count_parameters(recipe))
    num_bundles = len(plan_rounds(recipe)) + (1 if plan_teacher(recipe) is None else 2)
    num_exports = len(exported_rounds(recipe))
    networks = 4 * (num_bundles + num_exports) + _BYTES_PER_PARAMETER * _CHECKPOINTS
    return parameters * networks + 4 * (count_components(recipe) or 0) * (1 + num_exports)


def _num_sets(recipe: Recipe) -> int:
    # for each w: the teacher from two seeds, every student, and training-free samplers
    evaluation = recipe.evaluation
    students = len(plan_decoders(recipe))
    baselines = len(evaluation.samplers) * len(evaluation.baseline_steps)
    return len(evaluation.w) * (2 + students + baselines)
