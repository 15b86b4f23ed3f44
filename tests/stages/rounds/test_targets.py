"""Target shards: reproducible, and committed one by one."""

from pathlib import Path
from typing import Any

import pytest
import webdataset
from safetensors.torch import load as load_safetensors

from pipeline.config import Recipe
from pipeline.data.shards.dataset_info import read_info
from pipeline.errors import DivergenceError
from pipeline.ledger import Artifact, Ledger
from pipeline.training.plan import plan_rounds
from pipeline.training.round_plan import RoundPlan
from stages.rounds.target_worker import open_worker
from stages.rounds.targets import pregenerate, target_tar
from stages.workspace import Workspace
from tests.support.recipes import INLINE, shipped_recipe
from tests.support.small_run import data_and_teacher, flip
from tests.support.told import Told

OVERRIDES = ("data.num_samples=256", "data.shard_size=80", "guidance.updates=3")


@pytest.fixture
def recipe() -> Recipe:
    return shipped_recipe("gaussian", *OVERRIDES)


def serve_first_shard(
    run_dir: Path, recipe: Recipe, plan: RoundPlan, key: str, dtype: str = "float32"
) -> Artifact:
    data, teacher = data_and_teacher(run_dir, recipe)
    spec: dict[str, Any] = {
        "run_dir": str(run_dir),
        "plan": plan.model_dump(mode="json"),
        "data": str(run_dir / data.path),
        "teacher": str(run_dir / teacher.path),
        "parents": [],
        "dtype": dtype,
    }
    job = {"key": key, "path": "shard-0", "first": 0, "count": 80, "first_tuple": 192}
    return Artifact.model_validate(open_worker(spec)(job))


def test_a_shard_made_again_has_the_same_bytes(recipe: Recipe, tmp_path: Path) -> None:
    plan = plan_rounds(recipe)[0]
    first = serve_first_shard(tmp_path / "a", recipe, plan, "k1")
    second = serve_first_shard(tmp_path / "b", recipe, plan, "k1")
    assert first.files == second.files
    assert first.details == {"tuples": 80}


def test_targets_too_large_for_16_bits_are_refused_and_not_stored(tmp_path: Path) -> None:
    means = "teacher.network.means=[[-1.0e+6, 0.5], [1.0, 0.25], [0.0, -1.0]]"
    recipe = shipped_recipe("gaussian", *OVERRIDES, means)
    plan = plan_rounds(recipe)[0]
    with pytest.raises(DivergenceError, match=r"not finite as torch\.float16"):
        serve_first_shard(tmp_path, recipe, plan, "k", "float16")
    assert Ledger(tmp_path).find("k") is None
    assert serve_first_shard(tmp_path, recipe, plan, "k").details == {"tuples": 80}


def test_any_webdataset_tool_reads_a_target_shard(recipe: Recipe, tmp_path: Path) -> None:
    artifact = serve_first_shard(tmp_path, recipe, plan_rounds(recipe)[0], "k")
    tar = str(target_tar(tmp_path, artifact))
    records = list(webdataset.WebDataset(tar, shardshuffle=False))
    columns = [load_safetensors(record["safetensors"]) for record in records]
    assert sum(len(part["t"]) for part in columns) == 80
    assert set(columns[0]) == {"tuple", "sample", "z_t_and_velocity", "t", "w"}
    assert columns[0]["tuple"][0] == 192


def test_only_missing_shards_are_computed(recipe: Recipe, tmp_path: Path) -> None:
    plan = plan_rounds(recipe)[0]
    data, teacher = data_and_teacher(tmp_path, recipe)
    seen: list[tuple[int, int]] = []

    def run() -> tuple[Artifact, ...]:
        work = Workspace(tmp_path, recipe, INLINE)
        return pregenerate(work, plan, data=data, teacher=teacher, observer=Told(seen)).value

    made = run()
    train = read_info(tmp_path / data.path).splits["train"]
    passes = plan.passes(train.count)
    assert len(made) == passes * len(train.shards)
    damaged = target_tar(tmp_path, made[1])
    flip(damaged, damaged.stat().st_size // 2)
    seen.clear()
    again = run()
    assert [a.digest for a in again] == [a.digest for a in made]
    assert seen == [(len(made) - 1, len(made)), (len(made), len(made))]
    assert all(Ledger(tmp_path).damage(a) is None for a in again)
