"""JSON schemas of configuration documents, for completion and validation in editors."""

from typing import Any

from pipeline.documents import Document

DIALECT = "http://json-schema.org/draft-07/schema#"
"""The newest version that YAML plugins of editors support."""


def json_schema(document: type[Document], title: str) -> dict[str, Any]:
    """Return the schema of a document, with a description of every key.

    Checks between sections are not part of it.

    Args:
        document: type of the whole document.
        title: title that editors show.
    """
    return {"$schema": DIALECT, **_plain(document.model_json_schema()), "title": title}


def _plain(tree: Any) -> Any:
    """Remove the titles that only repeat a key, OpenAPI's `discriminator`, and line breaks."""
    if isinstance(tree, list):
        return [_plain(each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        key: {name: _plain(each) for name, each in value.items()}
        if key in ("properties", "$defs")
        else _unwrapped(value)
        if key == "description" and isinstance(value, str)
        else _plain(value)
        for key, value in tree.items()
        if key != "discriminator" and not (key == "title" and isinstance(value, str))
    }


def _unwrapped(text: str) -> str:
    """Join the lines of each paragraph."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
