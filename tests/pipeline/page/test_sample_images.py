"""Sample grids of the page: large samples are downscaled, and no image is stored twice."""

import base64
import io
from dataclasses import replace

import numpy as np
from PIL import Image

from pipeline.evaluation.documents import SampleSpec
from pipeline.page.render import render
from pipeline.page.sample_images import build_sample_grids
from pipeline.page.view_model import SampleGrids
from tests.pipeline.page.test_summary import report
from tests.support.page_content import page

COLUMNS, MOST = 8, 128
LABELS = np.repeat([0, 1], COLUMNS)
GAP = round(0.1 * MOST)


def noise(cell: SampleSpec, height: int = MOST, width: int = MOST) -> np.ndarray:
    """Return noise that differs by network and does not compress as PNG."""
    random = np.random.default_rng([cell.steps, int(cell.w)])
    return random.uniform(-1, 1, (len(LABELS), height, width, 1)).astype(np.float32)


def blown_up(cell: SampleSpec, height: int = MOST, width: int = MOST) -> np.ndarray:
    """Return the same noise enlarged four times per side."""
    return noise(cell, height, width).repeat(4, 1).repeat(4, 2)


def look(large: bool, w: float = 1.0, height: int = MOST, width: int = MOST) -> SampleGrids:
    drawn = report().model_copy(update={"class_names": ("a", "b")})
    draw = blown_up if large else noise
    found = build_sample_grids(drawn, w, LABELS, lambda cell: draw(cell, height, width))
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
