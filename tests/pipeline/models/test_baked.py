"""Students with a baked-in w, whose stock pipeline has no input for w."""

from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.errors import BundleError
from pipeline.models.assemble import family_of, load_denoiser, load_module, save_bundle
from pipeline.models.denoiser import NetworkDenoiser
from tests.support.cases import (
    BAKED_W,
    NETWORKS,
    condition_of,
    normal,
    student_manifest,
    teacher_manifest,
    times,
)

BAKED = [name for name in NETWORKS if teacher_manifest(name).network.why_not_w is not None]
every_baked_network = pytest.mark.parametrize("name", BAKED)


def a_teacher(name: str) -> nn.Module:
    torch.manual_seed(0)
    return family_of(teacher_manifest(name)).build().requires_grad_(requires_grad=False).eval()


@every_baked_network
def test_the_student_is_an_equal_copy_that_shares_no_memory_and_can_learn(name: str) -> None:
    assert BAKED == ["dit", "mmdit-sd3"]
    teacher = a_teacher(name)
    student = family_of(teacher_manifest(name)).student_of(teacher, (BAKED_W, BAKED_W))
    theirs, ours = teacher.state_dict(), student.state_dict()
    assert list(ours) == list(theirs)
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key
        assert value.data_ptr() != theirs[key].data_ptr(), key
    assert all(parameter.requires_grad for parameter in student.parameters())


@every_baked_network
def test_it_accepts_its_own_w_and_refuses_every_other(name: str, tmp_path: Path) -> None:
    manifest = student_manifest(teacher_manifest(name))
    save_bundle(tmp_path, manifest, a_teacher(name))
    found, student = load_denoiser(tmp_path)
    assert found.baked_w == BAKED_W
    assert isinstance(student, NetworkDenoiser)
    level = student.schedule.at(times(0.5, 1.0))
    z_t, condition = normal(2, 4, 8, 8).float(), condition_of(manifest, 2)
    with torch.no_grad():
        answer = student(z_t, level, condition, times(BAKED_W, BAKED_W))
    assert bool(answer.x.isfinite().all())
    assert student.evaluations(BAKED_W) == 1
    for other in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"fixed w = 2"):
            student(z_t, level, condition, times(BAKED_W, other))


@every_baked_network
def test_a_manifest_that_claims_w_conditioning_is_refused(name: str, tmp_path: Path) -> None:
    manifest = student_manifest(teacher_manifest(name))
    save_bundle(tmp_path, manifest, a_teacher(name))
    with pytest.raises(BundleError, match="is not w-conditioned"):
        load_module(tmp_path, manifest.model_copy(update={"baked_w": None}))
