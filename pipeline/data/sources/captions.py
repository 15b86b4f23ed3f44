"""What a captioned image is told by: a sentence, and what was done to fit the image."""

import json
from typing import Annotated

from pydantic import AliasChoices, Field, NonNegativeInt, PositiveInt

from pipeline.documents import Document
from pipeline.errors import SampleError

MAX_TEXT_BYTES = 2**20
"""No caption and no table row is longer; what is longer is no caption but another file."""


class Caption(Document):
    """The caption of one image; in a shard the member `json`, where the text is called "caption".

    Attributes:
        text: the sentence.
        original_size: (height, width) of the upright image before it was scaled.
        crop: (top, left) of the crop in the scaled image.

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
        """The content of a shard's member, UTF-8."""
        return self.model_dump_json(by_alias=True).encode()


def clean_text(text: object, name: str) -> str:
    """A caption without blanks around it.

    Args:
        text: what stands where the caption should.
        name: what errors call it.

    Raises:
        SampleError: it is no text, empty, too long, or not valid Unicode.
    """
    if not isinstance(text, str):
        raise SampleError(
            name, f": the caption is {type(text).__name__}, not text; write a sentence"
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
    """A JSON object of keys and values.

    Raises:
        SampleError: the content is not one.
    """
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested without end
        raise SampleError(name, f" is not JSON ({error}); mend it or remove it") from None
    if not isinstance(tree, dict):
        raise SampleError(name, f" holds {type(tree).__name__}, not keys and values; mend it")
    return tree
