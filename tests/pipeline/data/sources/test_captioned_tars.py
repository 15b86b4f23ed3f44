"""Tars of captioned images: read as img2dataset writes them, and refused by name otherwise."""

import io
import json
import os
import re
import tarfile

import numpy as np
import pytest
import webdataset
from PIL import Image

from pipeline.config import CaptionedTarsData
from pipeline.data.sources.captioned_tars import count_tars, identify_tars, open_tars
from pipeline.data.sources.captions import Caption
from pipeline.errors import DataError

PER_TAR = 6


def config_of(folder, **changes):
    fields = {"source": "captioned_tars", "path": str(folder), "size": 8, **changes}
    return CaptionedTarsData(**fields)


def picture(number, height=8, width=12):
    random = np.random.default_rng(number)
    return random.integers(0, 256, (height, width, 3), np.uint8)


def file_of(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def image2dataset_json(caption):
    return json.dumps({"caption": caption, "url": "http://x/y.jpg", "status": "success"}).encode()


@pytest.fixture
def folder(tmp_path):
    """Two tars of six samples as img2dataset writes them, with its other files."""
    for tar in range(2):
        # an open file: where WDS_SECURE is set, webdataset opens none by name
        with (
            (tmp_path / f"{tar:05d}.tar").open("wb") as stream,
            webdataset.TarWriter(stream, encoder=False) as writer,
        ):
            for number in range(tar * PER_TAR, (tar + 1) * PER_TAR):
                writer.write(
                    {
                        "__key__": f"{number:09d}",
                        "png": file_of(picture(number)),
                        "txt": f"picture {number} 🐕\n".encode(),
                        "json": image2dataset_json(f"picture {number} 🐕"),
                    }
                )
        (tmp_path / f"{tar:05d}_stats.json").write_text("{}")
        (tmp_path / f"{tar:05d}.parquet").write_bytes(b"PAR1")
    return tmp_path


def write_tar(path, members):
    """A tar of exactly these (name, content) or TarInfo."""
    with tarfile.open(path, "w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def refusal(folder):
    with pytest.raises(DataError) as caught:
        open_tars(config_of(folder), 0)
    return str(caught.value)


def test_what_img2dataset_wrote_comes_back(folder):
    source = open_tars(config_of(folder, holdout=0.4), 0)
    assert (source.labels, source.class_names) == (None, ())
    assert {side: len(rows) for side, rows in source.splits.items()} == {"train": 7, "heldout": 5}
    for row in range(2 * PER_TAR):
        assert np.array_equal(source.read(row), picture(row)[:, 2:10].transpose(2, 0, 1))
        assert source.caption(row) == Caption(
            text=f"picture {row} 🐕", original_size=(8, 12), crop=(0, 2)
        )
    assert count_tars(config_of(folder)) == 2 * PER_TAR


def test_pixels_and_captions_can_be_read_in_any_order(folder):
    source, other = (open_tars(config_of(folder), 0) for _ in range(2))
    pixels = [source.read(row) for row in (5, 0, 5)]
    assert source.caption(3).text == "picture 3 🐕"
    assert [other.caption(row).text[8] for row in (5, 0, 5)] == ["5", "0", "5"]
    assert all(np.array_equal(other.read(row), pixels[0]) for row in (5, 5))


@pytest.mark.parametrize(
    ("extension", "kind"), [("jpg", "JPEG"), ("JPEG", "JPEG"), ("webp", "WEBP")]
)
def test_other_formats_and_a_caption_in_json_alone(tmp_path, extension, kind):
    flat = [np.full((20, 10, 3), (200, 30, 90 + number), np.uint8) for number in range(5)]
    parts = [
        part
        for number in range(5)
        for part in (
            (f"./a.b/c/{number}.{extension}", file_of(flat[number], kind)),
            (f"./a.b/c/{number}.json", image2dataset_json("pink")),
            (f"./a.b/c/{number}.cls", b"7"),
        )
    ]
    write_tar(tmp_path / "x.tar", parts)
    source = open_tars(config_of(tmp_path), 0)
    assert np.abs(source.read(4).astype(int) - flat[4][:8, :8].transpose(2, 0, 1)).max() <= 6
    assert source.caption(4) == Caption(text="pink", original_size=(20, 10), crop=(4, 0))
    assert not (tmp_path / "a.b").exists()


def test_a_turned_photograph_has_the_size_it_is_seen_in(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 270 degrees to see it upright
    turned = [file_of(picture(number), "PNG", exif=exif) for number in range(5)]
    parts = [
        part
        for number, content in enumerate(turned)
        for part in ((f"{number}.png", content), (f"{number}.txt", b"x"))
    ]
    write_tar(tmp_path / "x.tar", parts)
    source = open_tars(config_of(tmp_path), 0)
    assert source.caption(0).original_size == (12, 8)
    assert source.caption(0).crop == (2, 0)
    upright = np.rot90(picture(0), -1)
    assert np.array_equal(source.read(0), upright[2:10].transpose(2, 0, 1))


def test_the_identity_is_the_content_wherever_it_lies(folder):
    before = identify_tars(config_of(folder))
    (folder / "00001_stats.json").write_text("other")
    moved = folder.rename(folder.with_name(f"{folder.name}-elsewhere"))
    assert identify_tars(config_of(moved)) == before
    (moved / "00000.tar").unlink()
    assert identify_tars(config_of(moved)) != before


def test_what_is_missing_is_named(tmp_path):
    for check in (identify_tars, count_tars, lambda config: open_tars(config, 0)):
        for nowhere in (tmp_path / "nowhere", "pipe:touch hacked", "http://x/00000.tar"):
            with pytest.raises(DataError, match=r"data\.path: .* is not a folder"):
                check(config_of(nowhere))
        with pytest.raises(DataError, match=r"holds no \*\.tar"):
            check(config_of(tmp_path))


PNG = file_of(picture(0))


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ([("a.png", PNG)], "x.tar, sample 'a' has no caption"),
        ([("a.png", PNG), ("a.json", b'{"url": 1}')], "sample 'a' has no caption"),
        ([("a.txt", b"text")], "sample 'a' has a caption but no image"),
        ([("a.png", PNG), ("a.txt", b" \n")], "sample 'a': the caption is empty"),
        ([("a.png", PNG), ("a.json", b'{"caption": null}')], "'a': the caption is NoneType"),
        ([("a.png", PNG), ("a.json", b"{")], "sample 'a': 'a.json' is not JSON"),
        ([("a.png", PNG), ("a.txt", b"\xff")], "sample 'a': the caption is not UTF-8"),
        ([("a.png", PNG), ("a.txt", b"x" * (2**20 + 1))], "'a.txt' has 1048577 bytes, more than"),
        ([("a.png", b"no image"), ("a.txt", b"x")], "sample 'a' cannot be read as png"),
        ([("a.png", PNG), ("a.jpg", PNG), ("a.txt", b"x")], r"'a' has 2 images \(jpg, png\)"),
        ([("a.png", PNG), ("a.txt", b"x"), ("a.png", PNG)], "duplicate member 'a.png'"),
        ([("a.png", PNG), ("a.txt", b"x")], "holds 1 sample"),
    ],
)
def test_a_sample_that_cannot_be_used_is_named(tmp_path, members, complaint):
    write_tar(tmp_path / "x.tar", members)
    assert re.search(complaint, refusal(tmp_path))


def test_links_are_not_followed(tmp_path):
    link = tarfile.TarInfo("a.txt")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    write_tar(tmp_path / "x.tar", [("a.png", PNG), link])
    assert re.search("'a.txt' is not a plain file", refusal(tmp_path))


def test_a_key_in_two_tars_is_named(folder):
    os.link(folder / "00000.tar", folder / "00002.tar")
    assert re.search("00002.tar: key '000000000' is also in .*00000.tar", refusal(folder))


@pytest.mark.parametrize("cut", [0, 1, 600, 1536, 4000, -10240])
def test_a_cut_tar_is_refused(folder, cut):
    tar = folder / "00001.tar"
    content = tar.read_bytes()
    end = len(content.rstrip(b"\0")) // 512 * 512 + 512  # of the last member
    tar.write_bytes(content[: cut if cut >= 0 else end])
    assert re.search("00001.tar is (truncated or damaged|not a readable tar)", refusal(folder))


def test_a_damaged_header_is_no_end(folder):
    tar = folder / "00001.tar"
    with tarfile.open(tar) as archive:
        third = archive.getmembers()[6].offset
    content = bytearray(tar.read_bytes())
    content[third + 150] ^= 1  # of the checksum
    tar.write_bytes(content)
    assert re.search(f"00001.tar is truncated or damaged at byte {third}", refusal(folder))


def test_an_image_that_does_not_decode_is_named_when_it_is_read(tmp_path):
    cut = [file_of(picture(number, 30, 30))[:200] for number in range(5)]
    parts = [
        part
        for name, content in zip("abcde", cut, strict=True)
        for part in ((f"{name}.png", content), (f"{name}.txt", b"x"))
    ]
    write_tar(tmp_path / "x.tar", parts)
    source = open_tars(config_of(tmp_path), 0)
    with pytest.raises(DataError, match=r"x\.tar, sample 'b' cannot be read as png"):
        source.read(1)


def test_a_tar_that_vanished_is_named_when_it_is_read(folder):
    source = open_tars(config_of(folder), 0)
    (folder / "00000.tar").unlink()
    with pytest.raises(DataError, match=r"00000\.tar cannot be read"):
        source.read(1)
