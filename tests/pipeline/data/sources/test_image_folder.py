"""A folder of images: accepted files, refusals by name, and pixel values."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.config import ImageFolderData
from pipeline.data.sources.image_folder import identify_folder, open_folder
from pipeline.errors import DataError

GRADIENT = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def config_of(folder, **changes):
    fields = {"source": "image_folder", "path": str(folder), "size": 8, "channels": 1, **changes}
    return ImageFolderData(**fields)


def save(path, pixels=GRADIENT, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    for name in ("b", "a"):
        for number in range(3):
            save(tmp_path / name / f"{number}.png", GRADIENT + ord(name) % 3 + number)
    return tmp_path


def refusal(folder, **changes):
    """Return the error of opening, which every other use of the folder must raise too."""
    said = set()
    for ask in (lambda config: open_folder(config, 0), identify_folder):
        with pytest.raises(DataError) as caught:
            ask(config_of(folder, **changes))
        said.add(str(caught.value))
    (once,) = said
    return once


def test_classes_and_images_are_sorted_and_pixels_kept_and_hidden_files_not_seen(folder):
    (folder / ".git").mkdir()
    (folder / "a" / ".DS_Store").write_bytes(b"x")
    source = open_folder(config_of(folder), 0)
    assert source.class_names == ("a", "b")
    assert source.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.latent_shape == (1, 8, 8)
    for row in range(6):
        offset = ord("ab"[row // 3]) % 3 + row % 3
        assert np.array_equal(source.read(row)[0], GRADIENT + offset)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp"])
def test_the_formats_are_png_jpeg_and_webp(folder, suffix):
    exact = {"lossless": True} if suffix == ".webp" else {}
    pixels = np.full((8, 8, 3), (200, 30, 90), np.uint8)
    (folder / "a" / "0.png").unlink()
    save(folder / "a" / f"0{suffix}", pixels, **exact)
    for number, other in enumerate((*folder.glob("a/[12].png"), *folder.glob("b/*.png"))):
        save(other, pixels + np.uint8(number + 1))
    read = open_folder(config_of(folder, channels=3), 0).read(0)
    assert read.shape == (3, 8, 8)
    assert np.abs(read.astype(int) - pixels.transpose(2, 0, 1)).max() <= 3  # JPEG's own loss


def test_unicode_class_names_are_kept_exactly(tmp_path):
    names = ["Ωmega", "hund 🐕", "line\nbreak", "שלום", "e\u0301", "\u00e9", "..a", "%09d"]
    for place, name in enumerate(names):
        for number in range(2):
            save(tmp_path / name / f"{number}.png", GRADIENT + np.uint8(2 * place + number))
    seen = [name for name in names if not name.startswith(".")]
    assert open_folder(config_of(tmp_path), 0).class_names == tuple(sorted(seen))


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["10", "0", "2", "1"], ("0", "1", "2", "10")),
        (["08", "10", "9"], ("08", "9", "10")),
        (["10", "2", "ten"], ("10", "2", "ten")),
    ],
)
def test_classes_that_are_all_numbers_are_in_numeric_order(tmp_path, names, ordered):
    for place, name in enumerate(names):
        for number in range(2):
            save(tmp_path / name / f"{number}.png", GRADIENT + np.uint8(2 * place + number))
    source = open_folder(config_of(tmp_path), 0)
    assert source.class_names == ordered
    for row, label in enumerate(source.labels):
        place = names.index(ordered[label])
        assert np.array_equal(source.read(row)[0], GRADIENT + np.uint8(2 * place + row % 2))


def test_two_classes_of_the_same_number_are_refused(folder):
    for name in ("a", "b"):
        (folder / name).rename(folder / {"a": "1", "b": "01"}[name])
    message = refusal(folder)
    assert str(folder) in message
    assert "classes 01 and 1 are the same number; rename or join them" in message


def test_exif_orientation_is_applied(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to see it upright
    save(folder / "a" / "0.png", exif=exif)
    turned = open_folder(config_of(folder), 0).read(0)[0]
    assert np.array_equal(turned, np.rot90(GRADIENT, -1))


def test_crop_scales_the_short_side_and_keeps_the_centre(folder):
    wide = np.zeros((16, 48), np.uint8)
    wide[:, 16:32] = 255
    save(folder / "a" / "0.png", wide)
    pixels = open_folder(config_of(folder, resize="crop"), 0).read(0)
    assert pixels.shape == (1, 8, 8)
    assert pixels.min() > 235  # the filter sees a little of what lies outside
    assert pixels[:, :, 2:-2].min() > 250


def test_refuse_names_the_first_image_of_another_size(folder):
    save(folder / "a" / "2.png", np.zeros((9, 8), np.uint8))
    save(folder / "b" / "0.png", np.zeros((3, 3), np.uint8))
    assert re.search(r"a/2\.png is 8x9, expected 8x8.*data\.resize: crop", refusal(folder))


@pytest.mark.parametrize(
    ("side", "complaint"),
    [(10000, "is 10000x10000, more than 67108864 pixels"), (20000, "decompression bomb")],
)
def test_a_header_bomb_is_refused_before_it_is_decoded(folder, side, complaint):
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    empty = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    (folder / "a" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + empty)
    assert re.search(rf"a/0\.png .*{complaint}", refusal(folder, resize="crop"))


def saved(pixels, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


ANIMATED = {"save_all": True, "append_images": [Image.fromarray(GRADIENT.T.copy())]}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "cannot be read"),
        (b"not an image", "cannot be read"),
        (b"GIF89a" + bytes(20), "cannot be read"),
        (saved(np.full((8, 8), 40000, np.uint16)), "has more than 8 bits"),  # and not clipped
        (saved(GRADIENT, **ANIMATED), "is animated"),
    ],
)
def test_a_file_that_is_no_plain_image_is_named(folder, content, complaint):
    (folder / "a" / "1.png").write_bytes(content)
    assert re.search(rf"a/1\.png {complaint}", refusal(folder))


def test_a_cut_image_is_named_when_it_is_decoded(folder):
    path = save(folder / "a" / "1.png", np.random.default_rng(0).integers(0, 255, (8, 8), np.uint8))
    path.write_bytes(path.read_bytes()[:70])
    source = open_folder(config_of(folder), 0)
    with pytest.raises(DataError, match=r"a/1\.png cannot be read"):
        source.read(1)


def test_what_is_missing_is_named(tmp_path):
    assert re.search("nowhere is not a folder", refusal(tmp_path / "nowhere"))
    assert re.search("has no sub-folders", refusal(tmp_path))
    (tmp_path / "empty").mkdir()
    assert re.search("empty holds no images", refusal(tmp_path))


@pytest.mark.parametrize("stranger", ["notes.txt", "data.pickle", "deeper/1.png"])
def test_other_files_among_the_images_are_refused(folder, stranger):
    path = folder / "a" / stranger
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    assert re.search(rf"a/{stranger.split('/')[0]} is not a supported image file", refusal(folder))


def test_the_identity_is_the_content_wherever_it_lies(folder):
    before = identify_folder(config_of(folder))
    moved = folder.rename(folder.with_name("elsewhere"))
    assert identify_folder(config_of(moved)) == before
    save(moved / "b" / "0.png", GRADIENT.T.copy())
    assert identify_folder(config_of(moved)) != before
