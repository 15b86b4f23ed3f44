"""A bundle whose weights are not what its manifest says is refused when it is opened."""

import json
from pathlib import Path

import pytest

from pipeline.bundle import Lineage
from pipeline.config import TeacherConfig, TeacherTraining, UNetConfig
from pipeline.errors import BundleError
from pipeline.models.assemble import family_of, fresh_manifest, load_denoiser, save_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    network = UNetConfig(family="unet", block_channels=(8, 16), w_embedding_dim=8)
    teacher = TeacherConfig(network=network, train=TeacherTraining(updates=1))
    lineage = Lineage(run="test", round=None, parent=None)
    manifest = fresh_manifest(teacher, 3, (1, 8, 8), lineage)
    save_bundle(tmp_path, manifest, family_of(manifest).build())
    return tmp_path


def test_a_teacher_that_calls_itself_a_student_is_refused(bundle: Path) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest |= {"role": "student", "w": {"min": 0.0, "max": 4.0, "mass_at_min": 0.1}}
    path.write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="does not hold the weights of the student"):
        load_denoiser(bundle)


def test_weights_that_were_cut_are_refused(bundle: Path) -> None:
    weights = next(bundle.rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BundleError, match="does not hold the weights of the teacher"):
        load_denoiser(bundle)


def test_weights_that_are_gone_are_refused(bundle: Path) -> None:
    next(bundle.rglob("*.safetensors")).unlink()
    with pytest.raises(BundleError, match="does not hold the weights of the teacher"):
        load_denoiser(bundle)
