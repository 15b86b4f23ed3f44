"""Stage `shard`: idempotent, and invalid input leaves nothing behind."""

import json

import numpy as np
import pytest
from PIL import Image

from pipeline.config import Recipe
from pipeline.data.shards.reader import SampleShards
from pipeline.data.sources.demo.captioned_digits import read_attributes
from pipeline.documents import build
from pipeline.errors import BundleError, ConfigError, DataError
from pipeline.ledger import Ledger
from stages.data.shard import shard, shard_key
from stages.plan.plan import plan_notes, plan_run
from stages.teacher.adopt import pipeline_manifest
from stages.workspace import StageResult, Workspace, data_notes
from tests.support.recipes import adopting_recipe
from tests.support.tiny_pipelines import edit, tiny_pipeline

ROUNDS = {
    "guidance": {"updates": 1},
    "halving": {"steps": [4, 2, 1], "updates": 1},
}
NETWORK = {"family": "gaussian", "means": [[-1.0, 0.5], [1.0, 0.25]], "std": 0.4}
TEACHER = {"network": NETWORK, "schedule": {"num_train_timesteps": 4}, "reference_steps": 4}
EVALUATION = {"baseline_steps": [1, 2]}


def gaussian_recipe(**changes):
    tree = {
        "run": {"name": "test", "seed": 0},
        "data": {"source": "gaussian", "num_samples": 40, "shard_size": 8},
        "teacher": TEACHER,
        "evaluation": EVALUATION,
        **ROUNDS,
        **changes,
    }
    return build(Recipe, tree, "test")


def folder_recipe(folder, **data):
    teacher = {"network": {"family": "unet"}, "train": {"updates": 1}}
    source = {"source": "image_folder", "path": str(folder), "size": 8, "channels": 1, **data}
    return gaussian_recipe(data=source, teacher=teacher, evaluation={})


@pytest.fixture
def images(tmp_path):
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def test_the_second_run_does_no_work_and_another_makes_the_same_bytes(tmp_path):
    work, again = (Workspace(tmp_path / name, gaussian_recipe()) for name in ("run", "other"))
    made = shard(work)
    first = made.value
    assert not made.reused
    before = {path: path.stat().st_mtime_ns for path in work.run_dir.rglob("*")}
    assert shard(work) == StageResult(first, reused=True)
    assert {path: path.stat().st_mtime_ns for path in work.run_dir.rglob("*")} == before
    assert (first.kind, first.path) == ("data", "data")
    assert first.details == {
        "train": 30,
        "heldout": 10,
        "set_aside": 0,
        "num_classes": 2,
        "latent_shape": [2, 1, 1],
    }
    assert len(SampleShards(work.ledger.locate(first), "train")) == 30
    assert shard(again).value.digest == first.digest
    tar = work.run_dir / "data/train/shard-00000.tar"
    tar.write_bytes(tar.read_bytes()[:-1])
    assert shard(work).value.digest == first.digest  # written again
    assert work.ledger.find(first.fingerprint) == first


def test_the_fingerprint_holds_what_determines_the_bytes_and_nothing_else():
    base = shard_key(gaussian_recipe())
    others = [
        gaussian_recipe(run={"name": "test", "seed": 1}),
        gaussian_recipe(data={"source": "gaussian", "num_samples": 40, "shard_size": 9}),
        gaussian_recipe(teacher={**TEACHER, "network": {**NETWORK, "std": 0.5}}),
    ]
    assert len({base, *map(shard_key, others)}) == 4
    same = gaussian_recipe(run={"name": "other", "seed": 0}, guidance={"updates": 9})
    assert shard_key(same) == base


def test_images_become_shards_and_changed_images_other_shards(tmp_path, images):
    run_dir = tmp_path / "run"
    first = shard(Workspace(run_dir, folder_recipe(images, holdout=0.5))).value
    assert (first.details["train"], first.details["heldout"]) == (6, 6)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(images / "dog" / "0.png")
    second = shard(Workspace(run_dir, folder_recipe(images, holdout=0.5))).value
    assert second.fingerprint != first.fingerprint
    assert second.digest != first.digest


