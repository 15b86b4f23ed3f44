"""`stepfold init` and `stepfold schema`: starter recipes, and the schemas of editors."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from flows.cli.init import PLACEHOLDER, TEMPLATES, schema_of, shipped_schema, template
from flows.cli.request import read_request
from pipeline.config import GateConfig, Recipe
from pipeline.config.profile import Profile
from pipeline.documents import build, parse_yaml, read_yaml
from tests.support.terminal import ROOT, invoke
from tests.support.tiny_pipelines import tiny_pipeline

KINDS = ("recipe", "profile")
RECIPES = sorted((ROOT / "flows/recipes").glob("*.yaml"))
PROFILES = sorted((ROOT / "infra/profiles").glob("*.yaml"))
HEAD_WORDS = ("Hardware", "(?:Time|Hours)", "Result")
OF_PIPELINES = {
    "sd": "stable-diffusion",
    "sd2-v": "stable-diffusion",
    "sdxl": "sdxl",
    "sd3": "flow-matching",
    "flux": "flow-matching",
}


def complaints(kind: str, tree: dict[str, Any]) -> list[str]:
    schema = json.loads(shipped_schema(kind).read_text(encoding="utf-8"))
    Draft7Validator.check_schema(schema)
    return [error.message for error in Draft7Validator(schema).iter_errors(tree)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_installed_schema_is_current_and_printed(kind: str) -> None:
    assert shipped_schema(kind).read_text(encoding="utf-8") == schema_of(kind), "make schema"
    code, output = invoke("schema", kind)
    assert (code, json.loads(output)["title"]) == (0, f"Stepfold {kind}")
    code, output = invoke("schema", kind, "--format", "markdown")
    assert (code, output.startswith(f"# Stepfold {kind}")) == (0, True)


def test_every_installed_recipe_and_profile_fits_its_schema() -> None:
    assert (len(RECIPES) >= 5, len(PROFILES) >= 3) == (True, True)
    for kind, paths in (("recipe", RECIPES), ("profile", PROFILES)):
        for path in paths:
            assert complaints(kind, read_yaml(path)) == [], path.name
            line = path.read_text(encoding="utf-8").splitlines()[0]
            assert line == f"# yaml-language-server: $schema={kind}.schema.json"
    for kind in TEMPLATES:
        assert complaints("recipe", parse_yaml(template(kind), kind)) == []


def test_a_recipe_states_hardware_duration_and_result() -> None:
    own = sorted((ROOT / "flows/templates").glob("*.yaml"))
    assert {path.stem for path in own} <= set(TEMPLATES)
    for path in (*RECIPES, *own):
        head, _, _ = path.read_text(encoding="utf-8").partition("\nrun:")
        found = {word: re.search(rf"\b{word}\b[^:\n]*: *\S", head) for word in HEAD_WORDS}
        assert [word for word, match in found.items() if not match] == [], path.name


@pytest.mark.parametrize("kind", sorted(set(TEMPLATES) - {"digits"}))
def test_a_starter_recipe_has_a_gate(kind: str) -> None:
    gate = build(GateConfig, parse_yaml(template(kind), kind)["gate"], kind)
    assert gate.asks_samples
    assert gate.on_fail[-1] == "ask"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("halvings", {}, "'halvings' was unexpected"),
        ("targets", {"mode": "sometimes"}, "'sometimes' is not one of"),
        ("evaluation", {"w": []}, "[] should be non-empty"),
        ("evaluation", {"num_samples": 0}, "0 is less than or equal to the minimum of 0"),
        ("teacher", {"reference_steps": 8}, "is not valid under any of the given schemas"),
    ],
)
def test_a_schema_finds_the_errors_of_the_parser(key: str, value: Any, expected: str) -> None:
    tree = read_yaml(ROOT / "flows/recipes/digits.yaml") | {key: value}
    assert [message for message in complaints("recipe", tree) if expected in message]


def test_a_key_is_described_by_the_docstring_of_its_class() -> None:
    schema = json.loads(schema_of("recipe"))
    network = schema["$defs"]["UNetConfig"]
    assert network["properties"]["text_channels"]["description"] == (
        "Channels of a token embedding. Default: none, class-conditional."
    )
    assert "Attributes:" not in network["description"]
    assert set(schema["properties"]) == set(Recipe.model_fields)
    assert set(json.loads(schema_of("profile"))["properties"]) == set(Profile.model_fields)


def test_a_starter_recipe_points_editors_to_the_schema(workplace: Path) -> None:
    code, output = invoke("init", "digits")
    assert code == 0
    assert "stepfold plan digits.yaml" in output
    head, _, rest = Path("digits.yaml").read_text(encoding="utf-8").partition("\n")
    marker, _, place = head.partition("$schema=")
    assert marker == "# yaml-language-server: "
    assert Path(place) == shipped_schema("recipe")
    assert "Hardware: " in rest
    assert invoke("plan", "digits.yaml")[0] == 0


def test_an_existing_file_is_not_overwritten(workplace: Path) -> None:
    Path("mine.yaml").write_text("mine")
    code, output = invoke("init", "sdxl", "--to", "mine.yaml")
    assert (code, Path("mine.yaml").read_text()) == (2, "mine")
    assert "--force" in output
    assert invoke("init", "sdxl", "--to", "mine.yaml", "--force")[0] == 0
    assert Path("mine.yaml").read_text(encoding="utf-8") == template("sdxl")


def test_kinds_are_listed_and_a_wrong_kind_or_place_is_refused(workplace: Path) -> None:
    code, output = invoke("init")
    assert code == 0
    assert [kind for kind in TEMPLATES if f"stepfold init {kind} " not in output] == []
    for arguments, expected in (
        (("nothing",), "use one of digits"),
        (("digits", "--to", "no/where.yaml"), "not a file in an existing directory"),
    ):
        code, output = invoke("init", *arguments)
        assert (code, expected in output) == (2, True)
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize("kind", sorted(set(TEMPLATES) - {"digits"}))
def test_placeholder_paths_are_the_only_error(workplace: Path, kind: str) -> None:
    assert invoke("init", kind)[0] == 0
    code, output = invoke("plan", f"{kind}.yaml")
    assert code == 2
    keys = "data.path" if kind == "image-folder" else "data.path and teacher.pipeline"
    assert output.startswith(f"Refused {kind}.yaml: {keys} still ")
    assert PLACEHOLDER in output
    if kind == "image-folder":
        request = read_request(Path(f"{kind}.yaml"), None, None, ["data.path=/my/images"])
        assert request.recipe.halving.steps == (16, 8, 4, 2, 1)


@pytest.mark.parametrize("pipeline", OF_PIPELINES)
def test_a_pipeline_needs_its_paths_only(workplace: Path, pipeline: str) -> None:
    path = Path(f"{OF_PIPELINES[pipeline]}.yaml")
    tiny_pipeline(pipeline, Path("teacher"))
    assert invoke("init", path.stem)[0] == 0
    sets = ["teacher.pipeline=teacher", "data.path=/my/tars"]
    recipe = read_request(path, None, None, sets).recipe
    assert recipe.teacher.pipeline == str(Path("teacher").resolve())
    assert recipe.halving.steps[-1] == 1
    if pipeline == "flux":  # takes the range in the comment of its recipe
        assert "{min: 0, max: 6}" in path.read_text(encoding="utf-8")
        sets.append("guidance.w={min: 0, max: 6}")
        w = read_request(path, None, None, sets).recipe.guidance.w
        assert (w.min, w.max) == (0, 6)
