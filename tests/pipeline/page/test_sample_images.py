"""Samples on a page: reduced where they are large, and no bytes of a picture twice."""

import base64
import io
from dataclasses import replace

import numpy as np
from PIL import Image

from pipeline.evaluation.documents import Cell
from pipeline.page.render import render
from pipeline.page.sample_images import look_at
from pipeline.page.view_model import Look
from tests.pipeline.page.test_summary import report
from tests.support.page_content import page

COLUMNS, MOST = 8, 128
LABELS = np.repeat([0, 1], COLUMNS)
GAP = round(0.1 * MOST)


def noise(cell: Cell, height: int = MOST, width: int = MOST) -> np.ndarray:
    """Of every network its own: nothing a PNG could make smaller."""
    random = np.random.default_rng([cell.steps, int(cell.w)])
    return random.uniform(-1, 1, (len(LABELS), height, width, 1)).astype(np.float32)


def blown_up(cell: Cell, height: int = MOST, width: int = MOST) -> np.ndarray:
    """The same four times as large a side."""
    return noise(cell, height, width).repeat(4, 1).repeat(4, 2)


def look(large: bool, w: float = 1.0, height: int = MOST, width: int = MOST) -> Look:
    drawn = report().model_copy(update={"class_names": ("a", "b")})
    draw = blown_up if large else noise
    found = look_at(drawn, w, LABELS, lambda cell: draw(cell, height, width))
    assert found is not None
    return found


def size(source: str) -> tuple[int, int]:
    content = base64.b64decode(source.partition("base64,")[2])
    return Image.open(io.BytesIO(content)).size


def test_large_samples_are_the_means_of_their_areas() -> None:
    assert look(large=True) == look(large=False)


def test_samples_keep_their_shape() -> None:
    found = look(large=True, height=MOST // 2)
    assert size(found.teacher.source) == (
        *(COLUMNS * MOST + (COLUMNS - 1) * (GAP // 2), 2 * MOST // 2 + GAP // 2),
    )


def test_a_page_of_large_samples_is_no_larger_than_its_tiles() -> None:
    plain = replace(page("r"), looks=())
    looks = tuple(look(large=True, w=w) for w in (1.0, 3.0))
    grown = len(render(replace(plain, looks=looks))) - len(render(plain))
    width, height = size(looks[0].teacher.source)
    assert (width, height) == (COLUMNS * (MOST + GAP) - GAP, 2 * (MOST + GAP) - GAP)
    networks = sum(1 + len(each.others) for each in looks)
    # a byte a pixel and one a line, 1 kB of colours and heads (a palette is 768), four letters to
    # three bytes; and 2 kB of words
    picture = (height * (width + 1) + 1000) * 4 / 3 + 2000
    assert networks == 6
    assert grown < networks * picture