def test_images_of_another_size_are_refused_before_anything_is_written(tmp_path, images):
    with pytest.raises(DataError, match=r"cat/0\.png is 8x8, expected 16x16"):
        shard(Workspace(tmp_path / "run", folder_recipe(images, size=16)))
    assert not (tmp_path / "run").exists()


def test_an_image_that_does_not_decode_leaves_nothing_committed(tmp_path, images):
    path = images / "dog" / "3.png"
    path.write_bytes(path.read_bytes()[:70])
    with pytest.raises(DataError, match=r"dog/3\.png cannot be read"):
        shard(Workspace(tmp_path / "run", folder_recipe(images)))
    assert not list((tmp_path / "run").rglob("*.*"))
    assert Ledger(tmp_path / "run").records() == []


def captioned_recipe(**data):
    teacher = {"network": {"family": "unet", "text_channels": 16}, "bundle": "not looked at"}
    return gaussian_recipe(data=data, teacher=teacher, evaluation={})


def test_captioned_digits_become_shards(tmp_path):
    recipe = captioned_recipe(source="captioned_digits", count=20, holdout_count=10)
    first = shard(Workspace(tmp_path, recipe)).value
    assert first.details == {
        "train": 20,
        "heldout": 10,
        "set_aside": 0,
        "num_classes": 10,
        "latent_shape": [3, 16, 16],
    }
    shards = SampleShards(tmp_path / "data", "heldout")
    rows = np.arange(10)
    said = [read_attributes(caption.text).digit for caption in shards.captions(rows)]
    assert said == shards.conditions(rows)["label"].tolist()
    more = captioned_recipe(source="captioned_digits", count=21, holdout_count=10)
    assert shard_key(more) != shard_key(recipe)


def write_captions(folder, texts):
    folder.mkdir(exist_ok=True)
    rows = []
    for number, text in enumerate(texts):
        Image.fromarray(np.full((20, 10, 3), number, np.uint8)).save(folder / f"{number}.png")
        rows.append(json.dumps({"file_name": f"{number}.png", "text": text}))
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    return folder


def test_captions_become_shards_and_changed_captions_other_shards(tmp_path):
    folder = write_captions(tmp_path / "images", "abcdefgh")
    recipe = captioned_recipe(source="captioned_folder", path=str(folder), size=8)
    first = shard(Workspace(tmp_path / "run", recipe)).value
    assert (first.details["train"], first.details["heldout"]) == (4, 4)
    assert first.details["num_classes"] == 0
    captions = SampleShards(tmp_path / "run/data", "train").captions(np.arange(4))
    assert {caption.text for caption in captions} < set("abcdefgh")
    assert {(caption.original_size, caption.crop) for caption in captions} == {((20, 10), (4, 0))}
    write_captions(folder, "abcdefgx")
    assert shard(Workspace(tmp_path / "run", recipe)).value.fingerprint != first.fingerprint


def test_an_empty_caption_is_refused_before_anything_is_written(tmp_path):
    folder = write_captions(tmp_path / "images", ["a", "b", "", "d", "e"])
    recipe = captioned_recipe(source="captioned_folder", path=str(folder), size=8)
    with pytest.raises(DataError, match="row 3: the caption is empty"):
        shard(Workspace(tmp_path / "run", recipe))
    assert not (tmp_path / "run").exists()


def test_shards_with_captions_are_tars_that_can_be_sharded_again(tmp_path):
    recipe = captioned_recipe(source="captioned_digits", count=20, holdout_count=5)
    shard(Workspace(tmp_path / "digits", recipe))
    place = str(tmp_path / "digits/data/train")
    tars = captioned_recipe(source="captioned_tars", path=place, size=16)
    shard(Workspace(tmp_path / "tars", tars))
    texts = {
        caption.text
        for split, count in (("train", 16), ("heldout", 4))
        for caption in SampleShards(tmp_path / "tars/data", split).captions(np.arange(count))
    }
    shards = SampleShards(tmp_path / "digits/data", "train")
    assert texts == {caption.text for caption in shards.captions(np.arange(20))}


