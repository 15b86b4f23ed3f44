"""A stochastic student edits and inpaints with its own sampler."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.bundle import MANIFEST
from pipeline.models.assemble import family_of, save_bundle
from pipeline.sampling.editing import EditTarget, edit
from pipeline.sampling.sampler import BundleSampler
from stages.inference.edit import EditRequest, EditResult, inpaint_picture
from tests.support.cases import student_manifest, teacher_manifest
from tests.support.stock_bundles import tiny
from tests.support.tiny_pipelines import PIXELS

STEPS = 4


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained student that is told classes and draws pixels."""
    place = tmp_path_factory.mktemp("digits") / "student"
    teacher = teacher_manifest("unet")
    family = family_of(teacher)
    manifest = student_manifest(teacher).model_copy(update={"steps": (STEPS,)})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_bundle(place, manifest, family.student_of(family.build(), (0.0, 4.0)))
    return place


def stochastic(bundle: Path, place: Path) -> Path:
    """The same network, as one that was distilled for the stochastic sampler."""
    shutil.copytree(bundle, place)
    told = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
    (place / MANIFEST).write_text(json.dumps({**told, "sampler": "stochastic"}), encoding="utf-8")
    return place


def test_edits_add_the_noise_that_drawing_adds(plain: Path, tmp_path: Path) -> None:
    opened = {
        "ddim": BundleSampler(plain),
        "stochastic": BundleSampler(stochastic(plain, tmp_path / "student")),
    }
    channels, height, width = opened["ddim"].manifest.latent_shape
    source = np.linspace(-1, 1, height * width * channels, dtype=np.float32)
    picture = source.reshape(1, height, width, channels)

    def edited(sampler: str, taken: int) -> np.ndarray:
        wish = EditTarget(np.array([8]), 1.0, seed=0)
        found: np.ndarray = edit(opened[sampler], picture, wish, steps=STEPS, taken=taken)
        return found

    np.testing.assert_array_equal(edited("stochastic", 3), edited("stochastic", 3))
    assert (edited("stochastic", 3) != edited("ddim", 3)).any()
    # from the last point on there is no noise to add
    np.testing.assert_array_equal(edited("stochastic", 1), edited("ddim", 1))
    drawn = opened["stochastic"].sample(steps=STEPS, w=1.0, asked=np.array([8]), seed=0)
    np.testing.assert_array_equal(edited("stochastic", STEPS), drawn)


def test_painting_is_by_the_students_own_sampler_too(tmp_path: Path) -> None:
    parts = tiny("sd-inpaint", tmp_path / "sd")
    noise = np.random.default_rng(0).integers(0, 256, (PIXELS, PIXELS, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "in.png")
    Image.new("L", (PIXELS, PIXELS), 255).save(tmp_path / "mask.png")
    painted = []
    for bundle in (parts.student(2), stochastic(parts.student(2), tmp_path / "student")):
        order = EditRequest(
            *(bundle, tmp_path / "in.png", tmp_path / "out.png", "red", 3.0),
            components=parts.components,
        )
        assert inpaint_picture(order, tmp_path / "mask.png") == EditResult(2, 2)
        painted.append(np.asarray(Image.open(order.output)).astype(int))
    assert (painted[0] != painted[1]).any()
