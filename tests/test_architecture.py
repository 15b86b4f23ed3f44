"""The house rules that no single module can keep by itself."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pipeline", "infra", "stages", "flows")
SOURCES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

MOST_LINES = 300
MOST_LINES_OF_A_FUNCTION = 40
FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "manager", "misc", "base"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


every_source = pytest.mark.parametrize("path", SOURCES, ids=name_of)
every_file = pytest.mark.parametrize("path", SOURCES + TESTS, ids=name_of)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


Function = ast.FunctionDef | ast.AsyncFunctionDef


def definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Functions and classes of a module, methods included, functions inside functions not."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield prefix + node.name, node
            yield from definitions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, Function):
            yield prefix + node.name, node


def length_of_body(node: Function) -> int:
    """Lines from the first statement after the docstring to the last."""
    statements = node.body[1:] if ast.get_docstring(node) else node.body
    if not statements:
        return 0
    return (statements[-1].end_lineno or 0) - statements[0].lineno + 1


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


def test_imports_keep_the_contracts() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@every_file
def test_a_file_has_three_hundred_lines_at_most(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@every_source
def test_a_function_has_forty_lines_at_most(path: Path) -> None:
    lengths = {
        name: length_of_body(node)
        for name, node in definitions(tree_of(path).body)
        if isinstance(node, Function)
    }
    exempt = {"train_round": 60}
    too_long = {
        name: length
        for name, length in lengths.items()
        if length > exempt.get(name, MOST_LINES_OF_A_FUNCTION)
    }
    assert too_long == {}


@every_source
def test_everything_public_is_documented(path: Path) -> None:
    tree = tree_of(path)
    assert ast.get_docstring(tree), "the module has no docstring"
    bare = [
        name
        for name, node in definitions(tree.body)
        if is_public(name) and not ast.get_docstring(node)  # type: ignore[arg-type]
    ]
    assert bare == []


@every_file
def test_nothing_is_left_to_be_done(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for marker in ("TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK"):
        assert marker not in text


@every_file
def test_a_file_is_named_for_what_it_holds(path: Path) -> None:
    assert path.stem not in FORBIDDEN_NAMES
    assert path.parent.name not in FORBIDDEN_NAMES


def weighs_by_one_plus_w(node: ast.AST) -> bool:
    """Whether an expression holds `1 + w` (or `w + 1`), whatever w is read from."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)):
        return False
    sides = (node.left, node.right)
    one = any(isinstance(side, ast.Constant) and side.value == 1 for side in sides)
    named = any(
        (isinstance(side, ast.Name) and side.id in {"w", "weight", "guidance_weight"})
        or (isinstance(side, ast.Attribute) and side.attr in {"w", "guidance_weight"})
        for side in sides
    )
    return one and named


def guides(node: ast.AST) -> bool:
    """Whether an expression is `a + w * (a - b)` in any order of its terms and factors."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)):
        return False
    for kept, product in ((node.left, node.right), (node.right, node.left)):
        if isinstance(product, ast.BinOp) and isinstance(product.op, ast.Mult):
            for factor in (product.left, product.right):
                if isinstance(factor, ast.BinOp) and isinstance(factor.op, ast.Sub):
                    return ast.dump(factor.left) == ast.dump(kept)
    return False


def test_the_guidance_formula_stands_in_one_place() -> None:
    found = {
        name_of(path)
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if weighs_by_one_plus_w(node) or guides(node)
    }
    assert found == {"pipeline/diffusion/guidance.py"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(1 + w) * c - w * u", True),
        ("(w + 1.0) * c", True),
        ("(1 + self.w) * c", True),
        ("c + w * (c - u)", True),
        ("(c.x - u.x) * scale + c.x", True),
        ("a + (b - a) * t", False),
        ("t * total - 1", False),
    ],
)
def test_the_formula_is_recognised_in_its_disguises(text: str, expected: bool) -> None:
    nodes = list(ast.walk(ast.parse(text)))
    assert any(weighs_by_one_plus_w(node) or guides(node) for node in nodes) is expected


@every_source
def test_nothing_executable_is_read_from_disk(path: Path) -> None:
    imported = {
        name.name.partition(".")[0]
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Import)
        for name in node.names
    } | {
        (node.module or "").partition(".")[0]
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom)
    }
    assert imported.isdisjoint({"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"})
