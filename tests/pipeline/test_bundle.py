"""A bundle says what it is for, and refuses everything else with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.bundle import MANIFEST, Manifest, read_manifest
from pipeline.config import WDistribution
from pipeline.errors import BundleError
from tests.support.cases import student_manifest, teacher_manifest

TEACHER = teacher_manifest("unet")
STUDENT = student_manifest(TEACHER, WDistribution(min=1, max=4))
FOUR_STEPS = STUDENT.model_copy(update={"steps": (4,), "jump": 2})


def refusal(manifest: Manifest, steps: int, w: float) -> str:
    with pytest.raises(BundleError) as caught:
        manifest.check_use(steps, w)
    return str(caught.value)


def on_disk(folder: Path, changes: dict[str, Any] | None = None) -> Path:
    tree = json.loads(FOUR_STEPS.model_dump_json()) | (changes or {})
    (folder / "unet").mkdir()
    (folder / MANIFEST).write_text(json.dumps(tree))
    return folder


@pytest.mark.parametrize(("steps", "w"), [(4, 1.0), (4, 2.5), (4, 4.0)])
def test_a_student_is_used_as_it_was_made(steps: int, w: float) -> None:
    FOUR_STEPS.check_use(steps, w)


def test_a_stage_one_student_takes_any_divisor_of_the_schedule() -> None:
    for steps in (1, 2, 16, 1024):
        STUDENT.check_use(steps, 2.0)
    TEACHER.check_use(64, 100.0)


@pytest.mark.parametrize("steps", [1, 2, 8, 64])
def test_a_student_refuses_other_step_counts(steps: int) -> None:
    message = refusal(FOUR_STEPS, steps, 2.0)
    assert f"{steps} steps" in message
    assert message.endswith("use --steps 4")


@pytest.mark.parametrize("steps", [0, -1, 3, 1000, 2048])
def test_steps_that_do_not_divide_the_schedule_are_refused(steps: int) -> None:
    for manifest in (TEACHER, STUDENT, FOUR_STEPS):
        message = refusal(manifest, steps, 2.0)
        assert f"{steps} steps do not divide" in message
        assert "1024" in message


@pytest.mark.parametrize("w", [0.0, 0.999, 4.001, 9.0])
def test_a_student_refuses_guidance_it_was_not_made_for(w: float) -> None:
    message = refusal(FOUR_STEPS, 4, w)
    assert f"w = {w} " in message
    assert "[1.0, 4.0]" in message


@pytest.mark.parametrize("w", [-0.5, float("nan"), float("inf")])
def test_guidance_that_is_no_weight_is_refused_by_everyone(w: float) -> None:
    for manifest in (TEACHER, FOUR_STEPS):
        assert f"guidance weight {w} is invalid" in refusal(manifest, 4, w)


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    assert read_manifest(on_disk(tmp_path)) == FOUR_STEPS
    assert FOUR_STEPS.w_convention == "guidance_scale = 1 + w"


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        read_manifest(tmp_path)
    assert f"{tmp_path} is not a bundle: it has no {MANIFEST}" in str(caught.value)


@pytest.mark.parametrize("text", [b"{", b"\xff", b"[]", b"{}"])
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path: Path, text: bytes) -> None:
    on_disk(tmp_path)
    (tmp_path / MANIFEST).write_bytes(text)
    with pytest.raises(BundleError, match="not a manifest"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"format_version": 2}, "format_version"),
        ({"role": "critic"}, "role"),
        ({"w_convention": "guidance_scale = w"}, "w_convention"),
        ({"prediction_type": "score"}, "prediction_type"),
        ({"surprise": 1}, "surprise: unknown key"),
        ({"folder": "../elsewhere"}, "folder"),
        ({"folder": "/etc"}, "folder"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(
    tmp_path: Path, changes: dict[str, Any], part: str
) -> None:
    with pytest.raises(BundleError, match=part):
        read_manifest(on_disk(tmp_path, changes))


def test_a_bundle_without_its_weights_is_refused(tmp_path: Path) -> None:
    on_disk(tmp_path)
    (tmp_path / "unet").rmdir()
    with pytest.raises(BundleError, match="is damaged: its weights folder unet is missing"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["model.bin", "unet/weights.pt", "code.py", "unet/x.pkl", "x"])
def test_anything_but_data_is_refused(tmp_path: Path, name: str) -> None:
    (on_disk(tmp_path) / name).write_text("x")
    with pytest.raises(BundleError) as caught:
        read_manifest(tmp_path)
    assert f"{tmp_path} contains files that are not data ({name})" in str(caught.value)
