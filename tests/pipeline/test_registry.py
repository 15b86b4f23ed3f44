"""Implementations are found by scanning a package, and a clash of names is an error."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.registry import Registry


class Shape:
    """Base class of the implementations in these tests."""


@pytest.fixture
def package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[..., Registry[Shape]]:
    """Writes a package with the given modules, named after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])

    def write(**modules: str) -> Registry[Shape]:
        name = request.node.originalname
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
        for module, text in modules.items():
            (tmp_path / name / f"{module}.py").write_text(
                f"from {__name__} import Shape\nfrom typing import ClassVar\n{text}"
            )
        return Registry(name, Shape, "shape")

    return write


SQUARE = "class Square(Shape):\n    name: ClassVar[str] = 'square'\n"
CIRCLE = "class Circle(Shape):\n    name: ClassVar[str] = 'circle'\n"


def test_every_module_is_scanned_for_classes_with_a_name_of_their_own(package) -> None:
    others = "class Oblong(Square):\n    pass\nclass Other:\n    name = 'other'\n"
    found = package(square=SQUARE + others, circle=CIRCLE)
    assert found.names() == ["circle", "square"]
    assert found.get("square").__name__ == "Square"


def test_an_imported_class_is_counted_where_it_is_defined(package) -> None:
    found = package(square=SQUARE, borrows="from .square import Square\n")
    assert found.get("square").__module__.endswith(".square")


def test_an_unknown_name_is_refused_with_the_known_ones(package) -> None:
    with pytest.raises(ConfigError, match=r"'triangle'.*circle, square"):
        package(square=SQUARE, circle=CIRCLE).get("triangle")


def test_two_classes_of_one_name_are_an_error(package) -> None:
    with pytest.raises(ConfigError, match="'square'"):
        package(one=SQUARE, two=SQUARE).names()


def test_nothing_is_imported_before_the_first_question(package, request) -> None:
    package(broken="raise RuntimeError\n")
    assert request.node.originalname not in sys.modules
