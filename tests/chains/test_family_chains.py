"""Every kind of stock pipeline is adopted, distilled and exported as a stock pipeline.

`make test` has one kind of each sort, `make nightly` the others.
"""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.bundle import read_manifest
from pipeline.data.latents import LatentShards, read_null
from pipeline.data.records import RecordShards
from pipeline.data.shards.reader import SampleShards
from pipeline.diffusion.ddim import sample
from pipeline.diffusion.prediction import Prediction
from pipeline.diffusion.schedule import NoiseLevel
from pipeline.errors import ConfigError
from pipeline.models.assemble import load_denoiser, load_module
from pipeline.models.denoiser import Denoiser
from pipeline.models.directory.pipeline_directory import read_pipeline
from pipeline.models.stock.stock_pipeline import STOCK
from pipeline.randomness import RowRandom
from pipeline.tensors import Condition
from pipeline.tracking import read_metrics
from stages.data.encode import encode_key
from stages.data.shard import shard
from stages.export.export import export_student
from stages.export.parity import TOLERANCE
from stages.teacher.adopt import adopt_components
from stages.workspace import Workspace
from tests.support.family_chain import BAKED, CAPTIONS, COUNT, UPDATES, Chain, resolve, run_chain
from tests.support.tiny_pipelines import KINDS

pytestmark = pytest.mark.slow

BAKING = ("sd3", "dit")
DAILY = ("sd", "flux", "dit")  # noise predicted, flow predicted, of classes with w baked in
KIND = {
    kind: pytest.param(kind, marks=[] if kind in DAILY else [pytest.mark.nightly]) for kind in KINDS
}
TOLD = [KIND[kind] for kind in KINDS if kind not in BAKING]
READING = [KIND[kind] for kind in KINDS if kind != "dit"]
HALF = 2.0**-11  # rounding of a half-precision number, relative

Make = Callable[[str], Chain]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Make:
    found: dict[str, Chain] = {}

    def make(kind: str) -> Chain:
        if kind not in found:
            found[kind] = run_chain(kind, tmp_path_factory.mktemp(kind))
        return found[kind]

    return make


def weights(folder: Path) -> dict[str, Tensor]:
    return load_module(folder, read_manifest(folder)).state_dict()


@pytest.mark.parametrize("kind", KIND.values())
def test_both_rounds_train_with_finite_losses_and_move_the_student(made: Make, kind: str) -> None:
    chain = made(kind)
    info = read_pipeline(Path(str(chain.recipe.teacher.pipeline)))
    converted = 1 if info.prediction == "epsilon" else 0
    for name, updates in (("00-guidance", UPDATES + converted), ("01-4-to-2", UPDATES)):
        (last,) = read_metrics(chain.run_dir / "rounds" / name / "metrics.jsonl")
        assert last["update"] == updates
        assert math.isfinite(last["train/loss"])
        assert last["train/grad_norm"] > 0
    teacher, first, second = (weights(chain.at(bundle)) for bundle in chain.bundles)
    for before, after in ((teacher, first), (first, second)):
        assert before.keys() <= after.keys()
        moved = {name for name, tensor in before.items() if not tensor.equal(after[name])}
        # positions are tables that are not trained; keys' biases have no gradient but rounding
        assert len(moved) > 0.9 * len(before)
        assert all(tensor.isfinite().all() for tensor in after.values())


@pytest.mark.parametrize("kind", KIND.values())
def test_manifests_say_what_the_students_are(made: Make, kind: str) -> None:
    chain = made(kind)
    info = read_pipeline(Path(str(chain.recipe.teacher.pipeline)))
    teacher, first, second = (read_manifest(chain.at(bundle)) for bundle in chain.bundles)
    assert teacher.prediction_type == info.prediction
    assert (teacher.role, teacher.w, teacher.baked_w) == ("teacher", None, None)
    velocity = {"sd3": "flow_prediction", "flux": "flow_prediction"}.get(kind, "v_prediction")
    for manifest, steps in ((first, None), (second, (2,))):
        assert manifest.role == "student"
        assert manifest.prediction_type == velocity
        assert manifest.pipeline == info.pipeline
        assert manifest.folder == info.network_folder
        assert manifest.latent_shape == info.latent_shape
        assert manifest.steps == steps
        assert manifest.w == chain.recipe.guidance.w
        assert manifest.baked_w == (BAKED if kind in BAKING else None)
    assert second.lineage.parent == chain.bundles[1].digest
    assert (second.jump, second.lineage.round) == (2, 1)


@pytest.mark.parametrize("kind", TOLD)
def test_a_few_updates_make_the_output_depend_on_w(made: Make, kind: str) -> None:
    chain = made(kind)
    batch = LatentShards(chain.at(chain.samples), "train").read(np.arange(2))
    _, student = load_denoiser(chain.at(chain.bundles[2]))
    level = student.schedule.at(torch.full((2,), 0.5, dtype=torch.float64))
    law = chain.recipe.guidance.w
    with torch.no_grad():
        least, most = (
            student.velocity(
                batch.x, level, batch.condition, torch.full((2,), w, dtype=torch.float64)
            )
            for w in (law.min, law.max)
        )
    assert (least - most).abs().max() > 0


