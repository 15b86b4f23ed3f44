"""Unusable images and captions are quarantined with their reasons, up to a limit."""

import json
import re

import numpy as np
import pytest

from pipeline.config import CaptionedFolderData, CaptionedTarsData, ImageFolderData, UNetConfig
from pipeline.data.shards.reader import SampleShards
from pipeline.data.shards.writer import write_dataset
from pipeline.data.sources import images
from pipeline.data.sources.captioned_folder import open_captioned_folder
from pipeline.data.sources.captioned_tars import open_tars
from pipeline.data.sources.datasets import identify
from pipeline.data.sources.image_folder import open_folder
from pipeline.data.sources.quarantine import REPORT, Quarantine
from pipeline.errors import DataError, SampleError
from tests.pipeline.data.sources.test_captioned_tars import write_tar
from tests.support.odd_images import BAD, ODD, SIZE, encoded, noise

COUNT = 20


def folder_of(root, contents):
    for number, content in enumerate(contents):
        path = root / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return ImageFolderData(
        source="image_folder", path=str(root), size=SIZE, resize="crop", max_bad=0.1
    )


def captioned_folder_of(root, contents):
    root.mkdir(exist_ok=True)
    rows = []
    for number, content in enumerate(contents):
        (root / f"{number:02d}.png").write_bytes(content)
        rows.append(json.dumps({"file_name": f"{number:02d}.png", "text": f"picture {number}"}))
    (root / "metadata.jsonl").write_text("\n".join(rows))
    return CaptionedFolderData(
        source="captioned_folder", path=str(root), size=SIZE, max_bad=0.1, holdout=0.3
    )


def tars_of(root, contents):
    root.mkdir(exist_ok=True)
    members = [
        part
        for number, content in enumerate(contents)
        for part in ((f"{number:02d}.png", content), (f"{number:02d}.txt", b"picture %d" % number))
    ]
    write_tar(root / "x.tar", members)
    return CaptionedTarsData(
        source="captioned_tars", path=str(root), size=SIZE, max_bad=0.1, holdout=0.3
    )


KINDS = {
    "image_folder": (folder_of, open_folder),
    "captioned_folder": (captioned_folder_of, open_captioned_folder),
    "captioned_tars": (tars_of, open_tars),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def good(count=COUNT):
    return [encoded(noise(100 + number)) for number in range(count)]


def to_uint8_pixels(folder):
    """Return the bytes of all samples as a set, independent of their order."""
    found = []
    for split in ("train", "heldout"):
        shards = SampleShards(folder, split)
        x = shards.read(np.arange(len(shards))).x
        found += [row.numpy().tobytes() for row in x]
    return found


def write(kind, root, contents, out):
    make, open_source = KINDS[kind]
    config = make(root, contents)
    out.mkdir()
    return write_dataset(out, open_source(config, 0), config)


@pytest.fixture(scope="module")
def all_good(tmp_path_factory):
    """The pixels of a data set of each kind without bad samples."""
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        info = write(kind, folder / "in", good(), folder / "out")
        assert not (folder / "out" / REPORT).exists()
        assert sum(split.count for split in info.splits.values()) == COUNT
        found[kind] = set(to_uint8_pixels(folder / "out"))
    return found


@every_kind
@pytest.mark.parametrize("case", BAD)
def test_a_bad_image_is_set_aside_and_nothing_else_is(tmp_path, all_good, kind, case):
    content, complaint = BAD[case]
    contents = good()
    contents[7] = content
    info = write(kind, tmp_path / "in", contents, tmp_path / "out")
    assert sum(split.count for split in info.splits.values()) == COUNT - 1
    assert info == write(kind, tmp_path / "moved", contents, tmp_path / "again")
    (row,) = json.loads((tmp_path / "out" / REPORT).read_text())
    assert "07" in row["sample"]
    assert re.search(complaint, row["reason"])
    assert str(tmp_path) not in json.dumps(row)
    for file in (tmp_path / "out").rglob("*.*"):
        again = tmp_path / "again" / file.relative_to(tmp_path / "out")
        assert file.read_bytes() == again.read_bytes()
    kept, everything = set(to_uint8_pixels(tmp_path / "out")), all_good[kind]
    assert len(everything - kept) == 1
    assert kept < everything


@pytest.mark.parametrize("case", ODD)
def test_odd_images_are_used_and_not_set_aside(tmp_path, case):
    contents = good()
    contents[7] = ODD[case]
    info = write("image_folder", tmp_path / "in", contents, tmp_path / "out")
    assert sum(split.count for split in info.splits.values()) == COUNT
    assert not (tmp_path / "out" / REPORT).exists()


@every_kind
@pytest.mark.parametrize("case", ["text", "cut png"])
def test_beyond_the_budget_the_first_few_are_named_and_nothing_is_described(tmp_path, kind, case):
    contents = good()
    for place in (3, 5, 11, 12, 19):
        contents[place] = BAD[case][0]
    with pytest.raises(DataError) as caught:
        write(kind, tmp_path / "in", contents, tmp_path / "out")
    said = str(caught.value)
    assert re.search(r"of 20 samples .* data.max_bad: 0.1 allows 2", said)
    assert len(re.findall("cannot be read", said)) == 3
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_one_in_a_thousand_or_a_few_is_the_default_and_zero_is_allowed():
    for fields in (
        ImageFolderData(source="image_folder", path="x", size=8),
        CaptionedTarsData(source="captioned_tars", path="x", size=8),
        CaptionedFolderData(source="captioned_folder", path="x", size=8),
    ):
        assert fields.max_bad == 0.001
    for total, allowed in ((19, 0), (20, 1), (99, 4), (600, 5), (5999, 5), (6000, 6)):
        Quarantine(0.001, "", [SampleError("x", " is bad")] * allowed).check(total)
        with pytest.raises(DataError, match=f"allows {allowed};"):
            Quarantine(0.001, "", [SampleError("x", " is bad")] * (allowed + 1)).check(total)
    with pytest.raises(DataError, match="1 of 1000000 samples"):
        Quarantine(0.0, "", [SampleError("x", " is bad")]).check(10**6)


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ([("b.png", encoded(noise(1)))], "has no caption"),
        ([("b.txt", b"words")], "a caption but no image"),
        ([("b.png", encoded(noise(1))), ("b.txt", b"x" * 10 * 2**20)], "has 10485760 bytes"),
        ([("b.png", encoded(noise(1))), ("b.json", b"[" * 10**6)], "is not JSON"),
        ([("b.png", encoded(noise(1))), ("b.json", b"1" * 10**6)], "is not JSON"),
        ([("b.png", encoded(noise(1))), ("b.txt", b"\xff\xfe")], "not UTF-8"),
        (
            [("b.png", encoded(noise(1))), ("b.json", b'{"caption": "\\ud800"}')],
            "not valid Unicode",
        ),
    ],
)
def test_a_caption_that_cannot_be_used_sets_its_sample_aside(tmp_path, members, complaint):
    config = tars_of(tmp_path, good())
    write_tar(tmp_path / "y.tar", members)
    source = open_tars(config, 0)
    (error,) = source.quarantine.found
    assert source.total == COUNT + 1
    assert sum(map(len, source.splits.values())) == COUNT
    assert source.quarantine.place(error).startswith("y.tar, sample 'b'")
    assert complaint in error.reason


