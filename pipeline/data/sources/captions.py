"""Captions of images: the text, and the original size and crop of the image."""

import json
from typing import Annotated

from pydantic import AliasChoices, Field, NonNegativeInt, PositiveInt

from pipeline.documents import Document
from pipeline.errors import SampleError

MAX_TEXT_BYTES = 2**20
"""Maximum size of a caption and of a JSON caption file; larger files are not captions."""


class Caption(Document):
    """The caption of one image; in a shard the member `json`, with the text as "caption".

    Attributes:
        text: the text of the caption.
        original_size: (height, width) of the upright image before scaling, in pixels.
        crop: (top, left) of the crop in the scaled image, in pixels.

    Source: SDXL (Podell et al. 2023, arXiv 2307.01952), section 2.2: sizes and crops as conditions.
    """

    text: Annotated[
        str,
        Field(
            min_length=1,
            validation_alias=AliasChoices("text", "caption"),
            serialization_alias="caption",
        ),
    ]
    original_size: tuple[PositiveInt, PositiveInt]
    crop: tuple[NonNegativeInt, NonNegativeInt]

    def to_json(self) -> bytes:
        """Serialise the caption as a shard member, UTF-8 JSON."""
        return self.model_dump_json(by_alias=True).encode()


def clean_text(text: object, name: str) -> str:
    """Validate a caption and strip surrounding white space.

    Args:
        text: the value read as caption.
        name: name of the sample for error messages.

    Raises:
        SampleError: the value is not text, empty, too long, or not valid Unicode.
    """
    if not isinstance(text, str):
        raise SampleError(
            name, f": the caption is {type(text).__name__}, not text; write a caption"
        )
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise SampleError(name, ": the caption is not valid Unicode; rewrite it") from None
    if length > MAX_TEXT_BYTES:
        raise SampleError(name, f": the caption has {length} bytes; write at most {MAX_TEXT_BYTES}")
    if not text.strip():
        raise SampleError(name, ": the caption is empty; write one, or remove the image")
    return text.strip()


def parse_json(content: str | bytes, name: str) -> dict[str, object]:
    """Parse a JSON object.

    Raises:
        SampleError: the content is not a JSON object.
    """
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deep
        raise SampleError(name, f" is not JSON ({error}); fix or remove it") from None
    if not isinstance(tree, dict):
        raise SampleError(name, f" holds a {type(tree).__name__}, not a JSON object; fix it")
    return tree