@pytest.mark.parametrize("kind", READING)
def test_every_caption_is_kept_once_after_the_null(made: Make, kind: str) -> None:
    chain = made(kind)
    folder = chain.at(chain.samples)
    samples, images = LatentShards(folder, "train"), SampleShards(chain.at(chain.images), "train")
    rows = np.arange(len(samples))
    assert len(samples) + len(LatentShards(folder, "heldout")) == COUNT
    assert samples.info.num_conditions == 1 + len(CAPTIONS)
    table = RecordShards([folder / name for name in samples.info.conditions])
    stored = table.read(np.arange(len(table)))
    assert len(table) == samples.info.num_conditions
    assert len(stored["text"].flatten(1).unique(dim=0)) == len(table)
    stock = STOCK.get(samples.info.pipeline)(chain.at(chain.components))
    said = stock.encode([caption.text for caption in images.captions(rows)])
    found = samples.conditions(rows)
    for name, null in read_null(folder / "null.safetensors").items():
        assert torch.equal(stored[name][0], null[0].half())
        torch.testing.assert_close(found[name], said[name], rtol=1.1 * HALF, atol=1e-5)
    teacher_null = read_null(chain.at(chain.bundles[0]) / "null.safetensors")
    assert teacher_null.keys() == said.keys()


def test_samples_of_classes_keep_them(made: Make) -> None:
    chain = made("dit")
    samples = LatentShards(chain.at(chain.samples), "train")
    images = SampleShards(chain.at(chain.images), "train")
    rows = np.arange(len(samples))
    assert samples.null is None
    told = images.read(rows).condition["label"]
    assert torch.equal(samples.conditions(rows)["label"], told)
    assert sorted(told.tolist()) == list(range(10))


@pytest.mark.parametrize("kind", KIND.values())
def test_stock_diffusers_draws_what_the_student_of_two_steps_draws(made: Make, kind: str) -> None:
    chain = made(kind)
    done = export_student(
        Workspace(chain.run_dir, chain.recipe), chain.bundles[2], chain.components
    ).value
    assert (done.path, done.details["steps"]) == ("pipelines/2-steps", 2)
    assert done.details["largest_difference"] <= TOLERANCE
    index = json.loads((chain.at(done) / "model_index.json").read_text())
    assert index["_class_name"] == read_manifest(chain.at(chain.bundles[0])).pipeline


@pytest.mark.parametrize("kind", [KIND["sdxl"], KIND["flux"]])
def test_a_teacher_is_distilled_on_what_it_draws_for_prompts(kind: str, tmp_path: Path) -> None:
    chain = run_chain(kind, tmp_path, of_prompts=True)
    assert SampleShards(chain.at(chain.images), "train").info.encoding is None
    pipeline = Path(str(chain.recipe.teacher.pipeline))
    _, teacher = load_denoiser(chain.at(chain.bundles[0]))
    stock = STOCK.get(read_pipeline(pipeline).pipeline)(pipeline)
    for number, split in enumerate(("train", "heldout")):
        drawn = LatentShards(chain.at(chain.samples), split)
        said = SampleShards(chain.at(chain.images), split)
        rows = np.arange(len(said))
        batch = drawn.read(rows)
        texts = [caption.text for caption in said.captions(rows)]
        condition = stock.condition(read_manifest(chain.at(chain.bundles[0])), texts)
        assert condition.keys() == batch.condition.keys()
        noise = RowRandom((0, 1, number), 0, len(rows)).normal("z_1", *batch.x.shape[1:])
        w = torch.full((len(rows),), BAKED, dtype=torch.float64)
        with torch.no_grad():
            expected = sample(
                noise, teacher.schedule, 3, partial(_asked, teacher, condition=condition, w=w)
            )
        torch.testing.assert_close(batch.x, expected, rtol=1e-4, atol=1e-4)
    done = export_student(
        Workspace(chain.run_dir, chain.recipe), chain.bundles[2], chain.components
    ).value
    assert done.details["largest_difference"] <= TOLERANCE


def _asked(
    teacher: Denoiser, z_t: Tensor, level: NoiseLevel, condition: Condition, w: Tensor
) -> Prediction:
    return teacher(z_t, level, condition, w)


def test_other_ways_to_draw_are_other_data(tmp_path: Path) -> None:
    recipe = resolve("sd", tmp_path, of_prompts=True)
    work = Workspace(tmp_path / "run", recipe)
    images, parts = shard(work).value, adopt_components(work).value
    keys = {encode_key(recipe, images, parts)}
    for change in ({"steps": 4}, {"w": 0}):
        data = recipe.data.model_copy(update=change)
        keys.add(encode_key(recipe.model_copy(update={"data": data}), images, parts))
    other = recipe.run.model_copy(update={"seed": 1})
    keys.add(encode_key(recipe.model_copy(update={"run": other}), images, parts))
    assert len(keys) == 4


def test_prompts_are_not_enough_for_a_teacher_that_draws_into_images(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.source: an inpainting teacher"):
        resolve("sd-inpaint", tmp_path, of_prompts=True)


@pytest.mark.parametrize("kind", BAKING)
def test_a_range_of_w_is_refused_where_w_cannot_go(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"guidance\.w: .*cannot pass w to its network"):
        resolve(kind, tmp_path, w={"min": 1, "max": 7})
