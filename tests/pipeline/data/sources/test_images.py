"""Image files that are small on disk and large in memory, measured in a child process."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import ImageFile

from pipeline.data.sources.images import check_header

_CHILD = """
import io, resource, sys
from pipeline.data.sources.images import check_header, decode_upright
from pipeline.errors import DataError
from tests.support.odd_images import bomb
content = bomb(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    check_header(io.BytesIO(content), "it")
    decode_upright(io.BytesIO(content), "it", "RGB")
except DataError as error:
    print(error)
else:
    print("decoded")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    ("kind", "said", "megabytes"),
    [
        ("png of 20000 x 20000", "decompression bomb", 10),
        ("webp of 16383 x 16383", "exceeds limit", 10),
        ("png with a gigabyte of text", "Decompressed data too large", 80),
        # what is let through: 4 bytes for each of the pixels that are allowed, and a decoder
        ("png of 8192 x 8192", "decoded", 300),
    ],
)
@pytest.mark.slow
def test_a_decompression_bomb_costs_no_more_than_the_largest_allowed_image(kind, said, megabytes):
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, kind],
        cwd=Path(__file__).resolve().parents[4],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    answer, grown = done.stdout.splitlines()
    assert said in answer
    assert int(grown) < megabytes


def test_cut_images_are_never_filled_up():
    assert check_header.__module__ == "pipeline.data.sources.images"
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
