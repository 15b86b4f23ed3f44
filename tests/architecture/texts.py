"""All texts of the product; `python -m tests.architecture.texts [PATTERN]` lists them.

Docstrings, messages, option helps, log formats and page strings of the sources, and the comments of
recipes, profiles and templates.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pipeline", "infra", "stages", "flows")
_TWO_WORDS = re.compile(r"[A-Za-z]{2,}\W+[A-Za-z]{2,}")


def texts() -> Iterator[tuple[str, str]]:
    """Yield every text with its place, `path:line`."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            place = path.relative_to(ROOT).as_posix()
            if path.suffix == ".py":
                for line, text in _strings(ast.parse(path.read_text(encoding="utf-8"))):
                    yield f"{place}:{line}", text
            elif path.suffix in {".yaml", ".js", ".html", ".md"}:
                for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                    comment = text.partition("#")[2] if path.suffix == ".yaml" else text
                    if _TWO_WORDS.search(comment):
                        yield f"{place}:{line}", comment.strip()


def _strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the strings of at least two words; values put into a string are shown as `{...}`."""
    parts = {
        id(value)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for value in ast.walk(node)
        if value is not node
    }
    for node in ast.walk(tree):
        text = None
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                str(each.value) if isinstance(each, ast.Constant) else "{...}"
                for each in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = None if id(node) in parts else node.value
        if text and _TWO_WORDS.search(text):
            yield node.lineno, text


if __name__ == "__main__":
    word = re.compile(sys.argv[1] if len(sys.argv) > 1 else "")
    for place, text in texts():
        if word.search(text):
            sys.stdout.write(f"{place}: {' '.join(text.split())}\n")
