"""`stepfold init` and `stepfold schema`: starter recipes, and schemas of recipe and profile."""

import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from flows.cli.console import open_console
from pipeline.errors import ConfigError
from pipeline.wording import format_path

DocumentKind = Literal["recipe", "profile"]

_SHIPPED = {"recipe": ("flows", "recipes"), "profile": ("infra", "profiles")}

TEMPLATES = {
    "digits": "recipes/digits.yaml",
    "image-folder": "templates/image-folder.yaml",
    "stable-diffusion": "templates/stable-diffusion.yaml",
    "sdxl": "templates/sdxl.yaml",
    "flow-matching": "templates/flow-matching.yaml",
}

PLACEHOLDER = "/path/to/"
"""The beginning of every path that the user has to fill in."""

_SCHEMA_LINE = re.compile(r"^# yaml-language-server: \$schema=.*$", re.MULTILINE)


def init(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="KIND", help="Kind of recipe. Default: list the kinds."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="File to write. Default: KIND.yaml."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the file if it exists.")
    ] = False,
) -> None:
    """Write a starter recipe: digits, your images, Stable Diffusion, SDXL, SD3 or Flux.

    Example: stepfold init sdxl --to my-model.yaml
    """
    if kind is None:
        _list_kinds()
    else:
        _write_recipe(kind, to or Path(f"{kind}.yaml"), force=force)


def schema(
    document: Annotated[
        DocumentKind, typer.Argument(help="Type of the document to describe.")
    ] = "recipe",
    output_format: Annotated[
        Literal["json", "markdown"],
        typer.Option("--format", help="JSON Schema for editors, or Markdown tables for reading."),
    ] = "json",
) -> None:
    """Print every key of recipes or profiles, as a JSON Schema or as Markdown.

    Example: stepfold schema profile --format markdown
    """
    if output_format == "json":
        typer.echo(schema_of(document), nl=False)
        return
    from pipeline.config.reference import to_markdown

    typer.echo(to_markdown(_json_schema(document)), nl=False)


def schema_of(document: DocumentKind) -> str:
    """Return the JSON Schema of recipes or profiles, byte for byte as it is installed."""
    import json

    return json.dumps(_json_schema(document), indent=1, ensure_ascii=False) + "\n"


def shipped_schema(document: DocumentKind) -> Path:
    """Return the path of the installed JSON Schema."""
    package, folder = _SHIPPED[document]
    return Path(str(resources.files(package))) / folder / f"{document}.schema.json"


def template(kind: str) -> str:
    """Return a starter recipe; its first line points editors to the installed schema."""
    text = (Path(str(resources.files("flows"))) / TEMPLATES[kind]).read_text(encoding="utf-8")
    return _SCHEMA_LINE.sub(
        lambda _: f"# yaml-language-server: $schema={shipped_schema('recipe')}", text, count=1
    )


def check_filled_in(tree: dict[str, Any], source: str) -> None:
    """Refuse a starter recipe whose paths are not filled in.

    Raises:
        ConfigError: naming every such key.
    """
    from pipeline.documents import leaves

    left = [key for key, value in leaves(tree) if str(value).startswith(PLACEHOLDER)]
    if left:
        noun = "a placeholder" if len(left) == 1 else "placeholders"
        raise ConfigError(
            f"{source}: {' and '.join(left)} still {noun} ({PLACEHOLDER}...); set your own path"
        )


def _json_schema(document: DocumentKind) -> dict[str, Any]:
    from pipeline.config import Recipe
    from pipeline.config.profile import Profile
    from pipeline.config.reference import json_schema

    if document == "profile":
        return json_schema(Profile, "Stepfold profile")
    schema = json_schema(Recipe, "Stepfold recipe")
    # the directory of a stock pipeline states its network
    teacher = schema["$defs"]["TeacherConfig"]
    teacher["required"].remove("network")
    teacher["anyOf"] = [{"required": ["network"]}, {"required": ["pipeline"]}]
    return schema


def _list_kinds() -> None:
    console = open_console()
    for kind in TEMPLATES:
        console.print(f"stepfold init {kind:<17} {_summary(kind)}", soft_wrap=True)


def _summary(kind: str) -> str:
    """Return the first sentence of a recipe's leading comment."""
    lines = template(kind).splitlines()[1:]
    head = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
    return head.partition(":")[0].partition(". ")[0]


def _write_recipe(kind: str, target: Path, *, force: bool) -> None:
    from pipeline.durable import write_durably

    if kind not in TEMPLATES:
        raise ConfigError(f"unknown kind of recipe {kind!r}; use one of {', '.join(TEMPLATES)}")
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise ConfigError(f"--to {target}: not a file in an existing directory; choose another")
    if target.exists() and not force:
        raise ConfigError(f"{target} exists; choose another file with --to, or add --force")
    text = template(kind)
    write_durably(target, text)
    console = open_console()
    console.print(f"Recipe  {format_path(target.absolute())}", soft_wrap=True)
    if PLACEHOLDER in text:
        console.print(f"Replace the paths that begin with {PLACEHOLDER}, then run", style="quiet")
    console.print(f"  stepfold plan {target}\n  stepfold run {target}", soft_wrap=True)
