"""The page of all keys that is generated from the schemas."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.config.reference import json_schema, to_markdown, write_page
from pipeline.documents import Document


class Square(Document):
    """A square."""

    kind: Literal["square"]
    side: float = Field(1.5, gt=0, le=9, description="Length of a side | in metres.")


class Circle(Document):
    """A circle."""

    kind: Literal["circle"]
    radii: tuple[PositiveInt, ...]


class Paint(Document):
    """Paint,
    in one colour.

    It dries.
    """

    colour: Literal["red", "blue"] = "red"
    coats: PositiveInt | tuple[PositiveInt, ...] = 2


class Drawing(Document):
    """A drawing."""

    name: str = Field(pattern="^[a-z]+$")
    shape: Annotated[Square | Circle, Field(discriminator="kind")]
    paint: Paint = Paint()
    frame: Paint | None = None
    notes: dict[str, Paint] = {}


PAGE = """\
# A drawing to make

A drawing.

| key | type or values | default | description |
|---|---|---|---|
| `name` | string, matches `^[a-z]+$` | required |  |

## `shape` with `kind: square`

A square.

| key | type or values | default | description |
|---|---|---|---|
| `kind` | `square` | required |  |
| `side` | number, above 0, at most 9 | `1.5` | Length of a side \\| in metres. |

## `shape` with `kind: circle`

A circle.

| key | type or values | default | description |
|---|---|---|---|
| `kind` | `circle` | required |  |
| `radii` | list of integer, above 0 | required |  |

## `paint`

Paint, in one colour.

It dries.

| key | type or values | default | description |
|---|---|---|---|
| `colour` | `red`, `blue` | `"red"` |  |
| `coats` | integer, above 0 or list of integer, above 0 | `2` |  |

## `frame`

The keys are those described above.

## `notes`

The keys are those described above.
"""


def schema():
    return json_schema(Drawing, "A drawing to make")


def test_a_page_has_a_table_for_every_section():
    assert to_markdown(schema()) == PAGE


def test_several_documents_share_one_page_one_level_down():
    page = write_page("All", "Two documents.", [schema(), schema()])

    assert page.startswith("# All\n\nTwo documents.\n\n## A drawing to make\n")
    assert page.count("### `shape` with `kind: circle`") == 2


def test_every_key_of_recipes_and_profiles_is_on_their_pages():
    for document, title in ((Recipe, "Recipe"), (Profile, "Profile")):
        made = json_schema(document, title)
        page = to_markdown(made)
        keys = {
            key for part in (made, *made["$defs"].values()) for key in part.get("properties", {})
        }
        missing = [key for key in keys if f"`{key}`" not in page]
        assert len(keys) > 10
        assert missing == []
