"""Target records: rows are read back as written, and damage is reported."""

import filecmp
import json

import numpy as np
import pytest
import torch
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load

from pipeline.data.records import MappedRows, RecordShards, write_records
from pipeline.data.shards.tar_index import index_path
from pipeline.errors import DataError


def chunk_of(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "z_t": torch.randn(rows, 1, 3, 2, generator=generator),
        "half": torch.randn(rows, 5, generator=generator).half(),
        "t": torch.rand(rows, generator=generator, dtype=torch.float64),
        "label": torch.randint(10, (rows,), generator=generator),
        "empty": torch.empty(rows, 0),
    }


def write_tars(folder, sizes):
    """One tar for each list of chunk sizes; returns the tars and all rows, concatenated."""
    tars, chunks = [], []
    for number, counts in enumerate(sizes):
        tar = folder / f"{number:05d}.tar"
        own = [chunk_of(count, seed=100 * number + i) for i, count in enumerate(counts)]
        assert write_records(tar, own) == sum(counts)
        tars.append(tar)
        chunks += own
    return tars, {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name], tensor), name


@given(
    sizes=st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=4), min_size=1, max_size=3),
    data=st.data(),
)
@settings(max_examples=25, deadline=None)
def test_any_rows_in_any_order_are_what_was_written(tmp_path_factory, sizes, data):
    tars, expected = write_tars(tmp_path_factory.mktemp("records"), sizes)
    shards = RecordShards(tars)
    assert len(shards) == sum(map(sum, sizes))
    rows = np.array(data.draw(st.lists(st.integers(0, len(shards) - 1), max_size=30)), np.int64)
    assert_same(shards.read(rows), {name: value[rows] for name, value in expected.items()})
    shards.verify()


def test_what_is_read_is_a_copy(tmp_path):
    tars, expected = write_tars(tmp_path, [[4]])
    shards = RecordShards(tars)
    rows = np.arange(4)
    shards.read(rows)["z_t"].zero_()
    assert torch.equal(shards.read(rows)["z_t"], expected["z_t"])


def test_equal_chunks_are_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_records(tmp_path / f"{name}.tar", [chunk_of(5), chunk_of(3)])
    for suffix in (".tar", ".index.json"):
        first, second = ((tmp_path / name).with_suffix(suffix) for name in ("a", "b"))
        assert filecmp.cmp(first, second, shallow=False)


def test_plain_webdataset_reads_the_same(tmp_path):
    (tar,), expected = write_tars(tmp_path, [[4, 2]])
    records = list(webdataset.WebDataset(str(tar), shardshuffle=False))
    assert [record["__key__"] for record in records] == ["000000000", "000000001"]
    chunks = [load(record["safetensors"]) for record in records]
    assert_same({name: torch.cat([chunk[name] for chunk in chunks]) for name in expected}, expected)


@pytest.mark.parametrize("rows", [[-1], [0, 6]])
def test_rows_that_do_not_exist_are_refused(tmp_path, rows):
    tars, _ = write_tars(tmp_path, [[4, 2]])
    with pytest.raises(IndexError, match=r"0 \.\. 5"):
        RecordShards(tars).read(np.array(rows))


@pytest.mark.parametrize(
    ("chunks", "complaint"),
    [
        ([], "hold 0 rows"),
        ([{}], "same number of rows"),
        ([{"a": torch.ones(2), "b": torch.ones(3)}], "same number of rows"),
        ([{"a": torch.ones(0)}], "same number of rows"),
        ([{"a": torch.ones(2)}, {"a": torch.ones(2, 1)}], "chunk 1 has columns"),
        ([{"a": torch.ones(2)}, {"b": torch.ones(2)}], "chunk 1 has columns"),
        ([{"a": torch.ones(2, dtype=torch.bfloat16)}], "records hold float16"),
    ],
)
def test_chunks_that_are_no_table_are_refused_and_leave_no_index(tmp_path, chunks, complaint):
    tar = tmp_path / "x.tar"
    write_records(tar, [chunk_of(2)])
    with pytest.raises(ValueError, match=complaint):
        write_records(tar, chunks)
    assert not index_path(tar).exists()


@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_a_tar_cut_anywhere_is_an_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cut")
    (tar,), _ = write_tars(folder, [[4, 2]])
    content = tar.read_bytes()
    tar.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(DataError, match=rf"{tar} has \d+ bytes, its index has {len(content)}"):
        RecordShards([tar])


