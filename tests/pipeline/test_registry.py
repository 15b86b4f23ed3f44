"""Implementations are found by scanning a package, and a clash of names is an error."""

import sys
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.registry import Registry


class Shape:
    """What the packages of these tests implement."""


def package(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, **modules: str
) -> Registry[Shape]:
    """A package on disk with the given modules."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("")
    for module, text in modules.items():
        (folder / name / f"{module}.py").write_text(
            f"from {__name__} import Shape\nfrom typing import ClassVar\n{text}"
        )
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    return Registry(name, Shape)


SQUARE = "class Square(Shape):\n    name: ClassVar[str] = 'square'\n"
CIRCLE = "class Circle(Shape):\n    name: ClassVar[str] = 'circle'\n"


def test_every_module_is_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = package(tmp_path, "shapes_a", monkeypatch, square=SQUARE, circle=CIRCLE)
    assert found.names() == ["circle", "square"]
    assert found.get("square").__name__ == "Square"


def test_a_class_that_declares_no_name_of_its_own_is_no_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SQUARE + "class Oblong(Square):\n    pass\nclass Other:\n    name = 'other'\n"
    found = package(tmp_path, "shapes_b", monkeypatch, square=text)
    assert found.names() == ["square"]


def test_an_imported_class_is_counted_where_it_is_defined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    borrowed = "from shapes_c.square import Square\n"
    found = package(tmp_path, "shapes_c", monkeypatch, square=SQUARE, borrows=borrowed)
    assert found.get("square").__module__ == "shapes_c.square"


def test_an_unknown_name_is_refused_with_the_known_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = package(tmp_path, "shapes_d", monkeypatch, square=SQUARE, circle=CIRCLE)
    with pytest.raises(ConfigError) as caught:
        found.get("triangle")
    assert str(caught.value) == "Shape 'triangle' does not exist; use one of circle, square"


def test_two_classes_of_one_name_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = package(tmp_path, "shapes_e", monkeypatch, one=SQUARE, two=SQUARE)
    with pytest.raises(TypeError, match=r"'square'.*shapes_e.two and shapes_e.one"):
        found.names()


def test_nothing_is_imported_before_the_first_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "shapes_f", monkeypatch, broken="raise RuntimeError\n")
    assert "shapes_f" not in sys.modules
