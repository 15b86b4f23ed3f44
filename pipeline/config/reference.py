"""JSON schemas of configuration documents, for editors, and reference pages written from them.

So the page and the editor show the same description of a key.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.documents import Document

Schema = dict[str, Any]

_HEAD = "| key | type or values | default | description |\n|---|---|---|---|\n"
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


DIALECT = "http://json-schema.org/draft-07/schema#"
"""The newest version that YAML plugins of editors support."""


def json_schema(document: type[Document], title: str) -> dict[str, Any]:
    """Return the schema of a document, with a description of every key.

    Checks between sections are not part of it.
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
        else _prose(value)
        if key == "description" and isinstance(value, str)
        else _plain(value)
        for key, value in tree.items()
        if key != "discriminator" and not (key == "title" and isinstance(value, str))
    }


def to_markdown(schema: Schema) -> str:
    """Return the reference page of one document as Markdown, one table per section."""
    return "\n".join(_page(schema, level=1))


def write_page(title: str, introduction: str, schemas: list[Schema]) -> str:
    """Return one page with the reference of several documents."""
    parts = [f"# {title}\n\n{introduction}\n"]
    parts += ["\n".join(_page(schema, level=2)) for schema in schemas]
    return "\n".join(parts)


def _page(schema: Schema, level: int) -> Iterator[str]:
    yield f"{'#' * level} {schema['title']}\n"
    if "description" in schema:
        yield f"{_prose(schema['description'])}\n"
    sections = {key: _models(value, schema) for key, value in schema["properties"].items()}
    for key, value in schema["properties"].items():
        if not sections[key]:
            yield _table({key: value}, schema)
    shown: set[str] = set()
    for key, names in sections.items():
        if names:
            yield from _section(key, names, schema, level + 1, shown)


def _section(
    path: str, names: list[str], schema: Schema, level: int, shown: set[str]
) -> Iterator[str]:
    """Describe the models that a key holds, and below them the models of their own keys."""
    for name in names:
        model = schema["$defs"][name]
        yield f"{'#' * level} {_heading(path, names, model)}\n"
        if name in shown:
            yield "The keys are those described above.\n"
            continue
        shown.add(name)
        if "description" in model:
            yield f"{_prose(model['description'])}\n"
        yield _table(model["properties"], schema, set(model.get("required", ())))
        for key, value in model["properties"].items():
            inner = _models(value, schema)
            if inner:
                yield from _section(f"{path}.{key}", inner, schema, level + 1, shown)


def _heading(path: str, names: list[str], model: Schema) -> str:
    """Name a section by its path, and by the key that selects it where there are several."""
    if len(names) == 1:
        return f"`{path}`"
    selector = next(
        (
            f"{key}: {value['const']}"
            for key, value in model["properties"].items()
            if "const" in value
        ),
        model.get("title", ""),
    )
    return f"`{path}` with `{selector}`"


def _table(properties: dict[str, Schema], schema: Schema, required: set[str] | None = None) -> str:
    wanted = set(schema.get("required", ())) if required is None else required
    rows = [
        f"| `{key}` | {_cell(_type(value, schema))} | {_default(key, value, wanted)} "
        f"| {_cell(value.get('description', ''))} |"
        for key, value in properties.items()
    ]
    return _HEAD + "\n".join(rows) + "\n"


def _default(key: str, value: Schema, required: set[str]) -> str:
    if key in required or "default" not in value:
        return "required" if key in required else ""
    default = value["default"]
    if default is None:
        return "none"
    if isinstance(default, dict):
        return "see the section" if default else "none"
    return f"`{json.dumps(default, ensure_ascii=False)}`"


def _type(value: Schema, schema: Schema) -> str:
    """Describe the values that a key takes."""
    options = value.get("anyOf") or value.get("oneOf") or value.get("allOf")
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{_literal(each)}`" for each in value["enum"])
    if "$ref" in value:
        model = schema["$defs"][_name(value["$ref"])]
        return _type(model, schema) if "enum" in model else "section"
    if options:
        kinds = [_type(each, schema) for each in options if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if value.get("type") == "array":
        return _array(value, schema)
    return _map(value, schema) if value.get("type") == "object" else _scalar(value)


def _map(value: Schema, schema: Schema) -> str:
    inner = value.get("additionalProperties")
    return f"map to {_type(inner, schema)}" if isinstance(inner, dict) and inner else "map"


def _array(value: Schema, schema: Schema) -> str:
    each = value.get("prefixItems", [value.get("items")])
    items = each[0]
    kind = _type(items, schema) if isinstance(items, dict) and items else "value"
    if len(each) > 1:
        return f"list of {len(each)}: {kind}"
    least = value.get("minItems", 0)
    return f"list of {kind}" + (f" ({least} or more)" if least else "")


def _scalar(value: Schema) -> str:
    kind = value.get("type", "any value")
    bounds = [f"{words} {value[key]}" for key, words in _BOUNDS.items() if key in value]
    if "pattern" in value:
        bounds.append(f"matches `{value['pattern']}`")
    return f"{kind}, {', '.join(bounds)}" if bounds else str(kind)


def _literal(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _models(value: Schema, schema: Schema) -> list[str]:
    """Return the names of the models that a key holds, directly, in a list or in a map."""
    found: list[str] = []
    if "$ref" in value:
        name = _name(value["$ref"])
        found = [name] if "properties" in schema["$defs"][name] else []
    for group in ("anyOf", "oneOf", "allOf"):
        for each in value.get(group, ()):
            found += _models(each, schema)
    for part in ("items", "additionalProperties"):
        if isinstance(value.get(part), dict):
            found += _models(value[part], schema)
    return list(dict.fromkeys(found))


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]


def _prose(text: str) -> str:
    """Join the lines of each paragraph of a docstring."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main(files: list[str]) -> None:
    """Write the page of the documents whose JSON schemas are in `files` to standard output."""
    schemas = [json.loads(Path(file).read_text(encoding="utf-8")) for file in files]
    introduction = (
        "A recipe states what to run, a profile where to run it. They share no key, so "
        "`--set a.b=c` overrides a key of either.\n\n"
        "This page is generated by `make docs` from the JSON schemas. `stepfold schema recipe` and "
        "`stepfold schema profile` print them for editors."
    )
    sys.stdout.write(write_page("Configuration", introduction, schemas))


if __name__ == "__main__":
    main(sys.argv[1:])
