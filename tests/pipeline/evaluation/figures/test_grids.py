"""Sample grids: selection, placement and unsupported shapes."""

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.evaluation.figures.grids import (
    Column,
    draw_prompts,
    draw_samples,
    sample_rows,
    tile,
    unsupported_shape_reason,
)
from pipeline.sampling.conditions import Conditions


def test_a_tile_holds_each_image_enlarged_in_its_place() -> None:
    shades = np.linspace(-1, 1, 6, dtype=np.float32)
    images = np.tile(shades.reshape(6, 1, 1, 1), (1, 8, 8, 1))
    canvas = tile(images, [[0, 1, 2], [3, 4]])
    step = (canvas.shape[0] + 1) // 2
    assert canvas[0, 0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(canvas[step + 3, 3], 0.6, atol=1e-6)  # image 3 of values .2
    np.testing.assert_allclose(canvas[-1, -1], 1)  # no image there


def test_rows_of_a_grid_are_classes_evenly_chosen() -> None:
    assert sample_rows(np.array([0, 0, 0, 1, 1]), 2) == [[0, 1], [3, 4]]
    many = sample_rows(np.repeat(np.arange(100), 2), 1)
    assert len(many) == 12
    assert many[0] == [0]
    assert many[-1] == [198]


def test_unsupported_shapes_have_a_reason() -> None:
    assert unsupported_shape_reason((8, 8, 1)) is None
    assert unsupported_shape_reason((1, 1, 2)) is None
    assert "1x1x5" in str(unsupported_shape_reason((1, 1, 5)))
    assert "16x1 is not an image" in str(unsupported_shape_reason((16, 1)))
    assert "4x8x8x3 is not an image" in str(unsupported_shape_reason((4, 8, 8, 3)))


def test_dollars_are_not_mathematics(tmp_path: Path) -> None:
    said = ("#1 $9 and 5% of $8, 100% $$ off", "a $5 and a $10 bill")
    images = np.zeros((2, 8, 8, 1), np.float32)
    columns = [Column("teacher", 1, images, student=False)]
    labels = np.array([0, 1])
    draw_prompts("test", columns, Conditions(labels, said), tmp_path / "prompts.png")
    draw_samples("test", columns, labels, said, tmp_path / "samples.png")
    points = [Column("teacher", 1, np.zeros((2, 1, 1, 2), np.float32), student=False)]
    draw_samples("test", points, labels, said, tmp_path / "points.png")
    for name in ("prompts", "samples", "points"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert min(picture.size) > 100
