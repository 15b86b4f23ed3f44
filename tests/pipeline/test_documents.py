"""YAML is read strictly; errors have their location and a remedy."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, PositiveInt, ValidationError

from pipeline.config import Recipe
from pipeline.documents import Document, apply_override, build, parse_yaml, read_yaml, to_yaml
from pipeline.errors import ConfigError
from tests.support.cases import RECIPES, read_recipe


class Cat(Document):
    kind: Literal["cat"]
    whiskers: int = 6


class Dog(Document):
    kind: Literal["dog"]
    weight: float = 1.0


class House(Document):
    rooms: PositiveInt
    rate: float = 1e-6
    name: str = "home"
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Cat(kind="cat")
    sizes: PositiveInt | tuple[PositiveInt, ...] = 1


def refusal(tree: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        build(House, tree, "house.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("3E5", 3e5),
        ("-2e7", -2e7),
        ("1.5e3", 1.5e3),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("no", "no"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("-1:30:00", "-1:30:00"),
        ("'1e-3'", "1e-3"),
        ("e10", "e10"),
        ("x1e4", "x1e4"),
        ("true", True),
        ("~", None),
    ],
)
@pytest.mark.parametrize("directive", ["", "%YAML 1.1\n---\n"])
def test_values_are_read_by_the_rules_of_yaml_1_2(text: str, value: Any, directive: str) -> None:
    found = parse_yaml(f"{directive}a: {text}\nb: [{text}]", "r.yaml")
    assert found == {"a": value, "b": [value]}
    assert type(found["a"]) is type(value)


def test_a_number_without_a_leading_zero_is_a_number() -> None:
    assert build(House, parse_yaml("rooms: 1\nrate: .5e3", "r.yaml"), "r.yaml").rate == 500


@pytest.mark.parametrize("text", ["1:30", "2026-01-02", "[1]", ".inf", "-.inf", ".nan"])
def test_other_values_are_not_numbers(text: str) -> None:
    tree = parse_yaml(f"rooms: 1\nrate: {text}", "house.yaml")
    assert "house.yaml: rate: " in refusal(tree)


@pytest.mark.parametrize("value", [True, [True, 2]])
def test_true_is_not_the_number_1(value: Any) -> None:
    assert "house.yaml: sizes: " in refusal({"sizes": value})


@pytest.mark.parametrize(
    "text", ["1: a", "true: a", "? [a, b]\n: c", "? {a: b}\n: c", "<<: {a: 1}"]
)
def test_a_key_that_is_not_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^r\.yaml: .*line 1: .* is not text"):
        parse_yaml(text, "r.yaml")
    with pytest.raises(ConfigError, match=r"^r\.yaml: .*line 2: .* is not text"):
        parse_yaml("a:\n" + "".join(f"  {line}\n" for line in text.splitlines()), "r.yaml")


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("run:\n  seed: 1\n  name: a\n  seed: 2\n", "line 4: duplicate key 'seed'"),
        ("[1]", "got list"),
        ("a", "got str"),
        ("", "got NoneType"),
        ("a: [1, 2\nb: 3", "not valid YAML, line 2: "),
        (BOMB, "line 2: aliases"),
        ("a: &a [*a]", "line 1: aliases"),
        ("a: " + "[" * 20_000, "nested deeper"),
        ("a: 2026-13-45", "not valid YAML"),
        ("a: " + "1" * 5000, "not valid YAML"),
        ("a: !!python/object/apply:os.system ['touch hacked']", "not valid YAML"),
        ("a: !!python/name:os.system", "not valid YAML"),
        ("a: !!binary x", "not valid YAML"),
    ],
)
def test_yaml_neither_runs_nor_grows_nor_crashes(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=rf"^r\.yaml: .*{complaint}") as caught:
        parse_yaml(text, "r.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.yaml", "binary.yaml"])
def test_a_file_that_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=name):
        read_yaml(tmp_path / name)


def test_an_override_sets_a_typed_value_at_its_path() -> None:
    tree: dict[str, Any] = {"a": {"b": 1}, "c": 2}
    for assignment in ("a.b=3", "a.d.e=[1, 2]", "c='4'", "f=1e-3", "g=x=y"):
        apply_override(tree, assignment)
    assert tree == {"a": {"b": 3, "d": {"e": [1, 2]}}, "c": "4", "f": 1e-3, "g": "x=y"}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("a.b", "--set a.b: expected KEY.KEY=VALUE"),
        ("=1", "--set =1: expected KEY.KEY=VALUE"),
        ("a..b=1", "--set a..b=1: expected KEY.KEY=VALUE"),
        ("c.d=1", "--set c.d=1: c holds a value, not keys"),
        ("a.b=[1", "--set a.b=[1: not valid YAML, line 1: "),
        ("a.b=*c", "--set a.b=*c: not valid YAML, line 1: "),
    ],
)
def test_a_bad_override_is_refused(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_override({"a": {"b": 1}, "c": 2}, assignment)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"roms": 3, "rooms": 3}, "roms: unknown key; did you mean 'rooms'?"),
        ({"rooms": 3, "zzz": 1}, "zzz: unknown key; known keys: name, pet, rate, rooms, sizes"),
        # a suggestion comes from the chosen kind only
        (
            {"rooms": 1, "pet": {"kind": "cat", "wheight": 2}},
            "pet.wheight: unknown key; known keys: kind, whiskers",
        ),
        (
            {"rooms": 1, "pet": {"kind": "dog", "wheight": 2}},
            "pet.wheight: unknown key; did you mean 'weight'?",
        ),
        ({"rooms": 0}, "rooms: Input should be greater than 0 (got 0)"),
        ({"rooms": 1, "pet": {"kind": "dog", "weight": "heavy"}}, "pet.weight: "),
        ({"rooms": 1, "sizes": [1, -2]}, "sizes.1: Input should be greater than 0 (got -2)"),
        ({"rooms": 1, "pet": {}}, "pet: key 'kind' is missing"),
        ({"rooms": 1, "pet": {"kind": "bird"}}, "'cat', 'dog'"),
    ],
)
def test_an_error_has_the_path_of_its_key(tree: dict[str, Any], message: str) -> None:
    found = refusal(tree)
    assert found.startswith("house.yaml: ")
    assert message in found


def test_every_problem_has_a_line_of_its_own() -> None:
    keys = [line.split(": ")[1] for line in refusal({"rat": 1, "name": 3}).splitlines()]
    assert keys == ["rooms", "name", "rat"]


def test_a_document_cannot_be_changed() -> None:
    house = House(rooms=1)
    with pytest.raises(ValidationError, match="frozen"):
        house.rooms = 2  # type: ignore[misc]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_survives_being_written_and_read(path: Path) -> None:
    recipe = read_recipe(path)
    text = to_yaml(recipe)
    assert build(Recipe, parse_yaml(text, "again"), "again") == recipe
    assert to_yaml(build(Recipe, parse_yaml(text, "again"), "again")) == text


@pytest.mark.parametrize(
    "values",
    [
        *({"name": name} for name in ("1e-6", "1.5E3", "null", "no", "010", "3", "a: b", "é", "")),
        {"name": "x" * 300},
        *({"rate": rate} for rate in (1e-6, 1e22, 5e-324, 0.1, -3.0, 123456789.123)),
    ],
)
def test_awkward_values_survive_being_written_and_read(values: dict[str, Any]) -> None:
    house = House(rooms=1, **values)
    assert build(House, parse_yaml(to_yaml(house), "again"), "again") == house


def test_keys_are_written_in_the_order_of_declaration() -> None:
    assert list(parse_yaml(to_yaml(House(rooms=1)), "h")) == list(House.model_fields)
