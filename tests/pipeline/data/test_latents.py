"""Encoded data: rows are read back as written, and damage is reported."""

import json

import numpy as np
import pytest
import torch

from pipeline.config import DigitsData
from pipeline.data.latents import (
    LatentShards,
    LatentsInfo,
    open_samples,
    read_data_info,
    read_latents_info,
    write_latents_info,
    write_null,
)
from pipeline.data.records import write_records
from pipeline.data.shards.dataset_info import DatasetInfo, ShardInfo, SplitInfo
from pipeline.data.shards.reader import SampleShards
from pipeline.data.shards.writer import write_dataset
from pipeline.errors import DataError
from tests.pipeline.data.shards.test_reader import pictures

SHAPE = (4, 2, 3)
CAPTIONS = 5


def write_latents(folder, *, sized=True, caption=None):
    """Seven samples in two shards, five conditions in two; returns what was written."""
    torch.manual_seed(0)
    samples = {
        "x": torch.randn(7, *SHAPE),
        "caption": torch.tensor([1, 2, 1, 4, 3, 3, 1] if caption is None else caption),
    }
    if sized:
        samples["time_ids"] = torch.randn(7, 6)
    conditions = {
        "text": torch.randn(CAPTIONS, 3, 8).half(),
        "pooled": torch.randn(CAPTIONS, 6).half(),
    }
    for name, table, sizes in (("train", samples, (4, 3)), ("conditions", conditions, (3, 2))):
        (folder / name).mkdir(parents=True)
        parts = {key: tensor.split(sizes) for key, tensor in table.items()}
        for number in range(len(sizes)):
            chunk = {key: part[number] for key, part in parts.items()}
            write_records(folder / f"{name}/shard-{number:05d}.tar", [chunk])
    shards = (
        ShardInfo(name="train/shard-00000.tar", first=0, count=4),
        ShardInfo(name="train/shard-00001.tar", first=4, count=3),
    )
    info = LatentsInfo(
        pipeline="StableDiffusionPipeline",
        latent_shape=SHAPE,
        num_conditions=CAPTIONS,
        conditions=("conditions/shard-00000.tar", "conditions/shard-00001.tar"),
        splits={"train": SplitInfo(count=7, shards=shards)},
    )
    null = {"text": torch.randn(1, 3, 8), "pooled": torch.randn(1, 6)}
    write_latents_info(folder, info)
    write_null(folder / "null.safetensors", null)
    return samples, conditions, null


@pytest.mark.parametrize("sized", [False, True])
def test_every_row_comes_back_with_what_its_caption_says(tmp_path, sized):
    samples, conditions, null = write_latents(tmp_path, sized=sized)
    shards = LatentShards(tmp_path, "train")
    rows = np.array([6, 0, 0, 3, 5])
    batch = shards.read(rows)
    captions = samples["caption"][rows]
    expected = {key: table[captions].float() for key, table in conditions.items()}
    if sized:
        expected["time_ids"] = samples["time_ids"][rows]
    assert len(shards) == 7
    assert torch.equal(batch.x, samples["x"][rows])
    assert batch.condition.keys() == expected.keys() == shards.conditions(rows).keys()
    for key, tensor in expected.items():
        assert batch.condition[key].dtype == torch.float32
        assert torch.equal(batch.condition[key], tensor)
        assert torch.equal(shards.conditions(rows)[key], tensor)
    assert {key: value.tolist() for key, value in shards.null.items()} == {
        key: value.tolist() for key, value in null.items()
    }
    shards.null.clear()  # a copy
    assert set(shards.null) == {"text", "pooled"}


def test_the_kind_of_data_is_found_by_its_table_of_contents(tmp_path):
    write_latents(tmp_path / "latents")
    write_dataset(tmp_path / "data", pictures(), DigitsData(source="digits"))
    assert isinstance(open_samples(tmp_path / "latents", "train"), LatentShards)
    assert isinstance(open_samples(tmp_path / "data", "heldout"), SampleShards)
    latents, data = read_data_info(tmp_path / "latents"), read_data_info(tmp_path / "data")
    assert isinstance(latents, LatentsInfo)
    assert (latents.num_classes, latents.latent_shape) == (0, SHAPE)
    assert isinstance(data, DatasetInfo)
    with pytest.raises(DataError, match="is not a sharded data set"):
        read_data_info(tmp_path)


@pytest.mark.parametrize("rows", [[-1], [0, 7]])
def test_rows_that_do_not_exist_are_refused(tmp_path, rows):
    write_latents(tmp_path)
    shards = LatentShards(tmp_path, "train")
    for read in (shards.read, shards.conditions):
        with pytest.raises(IndexError, match=r"0 \.\. 6"):
            read(np.array(rows))


@pytest.mark.parametrize("number", [-1, CAPTIONS])
def test_a_caption_that_is_not_there_is_an_error(tmp_path, number):
    write_latents(tmp_path, caption=[0, 1, 2, number, 1, 1, 1])
    shards = LatentShards(tmp_path, "train")
    assert len(shards.read(np.arange(3)).x) == 3
    with pytest.raises(DataError, match=rf"train: caption .*{number}.*, there are 5"):
        shards.read(np.arange(7))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"num_conditions": 6}, "conditions holds 5 rows, latents.json has 6"),
        ({"latent_shape": [4, 3, 2]}, "train has columns"),
        ({"conditions": ["conditions/shard-00000.tar"]}, "conditions holds 3 rows"),
        ({"conditions": []}, "no target shards"),
        ({"num_conditions": 0}, "num_classes is 0 and num_conditions is 0"),
        ({"strange": 1}, "latents.json is damaged: strange"),
    ],
)
def test_a_table_of_contents_that_does_not_fit_is_an_error(tmp_path, change, complaint):
    write_latents(tmp_path)
    path = tmp_path / "latents.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=complaint):
        LatentShards(tmp_path, "train")


@pytest.mark.parametrize(
    "name", ["train/shard-00001.tar", "conditions/shard-00000.tar", "null.safetensors"]
)
def test_a_missing_or_cut_file_is_named(tmp_path, name):
    write_latents(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=name):
        LatentShards(tmp_path, "train")
    path.unlink()
    with pytest.raises(DataError, match=name):
        LatentShards(tmp_path, "train")


def test_a_shard_short_of_rows_is_an_error(tmp_path):
    samples, _, _ = write_latents(tmp_path)
    short = {key: tensor[4:6] for key, tensor in samples.items()}
    write_records(tmp_path / "train/shard-00001.tar", [short])
    with pytest.raises(DataError, match=r"train holds 6 rows, latents\.json has 7"):
        LatentShards(tmp_path, "train")


def test_a_folder_that_is_none_and_a_split_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"latents\.json cannot be read"):
        read_latents_info(tmp_path)
    write_latents(tmp_path)
    with pytest.raises(DataError, match=r"'heldout'.*train"):
        LatentShards(tmp_path, "heldout")
