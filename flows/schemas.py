"""`stepfold schema`: what an editor has to know of recipes and profiles."""

import json
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from infra.profile import Profile
from pipeline.config import Recipe
from pipeline.config.schema import json_schema

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
