"""`stepfold schema`: what an editor has to know of recipes and profiles."""

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from flows.cli.console import open_console
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.config.schema import json_schema
from pipeline.documents import leaves
from pipeline.durable import write_durably
from pipeline.errors import ConfigError
from pipeline.wording import near

Kind = Literal["recipe", "profile"]

_SHIPPED = {"recipe": ("flows", "recipes"), "profile": ("infra", "profiles")}


def schema_of(kind: Kind) -> str:
    """The JSON schema of recipes or of profiles, as the file that ships with the package has it."""
    schema = _recipes() if kind == "recipe" else json_schema(Profile, "Stepfold profile")
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def shipped_schema(kind: Kind) -> Path:
    """Where the schema lies that ships with the package."""
    package, folder = _SHIPPED[kind]
    return Path(str(resources.files(package))) / folder / f"{kind}.schema.json"


def _recipes() -> dict[str, Any]:
    """A recipe that names a stock pipeline need not say what network, path and output are."""
    schema = json_schema(Recipe, "Stepfold recipe")
    teacher = schema["$defs"]["TeacherConfig"]
    teacher["required"].remove("network")
    teacher["anyOf"] = [{"required": ["network"]}, {"required": ["pipeline"]}]
    return schema


TEMPLATES = {
    "digits": "recipes/digits.yaml",
    "image-folder": "templates/image-folder.yaml",
    "stable-diffusion": "templates/stable-diffusion.yaml",
    "sdxl": "templates/sdxl.yaml",
    "flow-matching": "templates/flow-matching.yaml",
}

PLACEHOLDER = "/path/to/"
"""What begins a path that is to be filled in."""

_SCHEMA = re.compile(r"^# yaml-language-server: \$schema=.*$", re.MULTILINE)


def start(kind: str | None, to: Path | None, *, force: bool) -> None:
    """Write the recipe of a kind, or list the kinds there are.

    Args:
        kind: one of `TEMPLATES`; None to list them.
        to: the file; `<kind>.yaml` here by default.
        force: write over a file that is there.

    Raises:
        ConfigError: no such kind, a file that is there already, or a place that cannot be written.
    """
    console = open_console()
    if kind is None:
        for name in TEMPLATES:
            console.print(f"stepfold init {name:<17} {_about(name)}", soft_wrap=True)
        return
    if kind not in TEMPLATES:
        raise ConfigError(f"there is no recipe {kind!r} to start from; use {', '.join(TEMPLATES)}")
    target = to or Path(f"{kind}.yaml")
    _check(target, force=force)
    text = template(kind)
    write_durably(target, text)
    console.print(f"Recipe  {near(target.absolute())}", soft_wrap=True)
    if PLACEHOLDER in text:
        console.print(f"Fill in its paths, they begin with {PLACEHOLDER}; then", style="quiet")
    console.print(f"  stepfold plan {target}\n  stepfold run {target}", soft_wrap=True)


def template(kind: str) -> str:
    """The text of a recipe to start from; its first line leads an editor to the schema."""
    text = (Path(str(resources.files("flows"))) / TEMPLATES[kind]).read_text(encoding="utf-8")
    return _SCHEMA.sub(
        lambda _: f"# yaml-language-server: $schema={shipped_schema('recipe')}", text, count=1
    )


def check_filled_in(tree: dict[str, Any], source: str) -> None:
    """Refuse a recipe in which a path still is as `stepfold init` wrote it.

    Raises:
        ConfigError: naming every such key.
    """
    left = [key for key, value in leaves(tree) if str(value).startswith(PLACEHOLDER)]
    if left:
        verb = "is" if len(left) == 1 else "are"
        raise ConfigError(
            f"{source}: {' and '.join(left)} {verb} still to be filled in (now {PLACEHOLDER}...); "
            "write the path of yours"
        )


def _about(kind: str) -> str:
    """The first sentence of its head."""
    lines = template(kind).splitlines()[1:]
    head = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
    return head.partition(":")[0].partition(". ")[0]


def _check(target: Path, *, force: bool) -> None:
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise ConfigError(f"--to {target}: not a file in an existing directory; choose another")
    if target.exists() and not force:
        raise ConfigError(f"{target} is there already; choose another with --to, or --force")
