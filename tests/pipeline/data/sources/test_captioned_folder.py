"""A folder and its table of captions: every kind of table, and each mismatch by name."""

import csv
import json
import re

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from pipeline.config import CaptionedFolderData
from pipeline.data.sources.captioned_folder import (
    count_folder,
    identify_captioned_folder,
    open_captioned_folder,
)
from pipeline.data.sources.captions import Caption
from pipeline.errors import DataError

NAMES = ("a.png", "deep/b.jpg", "c.webp", "deep/d.PNG", 'quo"te, and comma.png', "Ω 🐕.png")


def config_of(folder, **changes):
    fields = {"source": "captioned_folder", "path": str(folder), "size": 8, **changes}
    return CaptionedFolderData(**fields)


def picture(number):
    return np.full((10, 20, 3), 20 * number, np.uint8)


def heldout_rows(names=NAMES):
    return [{"file_name": name, "text": f"line one,\n“{name}”"} for name in names]


def write_jsonl(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")


def write_csv(path, rows):
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path, rows):
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


WRITERS = {"jsonl": write_jsonl, "csv": write_csv, "parquet": write_parquet}


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(NAMES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(picture(number)).save(tmp_path / name)
    (tmp_path / "README.md").write_text("not an image")
    (tmp_path / ".hidden.png").write_bytes(b"not seen")
    write_jsonl(tmp_path / "metadata.jsonl", heldout_rows())
    return tmp_path


def refusal(folder, **changes):
    """Return the error of opening, which identifying the source must raise too."""
    said = set()
    for check in (lambda config: open_captioned_folder(config, 0), identify_captioned_folder):
        with pytest.raises(DataError) as caught:
            check(config_of(folder, **changes))
        said.add(str(caught.value))
    (once,) = said
    return once


@pytest.mark.parametrize("kind", WRITERS)
def test_every_table_gives_the_same_samples(folder, kind):
    WRITERS[kind](folder / f"captions.{kind}", [row | {"other": 1.5} for row in heldout_rows()])
    config = config_of(folder, captions=f"captions.{kind}")
    source = open_captioned_folder(config, 0)
    assert (source.labels, source.class_names) == (None, ())
    assert count_folder(config) == len(NAMES)
    for row, name in enumerate(NAMES):
        assert source.caption(row) == Caption(
            text=f"line one,\n“{name}”", original_size=(10, 20), crop=(0, 4)
        )
        assert np.abs(source.read(row).astype(int) - 20 * row).max() <= 2  # JPEG's and WebP's loss


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"file_name": "gone.png", "text": "x"}, r"row 7: .*gone\.png is missing"),
        ({"file_name": "deep", "text": "x"}, "row 7: .*deep is missing"),
        ({"file_name": "./deep//b.jpg", "text": "x"}, "row 7: 'deep/b.jpg' has two captions"),
        ({"file_name": "../a.png", "text": "x"}, r"row 7: '\.\./a\.png' is outside the folder"),
        ({"file_name": "deep/../a.png", "text": "x"}, "row 7: .* is outside the folder"),
        ({"file_name": "/etc/hostname", "text": "x"}, "row 7: '/etc/hostname' is outside"),
        ({"file_name": "", "text": "x"}, "row 7: '' is not a file name"),
        ({"file_name": 7, "text": "x"}, "row 7: 7 is not a file name"),
        ({"file_name": "e.png", "text": " "}, "row 7: the caption is empty"),
        ({"file_name": "e.png", "text": None}, "row 7: the caption is NoneType"),
        ({"file_name": "e.png"}, "row 7: column text is missing"),
        ({"text": "x"}, "row 7: column file_name is missing"),
        (["e.png", "x"], "row 7 holds a list"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(folder, row, complaint):
    write_jsonl(folder / "metadata.jsonl", [*heldout_rows(), row])
    assert re.search(rf"metadata\.jsonl, {complaint}", refusal(folder))


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("column", ["file_name", "text"])
def test_a_missing_column_is_named_in_every_table(folder, kind, column):
    rows = [{key: value for key, value in row.items() if key != column} for row in heldout_rows()]
    WRITERS[kind](folder / f"captions.{kind}", rows)
    said = refusal(folder, captions=f"captions.{kind}")
    assert f"row 1: column {column} is missing" in said


def test_an_image_without_a_row_and_a_file_that_is_no_image_are_named(folder):
    Image.fromarray(picture(0)).save(folder / "deep" / "z.jpeg")
    assert re.search(r"deep/z\.jpeg has no caption in .*metadata\.jsonl", refusal(folder))
    (folder / "deep" / "z.jpeg").unlink()
    (folder / "a.png").write_bytes(b"not an image")
    assert re.search(r"a\.png cannot be read as png", refusal(folder))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", b"file_name,text\n\xff,x\n"),
        ("x.csv", b'file_name,text\n"a.png,x\n'),
        ("x.csv", b"file_name,text\na.png,one,two\n"),
        ("x.csv", b"file_name,text\na.png\n"),
        ("x.jsonl", b"\xff\n"),
        ("x.jsonl", b"{not json}\n"),
        ("x.jsonl", b" " * (16 * 2**20 + 1)),
        ("x.csv", b"file_name,text\n" + b"x" * (16 * 2**20)),
        ("x.parquet", b"PAR1 not a table PAR1"),
        ("x.parquet", b""),
    ],
)
def test_a_table_that_cannot_be_read_is_named(folder, name, content):
    (folder / name).write_bytes(content)
    assert re.search(
        r"x\.\w+.* (cannot be read|is not JSON|number of fields)", refusal(folder, captions=name)
    )
    with pytest.raises(DataError, match=re.escape(name)):
        count_folder(config_of(folder, captions=name))


@pytest.mark.parametrize(
    ("captions", "complaint"),
    [
        ("gone.csv", r"gone\.csv is missing"),
        ("README.md", "'README.md' .*.csv, .jsonl, .parquet"),
        ("../metadata.jsonl", "is outside the folder"),
        ("/metadata.jsonl", "is outside the folder"),
    ],
)
def test_a_table_that_is_none_is_named(folder, captions, complaint):
    assert re.search(rf"data\.captions: .*{complaint}", refusal(folder, captions=captions))


def test_a_missing_folder_is_named(tmp_path):
    assert "data.path: " in refusal(tmp_path / "nowhere")


def test_too_few_images_are_refused(folder):
    for name in NAMES[2:]:
        (folder / name).unlink()
    write_jsonl(folder / "metadata.jsonl", heldout_rows(NAMES[:2]))
    with pytest.raises(DataError, match=rf"{folder} holds 2 sample"):
        open_captioned_folder(config_of(folder), 0)


def test_the_identity_is_the_content_wherever_it_lies(folder):
    before = identify_captioned_folder(config_of(folder))
    moved = folder.rename(folder.with_name(f"{folder.name}-elsewhere"))
    write_csv(moved / "same.csv", heldout_rows())
    for changes in ({}, {"captions": "same.csv"}):
        assert identify_captioned_folder(config_of(moved, **changes)) == before
    rows = [*heldout_rows()[:-1], heldout_rows()[-1] | {"text": "new"}]
    write_jsonl(moved / "other.jsonl", rows)
    assert identify_captioned_folder(config_of(moved, captions="other.jsonl")) != before
    Image.fromarray(picture(9)).save(moved / "a.png")
    assert identify_captioned_folder(config_of(moved)) != before
