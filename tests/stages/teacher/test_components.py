"""Stage `components`: a stock pipeline directory, reproducible."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from pipeline.config import Recipe
from pipeline.data.shards.reader import SampleShards
from pipeline.documents import build
from pipeline.errors import ConfigError
from pipeline.ledger import Artifact
from pipeline.models.stock.stock_pipeline import STOCK
from stages.data.shard import shard
from stages.teacher.components import components, components_key
from stages.workspace import StageResult, Workspace
from tests.support.told import Told

WIDTH = 16


def recipe(**teacher: Any) -> Recipe:
    tree: dict[str, Any] = {
        "run": {"name": "test"},
        "data": {"source": "captioned_digits", "count": 40, "holdout_count": 10},
        "teacher": {
            "network": {"family": "unet", "text_channels": WIDTH},
            "schedule": {"kind": "scaled_linear", "num_train_timesteps": 1000},
            "prediction": "epsilon",
            "train": {"updates": 1},
            "components": {
                "autoencoder_updates": 2,
                "text_encoder_updates": 3,
                "batch_size": 8,
                "autoencoder_channels": [4, 8],
            },
            **teacher,
        },
        "guidance": {"updates": 1, "conversion_updates": 1},
        "halving": {"steps": [4, 2, 1], "updates": 1},
    }
    return build(Recipe, tree, "test")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Artifact]:
    work = Workspace(tmp_path_factory.mktemp("run"), recipe())
    return work.run_dir, components(work, data=shard(work).value).value


def test_another_run_makes_the_same_bytes(made: tuple[Path, Artifact], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    work = Workspace(tmp_path, recipe())
    data, observer = shard(work).value, Told(told)
    again = components(work, data=data, observer=observer).value
    assert again == made[1]
    assert components(work, data=data, observer=observer) == StageResult(again, reused=True)
    assert observer.worked == 1
    assert told == sorted(set(told))
    assert len(told) > 2
    parts = recipe().teacher.components
    assert parts is not None
    total = parts.text_encoder_updates + parts.autoencoder_updates
    assert {each[1] for each in told} == {total}
    assert told[-1] == (total, total)
    assert again.kind == again.path == "components"
    assert set(again.details) == {
        *("pipeline", "reconstruction_rms", "explained_variance", "class_accuracy"),
    }


def test_stock_diffusers_draws_with_it_once_a_network_is_there(
    made: tuple[Path, Artifact], tmp_path: Path
) -> None:
    run_dir, artifact = made
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    folder = run_dir / artifact.path
    opened = StableDiffusionPipeline.from_pretrained(
        folder, unet=unet, local_files_only=True, use_safetensors=True
    )
    assert isinstance(opened.scheduler, DDIMScheduler)
    opened.set_progress_bar_config(disable=True)
    images = opened("red 3 on white", num_inference_steps=2, output_type="np").images
    assert images.shape == (1, 16, 16, 3)
    opened.save_pretrained(tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    saved = json.loads((tmp_path / "model_index.json").read_text())
    assert saved.pop("_name_or_path") == str(folder)
    assert saved == index


def test_it_is_data_only_and_names_no_place_on_this_machine(made: tuple[Path, Artifact]) -> None:
    run_dir, artifact = made
    folder = run_dir / artifact.path
    assert {Path(name).suffix for name in artifact.files} == {".json", ".safetensors", ".txt"}
    for path in folder.rglob("*.json"):
        assert "_name_or_path" not in path.read_text()
        assert str(run_dir) not in path.read_text()


def test_images_and_captions_pass_through_it(made: tuple[Path, Artifact]) -> None:
    run_dir, artifact = made
    stock = STOCK.get(artifact.details["pipeline"])(run_dir / artifact.path)
    samples = SampleShards(run_dir / "data", "heldout")
    latents = stock.autoencoder.encode(samples.read(np.arange(3)).x).latent_dist.mean
    assert latents.shape == (3, 4, 8, 8)
    assert stock.encode(["blue 7 on pink"])["text"].shape == (1, 16, WIDTH)


def test_the_fingerprint_holds_what_determines_the_bytes_and_nothing_else(
    made: tuple[Path, Artifact],
) -> None:
    data = shard(Workspace(made[0], recipe())).value
    asked = recipe().teacher.components
    assert asked is not None
    longer = asked.model_copy(update={"text_encoder_updates": 4}).model_dump(mode="json")
    wide = {"family": "unet", "text_channels": 2 * WIDTH}
    others = [recipe(components=longer), recipe(network=wide), recipe(prediction="v_prediction")]
    assert len({components_key(other, data) for other in [recipe(), *others]}) == 4
    same = recipe(train={"updates": 9})
    assert components_key(same, data) == components_key(recipe(), data)


@pytest.mark.parametrize(
    ("teacher", "complaint"),
    [
        ({"network": {"family": "mmdit", "kind": "flux"}}, r"teacher\.network: .*mmdit"),
        (
            {"network": {"family": "unet", "text_channels": 16, "pooled_channels": 16}},
            "remove pooled_channels",
        ),
        ({"schedule": {}, "prediction": "v_prediction"}, r"teacher\.schedule\.kind: cosine"),
    ],
)
def test_unsupported_components_are_refused_before_anything_is_written(
    made: tuple[Path, Artifact], teacher: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    data = made[1]  # any artifact will do: it is not looked at
    with pytest.raises(ConfigError, match=complaint):
        components(Workspace(tmp_path, recipe(**teacher)), data=data)
    assert list(tmp_path.iterdir()) == []
