"""The plan's parameter counts and worker memory."""

from pathlib import Path

import pytest

from infra.deepspeed.memory_model import state_bytes, teacher_bytes
from pipeline.bundle import Lineage, read_manifest
from pipeline.config.profile import ComputeConfig, EngineConfig, Profile
from pipeline.data.shards.dataset_info import read_info
from pipeline.models.assemble import family_of, fresh_manifest, load_module
from pipeline.models.parameter_count import count
from stages.data.shard import shard
from stages.plan.sizes import measure_footprint, worker_bytes
from stages.workspace import Workspace
from tests.support.recipes import RECIPES, adopting_recipe, shipped_recipe
from tests.support.small_run import data_and_teacher
from tests.support.tiny_pipelines import tiny_pipeline


def profile(workers: int, **engine: object) -> Profile:
    return Profile(
        compute=ComputeConfig(workers=workers), engine=EngineConfig.model_validate(engine)
    )


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_footprint_and_creates_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = measure_footprint(shipped_recipe(name), Profile())
    assert found.student > found.teacher >= 0
    assert found.components is None
    assert all(size for size in found.stages.values())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["digits", "digits32", "gaussian"])
def test_the_count_is_that_of_the_network_that_will_be_built(name: str, tmp_path: Path) -> None:
    changes = ["data.per_class=2", "data.holdout_per_class=2"] if name == "digits32" else []
    asked = shipped_recipe(name, *changes)
    info = read_info(tmp_path / shard(Workspace(tmp_path, asked)).value.path)
    lineage = Lineage(run=name, round=None, parent=None)
    manifest = fresh_manifest(asked.teacher, info.num_classes, info.latent_shape, lineage)
    assert measure_footprint(asked, Profile()).teacher == count(family_of(manifest).build())


def test_the_worst_round_counts_which_is_the_teachers_with_its_average() -> None:
    found = measure_footprint(shipped_recipe("digits"), profile(2))
    for stage, size in found.stages.items():
        layout = {"zero_stage": stage, "workers": 2, "precision": "float32"}
        assert size == max(
            state_bytes(found.teacher, **layout, ema=True),
            state_bytes(found.student, **layout, ema=False),
        )


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_online_targets_cost_a_teacher_in_float32_on_every_worker(stage: int) -> None:
    sizes = {"teacher": 10**6, "student": 10**6 + 64}
    place = profile(8, precision="bfloat16")

    def size(*overrides: str) -> int:
        # with no teacher to train, the rounds are the worst there is
        return worker_bytes(shipped_recipe("gaussian", *overrides), place, stage, **sizes) or 0

    assert size("targets.mode=online") - size() == teacher_bytes(10**6 + 64)


def test_bfloat16_has_no_stage_zero() -> None:
    found = measure_footprint(
        shipped_recipe("digits"), profile(2, precision="bfloat16", zero_stage=2)
    )
    assert [stage for stage, size in found.stages.items() if size is None] == [0]
    assert found.zero_stage == 2


def test_a_pipeline_has_components_beside_its_network(tmp_path: Path) -> None:
    pipeline = tiny_pipeline("sdxl", tmp_path / "pipeline")
    found = measure_footprint(adopting_recipe(tmp_path, pipeline), Profile())
    files = [path for path in pipeline.rglob("*.safetensors") if path.parent.name != "unet"]
    assert len(files) == 3
    # float32 files are their numbers, four bytes each, and a header of some kB
    stored = sum(path.stat().st_size for path in files) / 4
    assert found.components is not None
    assert 0 <= stored - found.components < 3 * 10_000
    assert found.student > found.teacher > 0


def test_a_bundle_is_counted_as_it_loads(tmp_path: Path) -> None:
    gaussian = shipped_recipe("gaussian")
    bundle = tmp_path / data_and_teacher(tmp_path, gaussian)[1].path
    teacher = gaussian.teacher.model_copy(update={"bundle": str(bundle)})
    found = measure_footprint(gaussian.model_copy(update={"teacher": teacher}), Profile())
    assert found.teacher == count(load_module(bundle, read_manifest(bundle)))
    assert found == measure_footprint(gaussian, Profile())