def test_captions_of_any_script_are_kept_exactly(tmp_path):
    said = [
        "emoji 🐕‍🦺",
        "ימין ושמאל \u202e",
        "two\nlines",
        "a/b",
        "../../etc",
        "%s {0} \\n",
        "e\u0301",
    ]
    members = [
        part
        for number, text in enumerate(said)
        for part in ((f"{number}.png", encoded(noise(number))), (f"{number}.txt", text.encode()))
    ]
    write_tar(tmp_path / "x.tar", members)
    config = CaptionedTarsData(source="captioned_tars", path=str(tmp_path), size=SIZE)
    out = tmp_path / "out"
    out.mkdir()
    write_dataset(out, open_tars(config, 0), config)
    found = []
    for split in ("train", "heldout"):
        shards = SampleShards(out, split)
        found += [caption.text for caption in shards.captions(np.arange(len(shards)))]
    assert sorted(found) == sorted(said)
    names = {path.name for path in out.rglob("*")}
    assert names == {
        *("dataset.json", "train", "heldout"),
        *("shard-00000.tar", "shard-00000.index.json"),
    }


def test_a_class_that_is_left_empty_is_refused(tmp_path):
    config = folder_of(tmp_path / "in", good(4)).model_copy(update={"max_bad": 0.5})
    for image in sorted((tmp_path / "in" / "a").iterdir())[:1]:
        image.write_bytes(BAD["cut png"][0])
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"class 'a' has no usable sample in"):
        write_dataset(tmp_path / "out", open_folder(config, 0), config)


def test_too_few_that_are_held_out_are_refused(tmp_path):
    config = tars_of(tmp_path / "in", [BAD["cut png"][0] + bytes([n]) for n in range(6)])
    config = config.model_copy(update={"max_bad": 0.99})
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"train: 0 samples are usable, 1 are needed"):
        write_dataset(tmp_path / "out", open_tars(config, 0), config)


def test_the_budget_is_part_of_what_the_data_is(tmp_path):
    config = folder_of(tmp_path, good())
    other = config.model_copy(update={"max_bad": 0.2})
    network = UNetConfig(family="unet")
    assert identify(config, network) != identify(other, network)


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error")])
def test_faults_of_the_machine_do_not_quarantine_samples(tmp_path, monkeypatch, error):
    config = folder_of(tmp_path, good())

    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr(images.Image, "open", fail)
    with pytest.raises(DataError, match="run again") as caught:
        open_folder(config, 0)
    assert not isinstance(caught.value, SampleError)
