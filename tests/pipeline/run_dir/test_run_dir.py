"""Checks of a run directory before a run starts in it; a rejected directory is unchanged."""

import os
from pathlib import Path

import pytest

from pipeline.config import Recipe
from pipeline.documents import build, read_yaml
from pipeline.errors import ConfigError
from pipeline.evaluation.documents import EvaluatedBundle, plan_cells
from pipeline.run_dir.recipe_file import check_run_dir, prepare_run_dir, read_recipe
from pipeline.training.plan import plan_rounds
from pipeline.wording import format_bytes
from stages.plan.disk import check_disk, estimate
from tests.support.cases import student_manifest, teacher_manifest
from tests.support.terminal import DIGITS, GAUSSIAN


def recipe(source: Path = GAUSSIAN, **changes: object) -> Recipe:
    return build(Recipe, {**read_yaml(source), **changes}, source.name)


def listing(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*"))


def test_the_first_start_writes_the_recipe_in_full(tmp_path: Path) -> None:
    prepare_run_dir(recipe(), tmp_path / "runs" / "new", accept_changes=False)
    assert read_recipe(tmp_path / "runs" / "new") == recipe()
    assert "mass_at_min: 0.1" in (tmp_path / "runs" / "new" / "recipe.yaml").read_text()
    assert listing(tmp_path / "runs" / "new") == ["recipe.yaml"]


def test_the_same_recipe_changes_nothing(tmp_path: Path) -> None:
    prepare_run_dir(recipe(), tmp_path, accept_changes=False)
    before = (tmp_path / "recipe.yaml").stat()
    prepare_run_dir(recipe(), tmp_path, accept_changes=True)
    assert (tmp_path / "recipe.yaml").stat().st_mtime_ns == before.st_mtime_ns


def test_changed_values_are_rejected_with_a_diff(tmp_path: Path) -> None:
    prepare_run_dir(recipe(), tmp_path, accept_changes=False)
    changed = recipe(run={"name": "gaussian", "seed": 7})
    with pytest.raises(ConfigError) as refused:
        prepare_run_dir(changed, tmp_path, accept_changes=False)
    assert "-  seed: 0" in str(refused.value)
    assert "+  seed: 7" in str(refused.value)
    assert "--accept-changes" in str(refused.value)
    assert read_recipe(tmp_path) == recipe()


def test_accepted_changes_keep_every_earlier_recipe(tmp_path: Path) -> None:
    prepare_run_dir(recipe(), tmp_path, accept_changes=False)
    for seed in (7, 8):
        changed = recipe(run={"name": "gaussian", "seed": seed})
        prepare_run_dir(changed, tmp_path, accept_changes=True)
    assert read_recipe(tmp_path).run.seed == 8
    assert "seed: 0" in (tmp_path / "recipe.1.yaml").read_text()
    assert "seed: 7" in (tmp_path / "recipe.2.yaml").read_text()


@pytest.mark.parametrize("accept_changes", [False, True])
def test_the_directory_of_another_recipe_is_rejected_even_with_accepted_changes(
    tmp_path: Path, accept_changes: bool
) -> None:
    prepare_run_dir(recipe(), tmp_path, accept_changes=False)
    with pytest.raises(ConfigError, match=r"run\.name: .*'gaussian'"):
        prepare_run_dir(recipe(DIGITS), tmp_path, accept_changes=accept_changes)


def test_a_directory_with_other_files_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match=r"thesis\.tex"):
        prepare_run_dir(recipe(), tmp_path, accept_changes=False)
    assert listing(tmp_path) == ["thesis.tex"]


def test_files_of_an_interrupted_first_start_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / ".lock").touch()
    prepare_run_dir(recipe(), tmp_path, accept_changes=False)
    assert read_recipe(tmp_path) == recipe()


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(ConfigError, match="symbolic link"):
        prepare_run_dir(recipe(), tmp_path / "link", accept_changes=False)


def test_a_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match="is a file"):
            check_run_dir(recipe(), place, accept_changes=False)


def test_a_read_only_directory_is_rejected(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        for place in (tmp_path, tmp_path / "new"):
            with pytest.raises(ConfigError, match="read-only"):
                prepare_run_dir(recipe(), place, accept_changes=False)
    finally:
        tmp_path.chmod(0o755)


def test_the_directory_of_another_user_is_rejected() -> None:
    if os.geteuid() == 0:
        place = next(p for p in Path("/proc").glob("[0-9]*") if p.stat().st_uid == 0)
        os.seteuid(65534)
        try:
            with pytest.raises(ConfigError, match="belongs to user 0"):
                check_run_dir(recipe(), place, accept_changes=False)
        finally:
            os.seteuid(0)
    else:
        with pytest.raises(ConfigError, match="belongs to user 0"):
            check_run_dir(recipe(), Path("/"), accept_changes=False)


def test_a_run_larger_than_the_disk_is_rejected_with_the_estimate(tmp_path: Path) -> None:
    huge = recipe(halving={"steps": [4, 2, 1], "updates": 10**12})
    with pytest.raises(ConfigError, match="PB") as refused:
        check_disk(huge, tmp_path / "new")
    assert "targets" in str(refused.value)
    assert listing(tmp_path) == []


def test_the_estimate_counts_the_targets_that_exist_at_the_same_time() -> None:
    online = recipe(targets={"mode": "online"})
    last = recipe(targets={"keep": "last"})
    everything = recipe(targets={"keep": "all"})
    assert estimate(online).targets == 0
    assert 0 < estimate(last).targets < estimate(everything).targets
    # 600 updates of 256 at two draws a tuple: 76,800 tuples of two float32 pairs, in each round
    assert estimate(everything).targets == pytest.approx(3 * 76_800 * (2 * 2 * 4 + 64), rel=0.01)


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
