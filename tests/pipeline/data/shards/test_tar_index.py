"""The writer of tars: offsets, a full disk, an interrupted write."""

import json
import os
import resource
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.shards.tar_index import (
    IndexedTarWriter,
    TarIndex,
    index_path,
    open_tar,
    write_index,
)
from pipeline.errors import DataError, InfraError


@given(contents=st.lists(st.binary(max_size=1500), max_size=12))
@settings(max_examples=30, deadline=None)
def test_the_index_points_at_what_was_written(tmp_path_factory, contents):
    tar = tmp_path_factory.mktemp("tar") / "x.tar"
    members = []
    with IndexedTarWriter(tar) as writer:
        for number, content in enumerate(contents):
            members += writer.add(f"{number:09d}", {"npy": content, "cls": b"7"})
    write_index(tar, TarIndex(size=writer.size, count=len(contents), members=tuple(members)))
    index, view = open_tar(tar, TarIndex)
    found = {m.name: bytes(view[m.offset : m.offset + m.size]) for m in index.members}
    expected = {f"{number:09d}.npy": content for number, content in enumerate(contents)}
    assert found == expected | {f"{number:09d}.cls": b"7" for number in range(len(contents))}


def test_a_tar_that_was_cut_while_it_was_written_is_noticed(tmp_path):
    tar = tmp_path / "x.tar"
    writer = IndexedTarWriter(tar)
    writer.add("000000000", {"npy": bytes(100_000)})
    tar.rename(tmp_path / "elsewhere.tar")
    tar.write_bytes(b"short")
    with pytest.raises(InfraError, match=r"has 5 bytes after writing 102400"):
        writer.__exit__(None, None, None)


def write_samples(tar, count):
    with IndexedTarWriter(tar) as writer:
        for number in range(count):
            writer.add(f"{number:09d}", {"npy": bytes(10_000)})


@pytest.mark.parametrize("room", [0, 5_000, 20_000, 50_000, 50_400, 51_200])
def test_a_full_disk_is_an_infra_error(tmp_path, room):
    tar = tmp_path / "x.tar"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        with pytest.raises(InfraError, match=rf"{tar} cannot be written \(File too large\)"):
            write_samples(tar, 5)  # 61,440 bytes
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not index_path(tar).exists()


def test_an_interrupted_write_leaves_no_index(tmp_path):
    tar = tmp_path / "x.tar"
    index_path(tar).write_text("{}")
    with pytest.raises(RuntimeError, match="stop"), IndexedTarWriter(tar):
        raise RuntimeError("stop")
    with pytest.raises(DataError, match=r"x\.index\.json cannot be read"):
        open_tar(tar, TarIndex)


def test_an_index_of_a_later_format_is_refused(tmp_path):
    tar = tmp_path / "x.tar"
    with IndexedTarWriter(tar) as writer:
        writer.add("000000000", {"npy": b"x"})
    index = {"format_version": 2, "size": writer.size, "count": 1, "members": []}
    index_path(tar).write_text(json.dumps(index))
    with pytest.raises(DataError, match="format_version"):
        open_tar(tar, TarIndex)


@pytest.mark.slow
def test_webdataset_runs_no_pickles_and_no_shells_once_this_is_imported():
    script = (
        "import pipeline.data.shards.tar_index, webdataset.utils as u; "
        "raise SystemExit(0 if u.enforce_security else 1)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "WDS_SECURE"}
    assert (
        subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == 0
    )
