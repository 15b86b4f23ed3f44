"""A bundle states its valid uses, and refuses others with the reason."""

import json
import re
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
EVERYBODY = (TEACHER, STUDENT, FOUR_STEPS)


def on_disk(folder: Path, changes: dict[str, Any] | None = None) -> Path:
    tree = json.loads(FOUR_STEPS.model_dump_json()) | (changes or {})
    (folder / "unet").mkdir()
    (folder / MANIFEST).write_text(json.dumps(tree))
    return folder


def test_a_student_is_used_as_it_was_made_and_a_stage_one_student_in_any_divisor() -> None:
    for w in (1.0, 2.5, 4.0):
        FOUR_STEPS.check_use(4, w)
    for steps in (1, 2, 16, 1024):
        STUDENT.check_use(steps, 2.0)
    TEACHER.check_use(64, 100.0)


@pytest.mark.parametrize(
    ("manifests", "steps", "w", "reasons"),
    [
        *(((FOUR_STEPS,), steps, 2.0, (f"{steps} steps", "--steps 4")) for steps in (1, 2, 8, 64)),
        *((EVERYBODY, n, 2.0, (f"{n} steps", "1024")) for n in (0, -1, 3, 1000, 2048)),
        *(((FOUR_STEPS,), 4, w, (f"w = {w} ", "[1.0, 4.0]")) for w in (0.0, 0.999, 4.001, 9.0)),
        *((EVERYBODY, 4, w, (str(w),)) for w in (-0.5, float("nan"), float("inf"))),
    ],
)
def test_every_other_use_is_refused_with_what_is_allowed(
    manifests: tuple[Manifest, ...], steps: int, w: float, reasons: tuple[str, ...]
) -> None:
    for manifest in manifests:
        with pytest.raises(BundleError) as caught:
            manifest.check_use(steps, w)
        assert all(reason in str(caught.value) for reason in reasons)


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    assert read_manifest(on_disk(tmp_path)) == FOUR_STEPS
    assert FOUR_STEPS.w_convention == "guidance_scale = 1 + w"


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=MANIFEST):
        read_manifest(tmp_path)


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
    with pytest.raises(BundleError, match="unet is missing"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["model.bin", "unet/weights.pt", "code.py", "unet/x.pkl", "x"])
def test_anything_but_data_is_refused(tmp_path: Path, name: str) -> None:
    (on_disk(tmp_path) / name).write_text("x")
    with pytest.raises(BundleError, match=re.escape(name)):
        read_manifest(tmp_path)
