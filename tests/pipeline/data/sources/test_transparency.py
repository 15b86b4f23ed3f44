"""Transparent pixels: filled before scaling in every source, counted, or refused."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from pipeline.config import CaptionedFolderData, CaptionedTarsData, ImageFolderData
from pipeline.data.sources.captioned_folder import open_captioned_folder
from pipeline.data.sources.captioned_tars import open_tars
from pipeline.data.sources.image_folder import open_folder
from pipeline.data.sources.images import crop_centre, decode_upright
from pipeline.errors import DataError

SIDE = 8
FILLS = {"white": 255, "black": 0, "grey": 128}


def holed(form, *, opaque=False):
    """An image whose left half is transparent over black, and whose right half is grey 200."""
    inked = np.zeros((SIDE, SIDE), np.uint8)
    inked[:, SIDE // 2 :] = 200
    alpha = np.full((SIDE, SIDE), 255, np.uint8) if opaque else np.where(inked, 255, 0)
    grey, alpha = Image.fromarray(inked), Image.fromarray(alpha.astype(np.uint8))
    options, kind = {}, "PNG"
    if form in ("RGBA", "webp"):
        image, kind = Image.merge("RGBA", (grey, grey, grey, alpha)), {"RGBA": "PNG"}.get(form)
        options = {"lossless": True, "exact": True} if form == "webp" else {}
    elif form == "LA":
        image = Image.merge("LA", (grey, alpha))
    elif form == "RGB with a transparent colour":
        image, options = grey.convert("RGB"), {"transparency": (0, 0, 0)}
    elif form == "grey with a transparent level":
        image, options = grey, {"transparency": 0}
    else:
        image = Image.fromarray((inked > 0).astype(np.uint8)).convert("P")
        image.putdata((inked > 0).astype(np.uint8).ravel().tolist())
        image.putpalette([0, 0, 0, 200, 200, 200])
        options = {"transparency": b"\x00\xff" if form == "palette with alphas" else 0}
    buffer = io.BytesIO()
    image.save(buffer, kind or "WEBP", **options)
    return buffer.getvalue()


FORMS = [
    *("RGBA", "webp", "LA", "RGB with a transparent colour", "grey with a transparent level"),
    *("palette with alphas", "palette with a transparent index"),
]


@pytest.mark.parametrize("background", FILLS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_transparent_gets_the_background(form, mode, background):
    image, was_transparent = decode_upright(io.BytesIO(holed(form)), "it", mode, background)
    assert (image.mode, was_transparent) == (mode, True)
    pixels = np.asarray(image)
    assert (pixels[:, : SIDE // 2] == FILLS[background]).all()
    assert (pixels[:, SIDE // 2 :] == 200).all()


@pytest.mark.parametrize("form", ["RGBA", "LA"])
def test_an_alpha_channel_without_a_hole_changes_nothing(form):
    content = io.BytesIO(holed(form, opaque=True))
    image, was_transparent = decode_upright(content, "it", "RGB", "white")
    assert not was_transparent
    assert np.array_equal(image, Image.open(content).convert("RGB"))


def test_the_background_is_there_before_scaling():
    """Black under a hole would darken the edge of what is white on white."""
    layers = np.zeros((32, 32, 4), np.uint8)
    layers[:, 13:] = 255
    buffer = io.BytesIO()
    Image.fromarray(layers).save(buffer, "PNG")
    image, _ = decode_upright(buffer, "it", "RGB", "white")
    assert (crop_centre(image, SIDE).pixels == 255).all()


def pictures(holes):
    """Named images, some with holes, all different."""
    for number in range(8):
        pixels = np.full((SIDE, SIDE, 4), 10 * number, np.uint8)
        pixels[..., 3] = 255
        if number < holes:
            pixels[0, 0] = (0, 0, 0, 0)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        yield f"{number}.png", buffer.getvalue()


def as_folder(place, content, alpha):
    for number, (name, image) in enumerate(content):
        (place / "ab"[number % 2]).mkdir(exist_ok=True)
        (place / "ab"[number % 2] / name).write_bytes(image)
    return open_folder(
        ImageFolderData(source="image_folder", path=str(place), size=SIDE, alpha=alpha), 0
    )


def as_table(place, content, alpha):
    rows = []
    for name, image in content:
        (place / name).write_bytes(image)
        rows.append(json.dumps({"file_name": name, "text": "it"}))
    (place / "metadata.jsonl").write_text("\n".join(rows))
    config = CaptionedFolderData(source="captioned_folder", path=str(place), size=SIDE, alpha=alpha)
    return open_captioned_folder(config, 0)


def as_tars(place, content, alpha):
    with tarfile.open(place / "0.tar", "w") as archive:
        for name, image in content:
            for member, data in ((name, image), (name.replace("png", "txt"), b"it")):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return open_tars(
        CaptionedTarsData(source="captioned_tars", path=str(place), size=SIDE, alpha=alpha), 0
    )


SOURCES = pytest.mark.parametrize("source", [as_folder, as_table, as_tars])


@SOURCES
@pytest.mark.parametrize("alpha", FILLS)
def test_every_source_fills_counts_and_names_the_first(source, alpha, tmp_path):
    opened = source(tmp_path, pictures(3), alpha)
    (listed,) = opened.findings.sentences
    assert listed.startswith("8 of 8 images have an alpha channel (first: ")
    assert listed.endswith(f"; transparent pixels are filled with {alpha} (data.alpha).")
    corners = [int(opened.read(index)[0, 0, 0]) for index in range(8)]
    assert corners.count(FILLS[alpha]) >= 3
    (decoded,) = opened.findings.sentences
    assert decoded.startswith("3 of 8 images have transparent pixels (first: ")
    assert str(tmp_path) not in decoded
    assert decoded.endswith(f", which are filled with {alpha} (data.alpha).")


@SOURCES
def test_refuse_names_all_that_are_transparent_before_any_is_used(source, tmp_path):
    message = (
        r"data\.alpha: refuse, but 5 image\(s\) have transparent pixels: .*, \.\.\.; fill them"
    )
    with pytest.raises(DataError, match=message):
        source(tmp_path, pictures(5), "refuse")


@SOURCES
def test_refuse_lets_an_alpha_channel_without_a_hole_pass(source, tmp_path):
    opened = source(tmp_path, pictures(0), "refuse")
    assert opened.read(0).shape == (3, SIDE, SIDE)
    assert [opened.read(index) is not None for index in range(8)] == [True] * 8
    assert opened.findings.sentences == ()
