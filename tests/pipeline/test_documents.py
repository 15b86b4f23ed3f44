"""YAML is read strictly, and what is wrong is said with its place and a way out."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field, PositiveInt, ValidationError

from pipeline.config import Recipe
from pipeline.documents import Document, apply_override, build, parse_yaml, read_yaml, to_yaml
from pipeline.errors import ConfigError
from tests.cases import RECIPES, read_recipe


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
    ("text", "better"),
    [
        ("1e-4", "1.0e-4"),
        ("3E5", "3.0e+5"),
        ("-2e7", "-2.0e+7"),
        ("1.5e3", "1.5e+3"),
        ("1_000e2", "1_000.0e+2"),
        (".5e3", ".5e+3"),
    ],
)
def test_numbers_that_yaml_takes_for_text_are_refused_with_a_better_spelling(
    text: str, better: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(f"a: 1\nb: {text}\n", "r.yaml")
    assert str(caught.value) == (
        f"r.yaml: {text} in line 2 is text to YAML, not a number; write {better}"
    )
    value = yaml.safe_load(f"b: {better}")["b"]
    assert value == float(text)


def test_quoted_text_and_true_numbers_are_left_alone() -> None:
    tree = parse_yaml("a: '1e-4'\nb: 1.0e-4\nc: 3\nd: e10\ne: [x1e4]", "r.yaml")
    assert tree == {"a": "1e-4", "b": 1e-4, "c": 3, "d": "e10", "e": ["x1e4"]}


@pytest.mark.parametrize("text", ["1:30", "-1:30:00", "1:30.5"])
def test_numbers_in_base_60_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^r.yaml: {text} in line 2 is a number in base 60"):
        parse_yaml(f"a: 1\nb: {text}\n", "r.yaml")
    assert parse_yaml(f"b: '{text}'", "r.yaml") == {"b": text}


@pytest.mark.parametrize("value", [True, [True, 2]])
def test_true_is_not_the_number_1(value: Any) -> None:
    assert (
        refusal({"sizes": value}) == f"house.yaml: sizes: expected a number or text, got {value!r}"
    )


def test_a_key_that_stands_twice_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml("run:\n  seed: 1\n  name: a\n  seed: 2\n", "r.yaml")
    assert str(caught.value) == "r.yaml: key 'seed' stands twice (again in line 4); remove one"


@pytest.mark.parametrize("text", ["1: a", "true: a", "no: a", "? [a, b]\n: c"])
def test_a_key_that_is_not_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^r.yaml: key .* in line 1 is not text; quote it$"):
        parse_yaml(text, "r.yaml")


@pytest.mark.parametrize(("text", "got"), [("[1]", "list"), ("a", "str"), ("", "NoneType")])
def test_a_document_that_is_no_mapping_is_refused(text: str, got: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "r.yaml")
    assert str(caught.value) == f"r.yaml: expected keys and values, got {got}"


def test_broken_yaml_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^r.yaml: not valid YAML: .*line 1, column") as caught:
        parse_yaml("a: [1, 2\nb: 3", "r.yaml")
    assert "\n" not in str(caught.value)


def test_python_objects_are_refused() -> None:
    with pytest.raises(ConfigError, match="not valid YAML"):
        parse_yaml("a: !!python/object/apply:os.getcwd []", "r.yaml")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml: cannot be read .* check the path"):
        read_yaml(tmp_path / "missing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.yaml: cannot be read .* check the path"):
        read_yaml(tmp_path / "binary.yaml")


def test_an_override_sets_a_typed_value_at_its_path() -> None:
    tree: dict[str, Any] = {"a": {"b": 1}, "c": 2}
    for assignment in ("a.b=3", "a.d.e=[1, 2]", "c='4'", "f=1.0e-3", "g=x=y"):
        apply_override(tree, assignment)
    assert tree == {"a": {"b": 3, "d": {"e": [1, 2]}}, "c": "4", "f": 1e-3, "g": "x=y"}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("a.b", "--set a.b: expected KEY.KEY=VALUE"),
        ("=1", "--set =1: expected KEY.KEY=VALUE"),
        ("a..b=1", "--set a..b=1: expected KEY.KEY=VALUE"),
        ("c.d=1", "--set c.d=1: c holds a value, not keys"),
        (
            "a.b=1e-4",
            "--set a.b=1e-4: 1e-4 in line 1 is text to YAML, not a number; write 1.0e-4",
        ),
    ],
)
def test_a_bad_override_is_refused(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_override({"a": {"b": 1}, "c": 2}, assignment)
    assert str(caught.value) == message


def test_a_misspelt_key_is_refused_with_a_suggestion() -> None:
    assert refusal({"roms": 3, "rooms": 3}) == (
        "house.yaml: roms: unknown key; did you mean 'rooms'?"
    )


def test_an_unknown_key_is_refused_with_the_known_ones() -> None:
    assert refusal({"rooms": 3, "zzz": 1}) == (
        "house.yaml: zzz: unknown key; known keys: name, pet, rate, rooms, sizes"
    )


def test_a_suggestion_comes_from_the_chosen_kind_only_and_its_name_is_no_key() -> None:
    assert refusal({"rooms": 1, "pet": {"kind": "cat", "wheight": 2}}) == (
        "house.yaml: pet.wheight: unknown key; known keys: kind, whiskers"
    )
    assert refusal({"rooms": 1, "pet": {"kind": "dog", "wheight": 2}}) == (
        "house.yaml: pet.wheight: unknown key; did you mean 'weight'?"
    )


def test_a_wrong_value_is_shown_with_its_path() -> None:
    assert refusal({"rooms": 0}) == ("house.yaml: rooms: Input should be greater than 0 (got 0)")
    assert refusal({"rooms": 1, "pet": {"kind": "dog", "weight": "heavy"}}).startswith(
        "house.yaml: pet.weight: Input should be a valid number"
    )
    assert "house.yaml: sizes.1: Input should be greater than 0 (got -2)" in refusal(
        {"rooms": 1, "sizes": [1, -2]}
    )


def test_every_problem_has_a_line_of_its_own() -> None:
    assert refusal({"rat": 1, "name": 3}).splitlines() == [
        "house.yaml: rooms: Field required",
        "house.yaml: name: Input should be a valid string (got 3)",
        "house.yaml: rat: unknown key; did you mean 'rate'?",
    ]


def test_a_missing_kind_is_asked_for_by_name() -> None:
    assert refusal({"rooms": 1, "pet": {}}) == (
        "house.yaml: pet: key 'kind' is missing, which says what the rest means"
    )
    assert "does not match any of the expected tags: 'cat', 'dog'" in refusal(
        {"rooms": 1, "pet": {"kind": "bird"}}
    )


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan"])
def test_numbers_that_are_not_finite_are_refused(value: str) -> None:
    tree = parse_yaml(f"rooms: 1\nrate: {value}", "house.yaml")
    assert "house.yaml: rate: Input should be a finite number" in refusal(tree)


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


@pytest.mark.parametrize("name", ["1e-6", "1.5E3", "null", "no", "3", "a: b", "é", "x" * 300, ""])
def test_awkward_text_survives_being_written_and_read(name: str) -> None:
    house = House(rooms=1, name=name)
    assert build(House, parse_yaml(to_yaml(house), "again"), "again") == house


@pytest.mark.parametrize("rate", [1e-6, 1e22, 5e-324, 0.1, -3.0, 123456789.123])
def test_awkward_numbers_survive_being_written_and_read(rate: float) -> None:
    house = House(rooms=1, rate=rate)
    again = build(House, parse_yaml(to_yaml(house), "again"), "again")
    assert again.rate == rate


def test_keys_are_written_in_the_order_of_declaration() -> None:
    assert list(parse_yaml(to_yaml(House(rooms=1)), "h")) == list(House.model_fields)


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (BOMB, "is repeated by an alias"),
        ("a: &a [*a]", "is repeated by an alias"),
        ("a: " + "[" * 20_000, "not valid YAML"),
        ("a: 2026-13-45", "not valid YAML"),
        ("a: " + "1" * 5000, "not valid YAML"),
        ("a: !!python/object/apply:os.system ['touch hacked']", "not valid YAML"),
        ("a: !!python/name:os.system", "not valid YAML"),
        ("a: !!binary x", "not valid YAML"),
    ],
)
def test_yaml_neither_runs_nor_grows_nor_crashes(text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        parse_yaml(text, "x.yaml")
