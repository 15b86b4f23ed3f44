"""Data shards: written once, byte for byte; read by row; damage is named."""

import io
import json

import numpy as np
import pytest
import torch
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.config import DigitsData, GaussianConfig, GaussianData, UNetConfig
from pipeline.data.shards.dataset_info import read_info
from pipeline.data.shards.reader import SampleShards, stream_shard
from pipeline.data.shards.sample_encoding import decode_samples, to_unit_range
from pipeline.data.shards.tar_index import index_path
from pipeline.data.shards.writer import write_dataset
from pipeline.data.sources.datasets import load_source
from pipeline.data.sources.loaded_source import LoadedSource, stratified_split
from pipeline.errors import DataError

CONFIG = DigitsData(source="digits", shard_size=7)
NAMES = ("one/two", "drei 🐕", "..", "line\nbreak")


def pictures(channels=1, count=40):
    """Random 4x5 images of four classes: 28 to train on, 12 held out."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, channels, 4, 5), np.uint8)
    labels = np.arange(count) % len(NAMES)
    return LoadedSource(
        name="digits",
        class_names=NAMES,
        latent_shape=(channels, 4, 5),
        encoding="png",
        labels=labels,
        read=pixels.__getitem__,
        splits=stratified_split(labels, NAMES, 0.25, 0),
    )


@pytest.fixture
def written(tmp_path):
    """The folder of an image data set."""
    write_dataset(tmp_path, pictures(), CONFIG)
    return tmp_path


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("cache_bytes", [10**6, 0])
def test_every_row_comes_back_with_its_label(tmp_path, channels, cache_bytes):
    source = pictures(channels)
    info = write_dataset(tmp_path, source, CONFIG)
    assert info == read_info(tmp_path)
    assert info.class_names == NAMES
    for split, rows in source.splits.items():
        shards = SampleShards(tmp_path, split, cache_bytes=cache_bytes)
        assert len(shards) == len(rows) == info.splits[split].count
        order = np.random.default_rng(1).integers(0, len(rows), 100)
        batch = shards.read(order)
        expected = np.stack([source.read(row) for row in rows[order]]) / 127.5 - 1
        assert batch.x.dtype == torch.float32
        assert np.abs(batch.x.numpy() - expected).max() < 1e-6
        assert batch.condition["label"].tolist() == source.labels[rows[order]].tolist()


def test_float_samples_come_back_exactly(tmp_path):
    law = GaussianConfig(family="gaussian", means=((-50.0, 1.0), (50.0, 1.0)), std=0.4)
    config = GaussianData(source="gaussian", num_samples=60, shard_size=16)
    source = load_source(config, 0, law)
    write_dataset(tmp_path, source, config)
    shards = SampleShards(tmp_path, "train")
    batch = shards.read(np.arange(len(shards)))
    expected = np.stack([source.read(row) for row in source.splits["train"]])
    assert np.array_equal(batch.x.numpy(), expected)
    assert shards.info.num_classes == 2


def test_shards_cover_the_split_in_order_and_mix_the_classes(written):
    shards = SampleShards(written, "train")
    parts = shards.info.splits["train"].shards
    assert [(part.first, part.count) for part in parts] == [(0, 7), (7, 7), (14, 7), (21, 7)]
    heldout = shards.info.splits["heldout"].shards[1]
    assert (heldout.first, heldout.count) == (7, 5)
    for part in parts:
        labels = shards.read(np.arange(part.first, part.first + part.count)).condition["label"]
        assert len(set(labels.tolist())) > 1


def test_equal_sources_are_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_dataset(tmp_path / name, pictures(), CONFIG)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 2 * (4 + 2) + 1  # tars and indices of train and heldout, and dataset.json
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_digits_through_shards_are_the_scans(tmp_path):
    config = DigitsData(source="digits")
    info = write_dataset(tmp_path, load_source(config, 0, UNetConfig(family="unet")), config)
    assert [info.splits[split].count for split in ("train", "heldout")] == [1198, 599]
    shards = SampleShards(tmp_path, "train")
    batch = shards.read(np.arange(len(shards)))
    ink = (batch.x.double() + 1) * 8
    assert (ink - ink.round()).abs().max() < 0.04  # 8-bit pixels are that near to the 17 levels
    assert batch.condition["label"].bincount().min() >= 116


def test_plain_webdataset_reads_the_same(tmp_path):
    source = pictures()
    info = write_dataset(tmp_path, source, CONFIG)
    tars = [str(tmp_path / shard.name) for shard in info.splits["train"].shards]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    shards = SampleShards(tmp_path, "train")
    batch = shards.read(np.arange(len(shards)))
    assert [sample["__key__"] for sample in samples] == [f"{row:09d}" for row in range(len(shards))]
    for row, sample in enumerate(samples):
        pixels = np.asarray(Image.open(io.BytesIO(sample["png"]))).astype(np.float32)
        assert torch.equal(batch.x[row, 0], torch.from_numpy(pixels / np.float32(127.5) - 1))
        assert int(sample["cls"]) == int(batch.condition["label"][row])


@pytest.mark.parametrize("rows", [[-1], [0, 40]])
def test_rows_that_do_not_exist_are_refused(written, rows):
    with pytest.raises(IndexError, match=r"not all in 0 \.\. "):
        SampleShards(written, "train").read(np.array(rows))


@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_a_tar_cut_anywhere_is_an_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cut")
    tar = folder / write_dataset(folder, pictures(), CONFIG).splits["train"].shards[1].name
    content = tar.read_bytes()
    cut = data.draw(st.integers(0, len(content) - 1))
    tar.write_bytes(content[:cut])
    with pytest.raises(DataError, match=f"{tar} has {cut} bytes, its index has {len(content)}"):
        SampleShards(folder, "train")


def test_headers_of_the_tar_are_not_trusted(written):
    tar = written / "train/shard-00000.tar"
    before = SampleShards(written, "train").read(np.arange(7))
    content = bytearray(tar.read_bytes())
    content[:512] = bytes(512)
    tar.write_bytes(content)
    assert torch.equal(SampleShards(written, "train").read(np.arange(7)).x, before.x)


def change(path, edit):
    tree = json.loads(path.read_text())
    edit(tree)
    path.write_text(json.dumps(tree))


@pytest.mark.parametrize(
    "damage",
    [
        lambda tree: tree.update(count=6),
        lambda tree: tree["members"].__delitem__(slice(2)),
        lambda tree: tree["members"][1].update(name="000000000.pickle"),
    ],
    ids=["count", "sample", "name"],
)
def test_an_index_of_other_samples_is_an_error(written, damage):
    tar = written / "train/shard-00000.tar"
    change(index_path(tar), damage)
    with pytest.raises(DataError, match=rf"{tar}: expected 7 samples \(14 members\)"):
        SampleShards(written, "train")


@pytest.mark.parametrize("file", ["train/shard-00001.tar", "train/shard-00001.index.json"])
def test_a_missing_file_is_named(written, file):
    (written / file).unlink()
    with pytest.raises(DataError, match=str(written / file)):
        SampleShards(written, "train")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda split: split.update(count=29), r"hold \d+ samples, expected"),
        (lambda split: split["shards"].reverse(), "starts at row"),
        (lambda split: split["shards"][0].update(count=6), "starts at row 7, expected 6"),
    ],
    ids=["count of the split", "order of shards", "count of a shard"],
)
def test_a_description_that_does_not_add_up_is_an_error(written, damage, complaint):
    change(written / "dataset.json", lambda tree: damage(tree["splits"]["train"]))
    with pytest.raises(DataError, match=f"dataset.json is damaged: .*{complaint}"):
        read_info(written)


def test_a_folder_that_is_no_data_set_and_a_split_that_is_none_are_refused(tmp_path, written):
    with pytest.raises(DataError, match="is not a sharded data set"):
        SampleShards(tmp_path / "empty", "train")
    with pytest.raises(DataError, match=r"no split 'test'.*train, heldout"):
        SampleShards(written, "test")


def test_a_shard_is_streamed_in_order_with_all_its_members(tmp_path):
    info = write_dataset(tmp_path, pictures(3), CONFIG)
    rows = np.arange(7, 14)
    expected = SampleShards(tmp_path, "train").read(rows)
    samples = list(stream_shard(tmp_path, info.splits["train"].shards[1]))
    assert np.array_equal(to_unit_range(decode_samples(info, samples)), expected.x)
    assert [sample.label() for sample in samples] == expected.condition["label"].tolist()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda content: content[: 512 * 7 + 9], "shard-00000.tar cannot be read"),
        (lambda content: content[: 512 * 8], "sample 000000002 is missing"),
        (lambda content: content[: 512 * 8] + bytes(512 * 2), "sample 000000002 is missing"),
        (lambda content: content.replace(b"1.cls", b"1.txt"), "sample 000000001 is missing"),
        (lambda content: content[512 * 4 :], "sample 000000000 is missing"),
    ],
)
def test_a_damaged_shard_is_named_when_it_is_streamed(tmp_path, damage, problem):
    info = write_dataset(tmp_path, pictures(), CONFIG)
    tar = tmp_path / "train/shard-00000.tar"
    tar.write_bytes(damage(tar.read_bytes()))
    with pytest.raises(DataError, match=problem):
        list(stream_shard(tmp_path, info.splits["train"].shards[0]))


@pytest.mark.parametrize("content", [b"\x89PNG broken", b"77"])
def test_a_sample_that_does_not_decode_is_named(written, content):
    tar = written / "train/shard-00000.tar"
    members = json.loads(index_path(tar).read_text())["members"]
    target = members[3] if len(content) > 2 else members[2]
    damaged = bytearray(tar.read_bytes())
    damaged[target["offset"] : target["offset"] + len(content)] = content
    tar.write_bytes(damaged)
    if len(content) == 2:
        change(index_path(tar), lambda tree: tree["members"][2].update(size=2))
    shards = SampleShards(written, "train")
    shards.read(np.array([0, 2]))
    with pytest.raises(DataError, match=rf"{tar}, sample 000000001: (not a readable png|class 77)"):
        shards.read(np.array([0, 1]))
