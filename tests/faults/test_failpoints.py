"""Every failpoint occurs in the source, runs its action, and is used by a kill test."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import Recipe
from pipeline.documents import build, read_yaml
from pipeline.errors import ConfigError
from pipeline.failpoints import POINTS, VARIABLE, arm
from tests.faults.kill_table import KILLED_IN_A_CHAIN, KILLED_IN_PROCESS

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    file
    for package in ("pipeline", "infra", "stages", "flows")
    for file in (ROOT / package).rglob("*.py")
]


def names_in(text: str) -> list[str]:
    """Return the arguments of `failpoint(...)` in a module; a non-literal name is an error."""
    found = []
    for node in ast.walk(ast.parse(text)):
        called = getattr(node, "func", None)
        if isinstance(called, ast.Name) and called.id == "failpoint":
            (argument,) = node.args  # type: ignore[attr-defined]
            assert isinstance(argument, ast.Constant)
            found.append(argument.value)
    return found


def test_every_failpoint_is_described_and_every_description_is_of_one() -> None:
    called = [name for file in SOURCES for name in names_in(file.read_text(encoding="utf-8"))]
    assert set(called) == set(POINTS)
    assert len(called) == len(set(called))  # or a kill at one would count for the other


def test_every_failpoint_is_killed_and_nothing_else_is_in_the_tables() -> None:
    in_process = {point for points in KILLED_IN_PROCESS.values() for point in points}
    in_a_chain = {kill.point for kill in KILLED_IN_A_CHAIN}
    assert in_process | in_a_chain == set(POINTS)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("publish.renamd=kill9", "unknown failpoint 'publish.renamd'; see POINTS"),
        ("publish.renamed", "'publish.renamed' is not valid; use POINT=ACTION"),
        ("publish.renamed=explode@2", "'publish.renamed=explode@2' is not valid; use POINT=ACTION"),
        ("publish.renamed=kill9@0", "a number of at least 1"),
        ("publish.renamed=kill9@two", "a number of at least 1"),
        ("durable.synced=eio,=kill9", "unknown failpoint ''"),
    ],
)
def test_what_no_failpoint_can_do_is_refused(text: str, complaint: str) -> None:
    try:
        with pytest.raises(ConfigError, match=complaint) as caught:
            arm(text)
        assert str(caught.value).startswith(VARIABLE)
    finally:
        arm("")


def run(armed: str, *command: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, VARIABLE: armed}
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_environment_arms_a_process_for_the_time_it_says(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys\n"
        "from pipeline.durable import write_durably\n"
        "for name in 'abc':\n"
        "    write_durably(pathlib.Path(sys.argv[1]) / name, name)\n"
    )
    killed = run("durable.replaced=kill9@2", "-c", script, str(tmp_path))
    assert killed.returncode == -9
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]
    failed = run(" durable.synced=eio@3 ,", "-c", script, str(tmp_path))
    assert failed.returncode == 1
    assert failed.stderr.startswith("failpoint durable.synced: eio in process ")
    assert failed.stderr.splitlines()[-1] == "OSError: [Errno 5] failpoint durable.synced"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]
    assert run("", "-c", script, str(tmp_path)).returncode == 0


def test_a_run_with_a_name_that_is_none_is_refused_before_it_begins(tmp_path: Path) -> None:
    command = ("-m", "flows.cli.app", "run", "flows/recipes/gaussian.yaml", "--run-dir")
    refused = run("publish.renamd=kill9", *command, str(tmp_path / "run"))
    assert refused.returncode != 0
    assert "unknown failpoint 'publish.renamd'" in refused.stderr
    assert not (tmp_path / "run").exists()


def test_no_recipe_can_arm_a_failpoint() -> None:
    tree = read_yaml(ROOT / "flows" / "recipes" / "gaussian.yaml")
    for key in ("failpoints", "STEPFOLD_FAILPOINTS"):
        with pytest.raises(ConfigError, match=f"{key}: unknown key"):
            build(Recipe, {**tree, key: "publish.renamed=kill9"}, "recipe.yaml")
