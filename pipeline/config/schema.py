"""JSON schemas of configuration documents, for editors: completion, hints and early errors."""

import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args

from pipeline.documents import Document

DIALECT = "http://json-schema.org/draft-07/schema#"
"""The newest that every editor's YAML plugin reads."""

_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)


def json_schema(document: type[Document], title: str) -> dict[str, Any]:
    """The schema of a document as a person writes it, every key with what is said of it.

    What only the parser can know is not in it: sections that contradict each other, numbers that
    YAML reads as text.

    Args:
        document: the type of the whole document.
        title: what an editor calls it.
    """
    schema = document.model_json_schema()
    parts = {document.__name__: schema, **schema.get("$defs", {})}
    for model in set(_models_of(document)):
        _describe(model, parts[model.__name__])
    return {"$schema": DIALECT, **_plain(schema), "title": title}


def _models_of(document: type[Document]) -> Iterator[type[Document]]:
    """A document and all those inside it."""
    yield document
    for field in document.model_fields.values():
        for model in _models_in(field.annotation):
            yield from _models_of(model)


def _models_in(annotation: Any) -> Iterator[type[Document]]:
    if isinstance(annotation, type) and issubclass(annotation, Document):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _describe(model: type[Document], part: dict[str, Any]) -> None:
    """Give each key the words that the docstrings of its class and of the classes above have."""
    said: dict[str, str] = {}
    for each in reversed(model.__mro__):
        said |= dict(_ATTRIBUTE.findall(_attributes(each)))
    for name, key in part.get("properties", {}).items():
        if name in said:
            key.setdefault("description", " ".join(said[name].split()))
    summary, _, _ = part.get("description", "").partition("\n\nAttributes:")
    if summary:
        part["description"] = summary


def _attributes(model: type) -> str:
    _, _, rest = inspect.cleandoc(model.__doc__ or "").partition("\nAttributes:\n")
    return rest.partition("\n\n")[0]


def _plain(tree: Any) -> Any:
    """Without the titles that only repeat a key, and OpenAPI's `discriminator`."""
    if isinstance(tree, list):
        return [_plain(each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        key: {name: _plain(each) for name, each in value.items()}
        if key in ("properties", "$defs")
        else _plain(value)
        for key, value in tree.items()
        if key != "discriminator" and not (key == "title" and isinstance(value, str))
    }
