"""Stage `encode`: latents and embeddings equal the pipeline's own and are reproducible."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config import Recipe
from pipeline.data.latents import LatentShards, read_null
from pipeline.data.records import RecordShards
from pipeline.data.shards.reader import SampleShards
from pipeline.documents import build
from pipeline.errors import DivergenceError
from pipeline.ledger import Artifact, Ledger
from pipeline.models.stock.stock_pipeline import STOCK
from stages.data.encode import encode, encode_key
from stages.data.encode_worker import EncodeWorker
from stages.data.shard import shard
from stages.workspace import Workspace
from tests.support.recipes import INLINE
from tests.support.small_run import flip
from tests.support.tiny_pipelines import TOKENS, tiny_pipeline
from tests.support.told import Told

CLASSES = {"sd": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
HALF = 2.0**-11  # rounding of a half-precision number, relative


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    tree: dict[str, Any] = {
        "run": {"name": "test"},
        "data": {"source": "captioned_digits", "count": 30, "holdout_count": 10, "shard_size": 20},
        "teacher": {
            "network": {"family": "unet", "text_channels": 32},
            "schedule": {"kind": "scaled_linear", "num_train_timesteps": 1000},
            "prediction": "epsilon",
            "train": {"updates": 1},
            "components": {"autoencoder_updates": 1, "text_encoder_updates": 1},
        },
        "guidance": {"updates": 1, "conversion_updates": 1},
        "halving": {"steps": [4, 2, 1], "updates": 1},
    }
    return build(Recipe, tree, "test")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> Path:
    run_dir = tmp_path_factory.mktemp("data")
    return run_dir / shard(Workspace(run_dir, recipe)).value.path


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pipelines")
    return {kind: tiny_pipeline(kind, root / kind) for kind in CLASSES}


def worker(kind: str, data: Path, pipelines: dict[str, Path], scratch: Path) -> EncodeWorker:
    scratch.mkdir(exist_ok=True)
    places = {"data": data, "components": pipelines[kind], "scratch": scratch}
    spec = {name: str(place) for name, place in places.items()}
    return EncodeWorker({**spec, "pipeline": CLASSES[kind]})


def images_job() -> dict[str, Any]:
    rows = {"first": 0, "count": 20, "copies": 1, "rows": list(range(1, 21))}
    return {"kind": "images", "part": "train/shard-00000.tar", "split": "train", **rows}


def captions_job(captions: list[str | None]) -> dict[str, Any]:
    return {"kind": "captions", "part": "conditions/shard-00000.tar", "captions": captions}


@pytest.mark.parametrize("kind", CLASSES)
def test_images_become_the_latents_and_sizes_that_the_pipeline_computes(
    kind: str, data: Path, pipelines: dict[str, Path], tmp_path: Path
) -> None:
    answer = worker(kind, data, pipelines, tmp_path).serve(images_job())
    assert answer == {"latent_shape": [4, 8, 8]}
    rows = np.arange(20)
    found = RecordShards([tmp_path / "train/shard-00000.tar"]).read(rows)
    images = SampleShards(data, "train").read(rows).x
    stock = STOCK.get(CLASSES[kind])(pipelines[kind])
    assert torch.equal(found["x"], stock.to_latents(images))
    assert found["caption"].tolist() == list(range(1, 21))
    if kind == "sdxl":
        assert found["time_ids"].tolist() == [[16, 16, 0, 0, 16, 16]] * 20
    else:
        assert "time_ids" not in found


@pytest.mark.parametrize("kind", CLASSES)
def test_captions_become_the_pipelines_embeddings_after_the_null(
    kind: str, data: Path, pipelines: dict[str, Path], tmp_path: Path
) -> None:
    captions = [f"red of {number}" for number in range(70)]
    answer = worker(kind, data, pipelines, tmp_path).serve(captions_job([None, *captions]))
    assert answer == {"latent_shape": None}
    table = RecordShards([tmp_path / "conditions/shard-00000.tar"])
    found = table.read(np.arange(71))
    stock = STOCK.get(CLASSES[kind])(pipelines[kind])
    null, said = stock.null(), stock.encode(captions)
    assert read_null(tmp_path / "null.safetensors").keys() == null.keys() == found.keys()
    for name, kept in read_null(tmp_path / "null.safetensors").items():
        assert torch.equal(kept, null[name])
        assert found[name].dtype == torch.float16
        assert torch.equal(found[name][0], null[name][0].half())
        # batches of other sizes round float32 otherwise, by far less than half precision does
        torch.testing.assert_close(found[name][1:].float(), said[name], rtol=1.1 * HALF, atol=1e-5)


def test_a_part_that_is_whole_is_kept_and_a_damaged_one_is_made_again(
    data: Path, pipelines: dict[str, Path], tmp_path: Path
) -> None:
    def serve(job: dict[str, Any]) -> None:
        worker("sd", data, pipelines, tmp_path).serve(job)

    tar, null = tmp_path / "train/shard-00000.tar", tmp_path / "null.safetensors"
    serve(images_job())
    first, made = tar.read_bytes(), tar.stat().st_mtime_ns
    serve(images_job())
    assert tar.stat().st_mtime_ns == made
    flip(tar, len(first) // 2)
    serve(images_job())
    assert tar.read_bytes() == first
    captions = captions_job([None, "red"])
    serve(captions)
    content = null.read_bytes()
    null.write_bytes(content[:-1])
    serve(captions)
    assert null.read_bytes() == content


def test_latents_and_embeddings_that_are_not_finite_are_errors_that_name_them(
    data: Path, pipelines: dict[str, Path], tmp_path: Path
) -> None:
    serving = worker("sd", data, pipelines, tmp_path)
    with torch.no_grad():
        serving.stock.autoencoder.quant_conv.bias.fill_(float("nan"))
        serving.stock.encoders.text_encoder.final_layer_norm.bias.fill_(1e6)  # too large for half
    with pytest.raises(DivergenceError, match=r"latents of samples 0 to 19 of train/shard-00000"):
        serving.serve(images_job())
    with pytest.raises(DivergenceError, match="text of 'red' "):
        serving.serve(captions_job(["red"]))


def publish_pipeline(run_dir: Path, kind: str) -> Artifact:
    def write(folder: Path) -> dict[str, Any]:
        tiny_pipeline(kind, folder)
        return {"pipeline": CLASSES[kind]}

    return Ledger(run_dir).publish("components", "c", "components", write)


def test_an_interrupted_stage_keeps_its_parts_and_ends_with_the_same_bytes(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    made: list[Artifact] = []
    for name in ("whole", "resumed"):
        run_dir = tmp_path / name
        images, parts = shard(Workspace(run_dir, recipe)).value, publish_pipeline(run_dir, "sdxl")
        if name == "resumed":  # as a stage leaves it that was killed after one shard
            key = encode_key(recipe, images, parts)
            scratch = run_dir / ".latents.tmp" / key[:32]
            scratch.mkdir(parents=True)
            (run_dir / ".latents.tmp" / "of another key").mkdir()
            pipelines = {"sdxl": run_dir / parts.path}
            job = images_job() | {"rows": [9] * 20}  # only a part that is kept shows these rows
            worker("sdxl", run_dir / images.path, pipelines, scratch).serve(job)
        seen.clear()
        made.append(
            encode(
                Workspace(run_dir, recipe, INLINE),
                data=images,
                components=parts,
                observer=Told(seen),
            ).value
        )
        assert seen == [(done, 4) for done in range(5)]
        assert not (run_dir / ".latents.tmp").exists()
    whole, resumed = (tmp_path / name / "latents" for name in ("whole", "resumed"))
    differing = {name for name in made[0].files if made[0].files[name] != made[1].files.get(name)}
    assert differing == {"train/shard-00000.tar", "train/shard-00000.index.json"}
    assert LatentShards(resumed, "train").conditions(np.arange(20))["text"].std(0).max() == 0

    samples = SampleShards(tmp_path / "whole/data", "heldout")
    encoded = LatentShards(whole, "heldout")
    stock = STOCK.get(CLASSES["sdxl"])(tmp_path / "whole/components")
    rows = np.arange(10)[::-1].copy()
    batch = encoded.read(rows)
    said = stock.encode([caption.text for caption in samples.captions(rows)])
    torch.testing.assert_close(
        batch.x, stock.to_latents(samples.read(rows).x), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(batch.condition["text"], said["text"], rtol=1.1 * HALF, atol=1e-5)
    (note,) = made[0].details["notes"]
    assert f" have more than the {TOKENS} tokens that the text encoder reads (first: '" in note
    assert made[0].details["latent_shape"] == [4, 8, 8]
    assert made[0].details["num_conditions"] == encoded.info.num_conditions <= 41
    again = encode(
        Workspace(tmp_path / "whole", recipe),
        data=shard(Workspace(tmp_path / "whole", recipe)).value,
        components=publish_pipeline(tmp_path / "whole", "sdxl"),
        observer=Told(seen),
    )
    assert (again.value, again.reused) == (made[0], True)
