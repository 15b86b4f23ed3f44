"""Rules of the code base that concern several modules."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pipeline", "infra", "stages", "flows")
SOURCES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "manager", "misc", "base"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_a_file_is_named_for_what_it_holds() -> None:
    found = [
        name_of(path) for path in SOURCES + TESTS if FORBIDDEN_NAMES & {path.stem, path.parent.name}
    ]
    assert found == []


def test_shapes_are_checked_in_every_module_that_names_them(pytestconfig: pytest.Config) -> None:
    """The import hook of jaxtyping is given by package, because it slows all other code down."""
    checked = pytestconfig.getoption("jaxtyping_packages").split(",")[:-1]
    forgotten = []
    for path in (ROOT / "pipeline").rglob("*.py"):
        imported = {
            node.module for node in ast.walk(tree_of(path)) if isinstance(node, ast.ImportFrom)
        }
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if imported & {"jaxtyping", "pipeline.tensors"} and not any(
            f"{module}.".startswith(f"{package}.") for package in checked
        ):
            forgotten.append(module)
    assert forgotten == []


def weighs_by_one_plus_w(node: ast.AST) -> bool:
    """Whether an expression contains `1 + w` (or `w + 1`), for any form of w."""
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


def test_the_guidance_formula_is_in_one_place() -> None:
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
