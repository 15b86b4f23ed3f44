"""An inpainting teacher is trained on captioned digits, and its student is evaluated on them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.bundle import read_manifest
from pipeline.config import Recipe
from pipeline.data.latents import LatentShards
from pipeline.documents import build
from pipeline.errors import BundleError, ConfigError
from pipeline.methods.denoising import Denoising
from pipeline.models.assemble import family_of, schedule_of
from pipeline.randomness import RowRandom
from pipeline.sampling.conditions import choose_conditions, condition_images, masked_images
from pipeline.sampling.sampler import BundleSampler
from pipeline.training.batches import method_of
from pipeline.training.plan import plan_rounds, plan_teacher
from stages.data.shard import shard
from stages.evaluation.sample_sets import open_worker
from stages.plan.plan import plan_run
from stages.teacher.components import components
from stages.workspace import Workspace
from tests.support.family_chain import encode_here, train_here

pytestmark = pytest.mark.slow

NUM = 20
TEACHER, STUDENT = "rounds/teacher/student", "rounds/00-guidance/student"


def recipe(**components: Any) -> Recipe:
    network = {"family": "unet", "block_channels": [8, 16], "text_channels": 16}
    tree: dict[str, Any] = {
        "run": {"name": "test"},
        "data": {"source": "captioned_digits", "count": 40, "holdout_count": 20},
        "teacher": {
            "network": {**network, "norm_groups": 4, "attention_heads": 2, "image_channels": 5},
            "schedule": {"kind": "scaled_linear", "num_train_timesteps": 1000},
            "prediction": "epsilon",
            "train": {"updates": 2, "batch_size": 4, "label_dropout": 0.5},
            "components": {
                "autoencoder_updates": 2,
                "text_encoder_updates": 2,
                "batch_size": 8,
                "autoencoder_channels": [4, 8],
                **components,
            },
        },
        "guidance": {"updates": 1, "conversion_updates": 1, "batch_size": 4},
        "halving": {"steps": [4, 2, 1], "updates": 1},
    }
    return build(Recipe, tree, "test")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("run")
    work = Workspace(run_dir, recipe())
    data = shard(work).value
    samples = encode_here(work, data, components(work, data=data).value)
    teacher_plan = plan_teacher(recipe())
    assert teacher_plan is not None
    teacher = train_here(run_dir, recipe(), teacher_plan, samples, None, None)
    train_here(run_dir, recipe(), plan_rounds(recipe())[0], samples, teacher, None)
    return run_dir


def test_components_and_bundles_are_those_of_an_inpainting_pipeline(run: Path) -> None:
    index = json.loads((run / "components" / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionInpaintPipeline"
    for bundle in (TEACHER, STUDENT):
        assert read_manifest(run / bundle).pipeline == "StableDiffusionInpaintPipeline"
    config = json.loads((run / TEACHER / "unet" / "config.json").read_text())
    assert (config["in_channels"], config["out_channels"]) == (9, 4)


def test_a_training_image_has_several_masks_and_a_held_out_one_has_one(run: Path) -> None:
    train, heldout = (LatentShards(run / "latents", split) for split in ("train", "heldout"))
    assert (len(train), len(heldout)) == (4 * 40, 20)
    batch = train.read(np.arange(160))
    x = batch.x.unflatten(0, (40, 4))
    assert torch.equal(x, x[:, :1].expand_as(x))
    text = batch.condition["text"].unflatten(0, (40, 4))
    assert torch.equal(text, text[:, :1].expand_as(text))
    image = batch.condition["image"].flatten(1)
    assert len(torch.unique(image[:, : image.shape[1] // 5], dim=0)) > 100  # masks on an 8x8 grid

    assert {row.tuples for row in plan_run(Workspace(run, recipe())) if row.tuples} == {160}


def test_a_number_of_masks_is_refused_without_an_inpainting_teacher() -> None:
    assert recipe().samples_per_image == 4
    tree = recipe().model_dump(mode="json", exclude_unset=True)
    del tree["teacher"]["network"]["image_channels"]
    tree["data"]["masks_per_image"] = 2
    with pytest.raises(ConfigError, match=r"data.masks_per_image: 2 has no effect"):
        build(Recipe, tree, "test")


def test_training_drops_prompts_and_never_what_lies_beside_the_noise(run: Path) -> None:
    manifest = read_manifest(run / TEACHER)
    samples = LatentShards(run / "latents", "train")
    batch = samples.read(np.arange(40))
    plan = plan_teacher(recipe())
    assert plan is not None
    method = method_of(plan, family_of(manifest, samples.null))
    assert isinstance(method, Denoising)
    draws = method.draw(schedule_of(manifest.schedule), batch, RowRandom((0, 0), 0, 40))
    assert torch.equal(draws.condition["image"], batch.condition["image"])
    assert samples.null is not None
    dropped = (draws.condition["text"] == samples.null["text"]).flatten(1).all(dim=1)
    assert 5 < int(dropped.sum()) < 35


def test_an_evaluation_hides_the_same_part_of_held_out_pictures_from_every_network(
    run: Path,
) -> None:
    data = run / "data"
    spec = {"run_dir": str(run), "num_samples": NUM, "data": "data", "components": "components"}
    serve = open_worker(spec)
    cell = {"role": "student", "digest": "a" * 64, "bundle": STUDENT}
    cell |= {"sampler": "ddim", "steps": 2, "w": 1.0, "seed": 7, "round": 0}
    whole = serve({"key": "k", "part": "whole.npy", "first": 0, "count": NUM, "cell": cell})
    parts = [
        serve({"key": "k", "part": f"{first}.npy", "first": first, "count": 10, "cell": cell})
        for first in (0, 10)
    ]
    drawn = np.load(run / whole["part"])
    halves = np.concatenate([np.load(run / part["part"]) for part in parts])
    np.testing.assert_allclose(drawn, halves, atol=1e-5)
    asked = choose_conditions(data, NUM)
    pictures, hidden = condition_images(data, asked, 0, NUM), masked_images(data, asked, 7)
    shares = (hidden != pictures).any(-1).mean((1, 2))
    assert ((shares > 0.01) & (shares < 0.6)).all()
    assert (hidden[hidden != pictures] == 0).all()
    assert (masked_images(data, asked, 8) != hidden).any()


def test_it_is_not_sampled_without_a_picture(run: Path) -> None:
    opened = BundleSampler(run / STUDENT, components=run / "components")
    with pytest.raises(BundleError, match="stepfold inpaint"):
        opened.sample(steps=2, w=1.0, conditions=("red",), seed=0)


def test_a_network_of_other_latents_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"image_channels 5.*use 9"):
        recipe(latent_channels=8)
