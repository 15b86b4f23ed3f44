"""User input with changed bytes: a result or a refusal, without side effects."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.config import CaptionedTarsData, Recipe
from pipeline.data.sources.captioned_tars import open_tars
from pipeline.data.sources.loaded_source import LoadedSource
from pipeline.documents import build, parse_yaml
from pipeline.errors import SampleError
from pipeline.models.directory.pipeline_directory import read_pipeline
from tests.support.cases import RECIPES
from tests.support.tiny_pipelines import tiny_pipeline
from tests.support.watching import refusal_of

MANY = 3000
TEXTS = [path.read_text(encoding="utf-8") for path in RECIPES]
PIECES = [
    *("!!python/object/apply:os.system ['touch hacked']", "&a ", "*a", "{", "[", "1e-4", "on", "~"),
    *("- ", ": ", "\n", "\t", "\x00", "9" * 400, "../" * 9, "pipe:touch hacked", "\ud7ff", "? "),
    *("!!binary a", "2026-99-99", "1:30", ".inf", "'", '"', "<<: ", "% ", "@", "`"),
]
SAMPLES = 6


def changed(content: bytes, chance: Random) -> bytes:
    """Flip, drop, duplicate or blank some bytes."""
    pieces = bytearray(content)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(max(1, len(pieces)))
        length = chance.choice((1, 1, 4, 64, 512))
        match chance.randrange(5):
            case 0:
                pieces[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del pieces[at : at + length]
            case 2:
                pieces[at:at] = pieces[at : at + length]
            case 3:
                pieces[at : at + length] = bytes(length)
            case _:
                del pieces[at:]
    return bytes(pieces)


def is_read_or_named(work: Callable[[], object], name: str) -> bool:
    """The input is accepted or refused with its name; anything else fails the test."""
    said = refusal_of(work)
    return said is None or name in said


def reads_recipe(text: str) -> bool:
    return is_read_or_named(lambda: build(Recipe, parse_yaml(text, "x.yaml"), "x.yaml"), "x.yaml")


def spoil_recipe(chance: Random) -> str:
    text = chance.choice(TEXTS)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(PIECES) + text[at + chance.randrange(6) :]
    return text


def make_tar(path: Path) -> bytes:
    random = np.random.default_rng(0)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(SAMPLES):
            image = io.BytesIO()
            pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(image, ("PNG", "JPEG", "WEBP")[number % 3])
            key = "k" * 120 if number == 3 else f"{number:03d}"  # one with a pax header
            suffix = ("png", "jpg", "webp")[number % 3]
            for kind, content in ((suffix, image.getvalue()), ("txt", b"a picture")):
                info = tarfile.TarInfo(f"{key}.{kind}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path.read_bytes()


def reads_tar(folder: Path, content: bytes) -> bool:
    """Every sample is used or quarantined, or the tar is refused; none is lost silently."""
    (folder / "x.tar").write_bytes(content)
    config = CaptionedTarsData(
        source="captioned_tars", path=str(folder), size=8, max_bad=0.99, holdout=0.5
    )
    return is_read_or_named(lambda: use_all(open_tars(config, 0)), str(folder))


def use_all(source: LoadedSource) -> None:
    assert source.total >= SAMPLES
    for row in range(source.total - len(source.quarantine)):
        try:
            assert source.read(row).shape == (3, 8, 8)
        except SampleError as error:
            source.quarantine.found.append(error)
    assert all("x.tar" in error.sample for error in source.quarantine.found)


@pytest.fixture(scope="module")
def tar(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp("tar")
    return folder, make_tar(folder / "x.tar")


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("pipelines")
    return [tiny_pipeline(kind, root / kind) for kind in ("sd", "sd3")]


def reads_spoiled_pipeline(directory: Path, chance: Random) -> bool:
    """A pipeline with one of its JSON files changed is described, or refused."""
    path = chance.choice(sorted(directory.rglob("*.json")))
    content = path.read_bytes()
    path.write_bytes(changed(content, chance))
    try:
        return is_read_or_named(lambda: read_pipeline(directory), directory.name)
    finally:
        path.write_bytes(content)


@given(seed=st.integers(0, 2**32))
def test_a_spoiled_recipe_is_refused_or_a_recipe(seed: int) -> None:
    assert reads_recipe(spoil_recipe(Random(seed)))


@given(seed=st.integers(0, 2**32))
def test_a_spoiled_tar_loses_no_sample_silently(tar: tuple[Path, bytes], seed: int) -> None:
    assert reads_tar(tar[0], changed(tar[1], Random(seed)))


@given(seed=st.integers(0, 2**32))
def test_a_spoiled_pipeline_is_refused_or_described(pipelines: list[Path], seed: int) -> None:
    chance = Random(seed)
    assert reads_spoiled_pipeline(chance.choice(pipelines), chance)


@pytest.mark.nightly
def test_thousands_of_spoiled_recipes() -> None:
    for seed in range(MANY):
        assert reads_recipe(spoil_recipe(Random(seed)))


@pytest.mark.nightly
def test_thousands_of_spoiled_tars(tar: tuple[Path, bytes]) -> None:
    for seed in range(MANY):
        assert reads_tar(tar[0], changed(tar[1], Random(seed)))


@pytest.mark.nightly
def test_thousands_of_spoiled_pipelines(pipelines: list[Path]) -> None:
    for seed in range(MANY):
        chance = Random(seed)
        assert reads_spoiled_pipeline(chance.choice(pipelines), chance)