def test_what_a_person_should_know_is_planned_committed_and_shown_again(tmp_path, images):
    layers = np.full((8, 8, 4), 9, np.uint8)
    layers[:4, :, 3] = 0
    Image.fromarray(layers).save(images / "cat" / "0.png")
    for name in ("cat/1.png", "cat/2.png"):
        Image.fromarray(np.full((8, 8), 77, np.uint8)).save(images / name)
    work = Workspace(tmp_path / "run", folder_recipe(images, alpha="grey"))
    copies = (
        "1 of 12 images has the same content as an earlier one (first: cat/2.png); copies are kept "
        "in the same split."
    )
    first = "(first: cat/0.png)"
    assert plan_notes(work, plan_run(work)) == (
        f"1 of 12 images has an alpha channel {first}; transparent pixels are filled with grey "
        "(data.alpha).",
        copies,
    )
    made = shard(work).value
    notes = (
        f"1 of 12 images has transparent pixels {first}, which are filled with grey (data.alpha).",
        copies,
    )
    assert tuple(made.details["notes"]) == data_notes(work.layout) == notes
    assert plan_notes(work, plan_run(work)) == notes
    white = Workspace(tmp_path / "other", folder_recipe(images, alpha="white"))
    assert shard(white).value.digest != made.digest


def named_teacher(folder, names):
    """A stock pipeline of ten classes with names."""
    pipeline = tiny_pipeline("dit", folder / "pipeline")
    table = {str(label): name for label, name in enumerate(names)}
    edit(pipeline / "model_index.json", id2label=table)
    return pipeline


def class_folders(folder, names):
    """Images whose grey level is the place of their class in `names`."""
    for level, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.full((16, 16, 3), 20 * level, np.uint8)
            pixels[0, 0] = number
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


FRUIT = [f"{name}, fruit {name}" for name in "jcihgfedba"]
FIXED = "{min: 2, max: 2, mass_at_min: 0}"


@pytest.mark.parametrize("called", ["by name", "by number"])
def test_classes_get_the_numbers_of_an_imported_teacher(tmp_path, called):
    names = list("jcihgfedba") if called == "by name" else [str(label) for label in range(10)]
    folder = class_folders(tmp_path / "images", names)
    data = f"{{source: image_folder, path: {folder}, size: 16, holdout: 0.5}}"
    recipe = adopting_recipe(tmp_path, named_teacher(tmp_path, FRUIT), data=data, w=FIXED)
    work = Workspace(tmp_path / "run", recipe)
    shard(work)
    shards = SampleShards(work.run_dir / "data", "train")
    assert shards.info.class_names == tuple(names)
    batch = shards.read(np.arange(len(shards)))
    levels = ((batch.x[:, 0, 5, 5] + 1) * 127.5 / 20).round().long()
    assert levels.tolist() == batch.condition["label"].tolist()
    assert pipeline_manifest(recipe).class_names == tuple(FRUIT)
    assert pipeline_manifest(recipe).find_class("fruit c", "--labels") == 1


def test_other_classes_than_an_imported_teachers_are_refused(tmp_path):
    folder = class_folders(tmp_path / "images", "klihgfedba")
    data = f"{{source: image_folder, path: {folder}, size: 16, holdout: 0.5}}"
    recipe = adopting_recipe(tmp_path, named_teacher(tmp_path, FRUIT), data=data, w=FIXED)
    message = r"classes named k, l, but teacher.pipeline .* named 'j, fruit j', 'c, fruit c'; name"
    with pytest.raises(ConfigError, match=message):
        shard(Workspace(tmp_path / "run", recipe))
    assert not (tmp_path / "run" / "data").exists()
    edit(tmp_path / "pipeline" / "model_index.json", id2label={"1": "cat"})
    with pytest.raises(BundleError, match=r"id2label has 1 entries, expected .* 0 to 9; complete"):
        pipeline_manifest(recipe)
