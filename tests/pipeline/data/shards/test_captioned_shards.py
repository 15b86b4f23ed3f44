"""Shards with captions, with or without classes, are read back, also by other tools."""

import json
from dataclasses import replace

import numpy as np
import pytest
import webdataset

from pipeline.config import CaptionedDigitsData, UNetConfig
from pipeline.data.shards.dataset_info import read_info
from pipeline.data.shards.reader import SampleShards
from pipeline.data.shards.tar_index import index_path
from pipeline.data.shards.writer import write_dataset
from pipeline.data.sources.captions import Caption
from pipeline.data.sources.datasets import load_source
from pipeline.data.sources.loaded_source import unlabelled_split
from pipeline.errors import DataError
from tests.pipeline.data.shards.test_reader import CONFIG, NAMES, change, pictures


def caption_of(row):
    return Caption(text=f"picture {row} 🐕", original_size=(40, 50 + row), crop=(0, row))


def captioned(labelled, count=40):
    """The same with captions, and with or without their classes."""
    source = replace(pictures(count=count), caption=caption_of)
    if labelled:
        return source
    splits = unlabelled_split(count, 0.25, 0, "here")
    return replace(source, labels=None, class_names=(), splits=splits)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("cache_bytes", [10**6, 0])
def test_every_row_comes_back_with_its_caption(tmp_path, labelled, cache_bytes):
    source = captioned(labelled)
    info = write_dataset(tmp_path, source, CONFIG)
    assert info == read_info(tmp_path)
    assert (info.captioned, info.num_classes) == (True, len(NAMES) if labelled else 0)
    for split, rows in source.splits.items():
        shards = SampleShards(tmp_path, split, cache_bytes=cache_bytes)
        order = np.random.default_rng(1).integers(0, len(rows), 100)
        batch = shards.read(order)
        assert shards.captions(order) == [caption_of(int(row)) for row in rows[order]]
        expected = np.stack([source.read(row) for row in rows[order]]) / 127.5 - 1
        assert np.abs(batch.x.numpy() - expected).max() < 1e-6
        if labelled:
            assert batch.condition["label"].tolist() == source.labels[rows[order]].tolist()
        else:
            assert batch.condition == shards.conditions(order) == {}


@pytest.mark.parametrize("labelled", [True, False])
def test_plain_webdataset_reads_captions(tmp_path, labelled):
    source = captioned(labelled)
    info = write_dataset(tmp_path, source, CONFIG)
    tars = [str(tmp_path / shard.name) for shard in info.splits["train"].shards]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8"))
    assert len(samples) == info.splits["train"].count
    for sample, row in zip(samples, source.splits["train"].tolist(), strict=True):
        told = {"json", "png"} | ({"cls"} if labelled else set())
        assert {key for key in sample if not key.startswith("__")} == told
        assert sample["json"] == {
            "caption": f"picture {row} 🐕",
            "original_size": [40, 50 + row],
            "crop": [0, row],
        }
        assert np.array_equal(sample["png"][..., 0], source.read(row)[0])


def test_data_without_captions_are_described_without_them(tmp_path):
    info = write_dataset(tmp_path, pictures(), CONFIG)
    assert "captioned" not in json.loads((tmp_path / "dataset.json").read_text())
    assert not info.captioned
    with pytest.raises(DataError, match="data from digits has no captions"):
        SampleShards(tmp_path, "train").captions(np.array([0]))


@pytest.mark.parametrize("content", [b"{", b'{"caption": "", "original_size": [1, 1]}', b"\xff"])
def test_a_damaged_caption_is_named(tmp_path, content):
    write_dataset(tmp_path, captioned(labelled=True), CONFIG)
    tar = tmp_path / "train/shard-00000.tar"
    member = json.loads(index_path(tar).read_text())["members"][4]
    assert member["name"] == "000000001.json"
    damaged = bytearray(tar.read_bytes())
    damaged[member["offset"] : member["offset"] + member["size"]] = content.ljust(member["size"])
    tar.write_bytes(damaged)
    shards = SampleShards(tmp_path, "train")
    shards.captions(np.array([0, 2]))
    with pytest.raises(DataError, match=rf"{tar}, sample 000000001: invalid caption"):
        shards.captions(np.array([0, 1]))


def test_captioned_shards_of_another_kind_are_refused(tmp_path):
    write_dataset(tmp_path, captioned(labelled=True), CONFIG)
    change(tmp_path / "dataset.json", lambda tree: tree.update(captioned=False))
    with pytest.raises(DataError, match=r"expected 7 samples \(14 members\) .* \(21 members\)"):
        SampleShards(tmp_path, "train")


def test_captioned_digits_depend_on_the_seed_alone(tmp_path):
    config = CaptionedDigitsData(
        source="captioned_digits", count=30, holdout_count=10, shard_size=8
    )
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        source = load_source(config, seed, UNetConfig(family="unet"))
        write_dataset(tmp_path / name, source, config)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 2 * (4 + 2) + 1
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
        if file.suffix == ".tar":
            assert (tmp_path / "a" / file).read_bytes() != (tmp_path / "c" / file).read_bytes()


@pytest.mark.parametrize("rows", [[-1], [0, 40]])
def test_rows_that_do_not_exist_are_refused(tmp_path, rows):
    write_dataset(tmp_path, captioned(labelled=False), CONFIG)
    shards = SampleShards(tmp_path, "train")
    for ask in (shards.read, shards.conditions, shards.captions):
        with pytest.raises(IndexError, match=r"not all in 0 \.\. "):
            ask(np.array(rows))
