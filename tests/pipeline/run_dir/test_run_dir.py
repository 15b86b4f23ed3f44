"""Checks of a run directory before a run starts in it; a rejected directory is unchanged."""

import os
from pathlib import Path

import pytest

from pipeline.config import Recipe
from pipeline.config.profile import ComputeConfig, EngineConfig, Profile, TrackingConfig
from pipeline.documents import build, read_yaml
from pipeline.errors import ConfigError
from pipeline.evaluation.documents import EvaluatedBundle, plan_cells
from pipeline.run_dir.recipe_file import (
    check_run_dir,
    prepare_run_dir,
    read_recipe,
    record_profile,
    recorded_profile,
)
from pipeline.training.plan import plan_rounds
from pipeline.wording import format_bytes
from stages.plan.disk import check_disk, estimate
from tests.support.cases import student_manifest, teacher_manifest
from tests.support.terminal import DIGITS, GAUSSIAN


def recipe(source: Path = GAUSSIAN, **changes: object) -> Recipe:
    return build(Recipe, {**read_yaml(source), **changes}, source.name)


def seeded(seed: int) -> Recipe:
    return recipe(run={"name": "gaussian", "seed": seed})


def listing(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*"))


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """A directory in which a run of the recipe was started, twice."""
    folder = tmp_path / "runs" / "new"
    prepare_run_dir(recipe(), folder, accept_changes=False)
    before = (folder / "recipe.yaml").stat().st_mtime_ns
    prepare_run_dir(recipe(), folder, accept_changes=True)
    assert (folder / "recipe.yaml").stat().st_mtime_ns == before
    return folder


def test_the_first_start_writes_the_recipe_in_full(started: Path) -> None:
    assert read_recipe(started) == recipe()
    assert "mass_at_min: 0.1" in (started / "recipe.yaml").read_text()
    assert listing(started) == ["recipe.yaml"]


def test_changed_values_are_rejected_with_a_diff(started: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        prepare_run_dir(seeded(7), started, accept_changes=False)
    assert "-  seed: 0" in str(refused.value)
    assert "+  seed: 7" in str(refused.value)
    assert "--accept-changes" in str(refused.value)
    assert read_recipe(started) == recipe()


def test_accepted_changes_keep_every_earlier_recipe(started: Path) -> None:
    for seed in (7, 8):
        prepare_run_dir(seeded(seed), started, accept_changes=True)
    assert read_recipe(started).run.seed == 8
    assert "seed: 0" in (started / "recipe.1.yaml").read_text()
    assert "seed: 7" in (started / "recipe.2.yaml").read_text()


@pytest.mark.parametrize("accept_changes", [False, True])
def test_the_directory_of_another_recipe_is_rejected_even_with_accepted_changes(
    started: Path, accept_changes: bool
) -> None:
    with pytest.raises(ConfigError, match=r"run\.name: .*'gaussian'"):
        prepare_run_dir(recipe(DIGITS), started, accept_changes=accept_changes)


def test_files_of_an_interrupted_first_start_are_accepted_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / ".lock").touch()
    (tmp_path / "thesis.tex").touch()
    before = listing(tmp_path)
    with pytest.raises(ConfigError, match=r"thesis\.tex"):
        prepare_run_dir(recipe(), tmp_path, accept_changes=False)
    assert listing(tmp_path) == before
    (tmp_path / "thesis.tex").unlink()
    prepare_run_dir(recipe(), tmp_path, accept_changes=False)
    assert read_recipe(tmp_path) == recipe()


def test_a_link_a_file_and_a_read_only_directory_are_rejected(tmp_path: Path) -> None:
    for name in ("real", "read-only"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").touch()
    (tmp_path / "read-only").chmod(0o555)
    before = listing(tmp_path)
    for place, problem in (
        *(("link", "symbolic link"), ("file", "is a file"), ("file/below", "is a file")),
        *(("read-only", "read-only"), ("read-only/new", "read-only")),
    ):
        with pytest.raises(ConfigError, match=problem):
            prepare_run_dir(recipe(), tmp_path / place, accept_changes=False)
    assert listing(tmp_path) == before
    (tmp_path / "read-only").chmod(0o755)


def test_the_directory_of_another_user_is_rejected() -> None:
    user, place = os.geteuid(), Path("/")
    if user == 0:
        place = next(p for p in Path("/proc").glob("[0-9]*") if p.stat().st_uid == 0)
        os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match="belongs to user 0"):
            check_run_dir(recipe(), place, accept_changes=False)
    finally:
        os.seteuid(user)


def test_every_profile_of_a_run_is_kept(started: Path) -> None:
    with pytest.raises(ConfigError, match="--profile"):
        recorded_profile(started)
    first = Profile(tracking=TrackingConfig(uri="env:TRACKING"))
    second = Profile(
        compute=ComputeConfig(workers=1), engine=EngineConfig(log_every=3, checkpoint_every=7)
    )
    for profile in (first, first, second, second, first):
        record_profile(profile, started)
    assert recorded_profile(started).tracking.uri == "env:TRACKING"
    profiles = ["profile.1.yaml", "profile.2.yaml", "profile.yaml"]
    assert listing(started) == [*profiles, "recipe.yaml"]
    assert "log_every: 3" in (started / "profile.2.yaml").read_text()


def test_a_run_larger_than_the_disk_is_rejected_with_the_estimate(tmp_path: Path) -> None:
    huge = recipe(halving={"steps": [4, 2, 1], "updates": 10**12})
    with pytest.raises(ConfigError, match="PB") as refused:
        check_disk(huge, tmp_path / "new")
    assert "targets" in str(refused.value)
    assert listing(tmp_path) == []


def test_the_estimate_counts_the_targets_that_exist_at_the_same_time() -> None:
    online, last, everything = (
        estimate(recipe(targets=targets)).targets
        for targets in ({"mode": "online"}, {"keep": "last"}, {"keep": "all"})
    )
    assert online == 0
    assert 0 < last < everything
    # 600 updates of 256 at two draws a tuple: 76,800 tuples of two float32 pairs, in each round
    assert everything == pytest.approx(3 * 76_800 * (2 * 2 * 4 + 64), rel=0.01)


def test_the_estimate_counts_every_set_of_samples_an_evaluation_plans() -> None:
    resolved = recipe()
    manifest = teacher_manifest("gaussian")
    teacher = EvaluatedBundle(manifest=manifest, path="teacher", digest="0")
    student = EvaluatedBundle(manifest=student_manifest(manifest), path="student", digest="1")
    students = [student] * len(plan_rounds(resolved))
    cells = plan_cells(resolved, teacher, students, resolved.evaluation.samplers)
    values = 2 * resolved.evaluation.num_samples
    assert estimate(resolved).samples == len(cells) * values * 4


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1200, "1.2 kB"), (410e9, "410 GB"), (2e21, "2000000 PB")],
)
def test_bytes_are_formatted_with_units(size: float, text: str) -> None:
    assert format_bytes(size) == text
