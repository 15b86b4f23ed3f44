"""Data and the exact teacher of the Gaussian recipe."""

import pytest

from pipeline.bundle import Lineage, Manifest
from pipeline.config import Recipe
from pipeline.data.shards.reader import SampleShards
from pipeline.models.assemble import denoiser_of, family_of, fresh_manifest
from pipeline.models.denoiser import Denoiser
from stages.data.shard import shard
from stages.workspace import Workspace
from tests.support.small_run import small_recipe


@pytest.fixture(scope="package")
def recipe() -> Recipe:
    guidance = ("guidance.updates=30", "guidance.batch_size=32", "guidance.ema_decay=0.9")
    return small_recipe(*guidance)


@pytest.fixture(scope="package")
def samples(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> SampleShards:
    run_dir = tmp_path_factory.mktemp("run")
    return SampleShards(run_dir / shard(Workspace(run_dir, recipe)).value.path, "train")


@pytest.fixture(scope="package")
def manifest(recipe: Recipe) -> Manifest:
    return fresh_manifest(recipe.teacher, 3, (2, 1, 1), Lineage(run="t", round=None, parent=None))


@pytest.fixture(scope="package")
def teacher(manifest: Manifest) -> Denoiser:
    return denoiser_of(manifest, family_of(manifest).build())