@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_a_flipped_bit_in_a_member_is_found_by_verify(tmp_path_factory, data):
    (tar,), _ = write_tars(tmp_path_factory.mktemp("flip"), [[4, 2]])
    index = json.loads(index_path(tar).read_text())
    member = data.draw(st.sampled_from(index["members"]))
    at = member["offset"] + data.draw(st.integers(0, member["size"] - 1))
    content = bytearray(tar.read_bytes())
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    tar.write_bytes(content)
    with pytest.raises(DataError, match=rf"{tar}, member {member['name']}.*sha256"):
        RecordShards([tar]).verify()


def test_headers_of_the_tar_are_not_trusted(tmp_path):
    (tar,), expected = write_tars(tmp_path, [[4, 2]])
    content = bytearray(tar.read_bytes())
    content[:512] = bytes(512)  # the end of the archive, to tarfile
    tar.write_bytes(content)
    shards = RecordShards([tar])
    shards.verify()
    assert_same(shards.read(np.arange(6)), expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_named_by_verify(tmp_path, value):
    bad = chunk_of(3)
    bad["half"][1, 2] = value
    tar = tmp_path / "x.tar"
    write_records(tar, [chunk_of(2), bad])
    with pytest.raises(DataError, match=rf"{tar}, member 000000001\.safetensors, column half"):
        RecordShards([tar]).verify()


def set_in(*path, add=None, to=None):
    """Change one number of the index."""

    def damage(index):
        *parents, last = path
        for key in parents:
            index = index[key]
        index[last] = to if add is None else index[last] + add

    return damage


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (set_in("count", to=7), "hold 6 rows, expected 7"),
        (set_in("members", 1, "count", to=3), "hold 7 rows, expected 6|lies outside"),
        (set_in("members", 0, "starts", "t", add=10**6), "column t lies outside 000000000"),
        (lambda index: index["members"][0]["starts"].pop("t"), "000000000.* has columns"),
        (set_in("columns", "t", "shape", to=[2**32, 2**32]), "column t lies outside 000000000"),
        (set_in("members", 1, "offset", add=10**6), "000000001.safetensors ends at byte"),
    ],
)
def test_a_changed_index_is_an_error_that_names_it(tmp_path, damage, complaint):
    (tar,), _ = write_tars(tmp_path, [[4, 2]])
    path = index_path(tar)
    index = json.loads(path.read_text())
    damage(index)
    path.write_text(json.dumps(index))
    with pytest.raises(DataError, match=rf"{path} is damaged: .*({complaint})"):
        RecordShards([tar])


@pytest.mark.parametrize("content", ["", "{}", "[1", "\x00"])
def test_an_index_that_is_none_is_an_error(tmp_path, content):
    (tar,), _ = write_tars(tmp_path, [[4]])
    index_path(tar).write_text(content)
    with pytest.raises(DataError, match=f"{index_path(tar)} is damaged"):
        RecordShards([tar])


@pytest.mark.parametrize("suffix", [".tar", ".index.json"])
def test_a_missing_file_is_named(tmp_path, suffix):
    (tar,), _ = write_tars(tmp_path, [[4]])
    tar.with_suffix(suffix).unlink()
    with pytest.raises(DataError, match=str(tar.with_suffix(suffix))):
        RecordShards([tar])


def test_no_tars_and_tars_of_other_columns_are_refused(tmp_path):
    with pytest.raises(DataError, match="no target shards"):
        RecordShards([])
    write_records(tmp_path / "a.tar", [{"a": torch.ones(2)}])
    write_records(tmp_path / "b.tar", [{"a": torch.ones(2, dtype=torch.float64)}])
    with pytest.raises(DataError, match=r"b\.tar has columns"):
        RecordShards([tmp_path / "a.tar", tmp_path / "b.tar"])


@given(
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=5),
    data=st.data(),
)
def test_every_row_is_the_slice_of_its_piece(sizes, data):
    generator = np.random.default_rng(sum(sizes))
    pieces = [generator.integers(256, size=size, dtype=np.uint8).tobytes() for size in sizes]
    mapped = MappedRows([memoryview(piece) for piece in pieces])
    width = data.draw(st.integers(1, min(sizes)))
    asked = data.draw(
        st.lists(
            st.integers(0, len(sizes) - 1).flatmap(
                lambda i: st.tuples(st.just(i), st.integers(0, sizes[i] - width))
            ),
            min_size=1,
            max_size=20,
        )
    )
    places = np.array([mapped.bases[piece] + offset for piece, offset in asked], np.int64)
    rows = mapped.gather(places, width)
    expected = [pieces[piece][offset : offset + width] for piece, offset in asked]
    assert [row.tobytes() for row in rows] == expected


def test_a_place_outside_all_pieces_is_refused():
    with pytest.raises(IndexError):
        MappedRows([memoryview(b"abc")]).gather(np.array([2], np.int64), 2)
