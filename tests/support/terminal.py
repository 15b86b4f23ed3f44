"""The command line in a process of its own: its exit code and output."""

import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from flows.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
GAUSSIAN = ROOT / "flows" / "recipes" / "gaussian.yaml"
DIGITS = ROOT / "flows" / "recipes" / "digits.yaml"
RUN = ("run", "--run-dir", "out")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli.app", *arguments]


def environment(**changes: str) -> dict[str, str]:
    inherited = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{inherited}", **changes}


def stepfold(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def invoke(*arguments: str) -> tuple[int, str]:
    """Return exit code and output, with the line breaks of the terminal removed."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.output.split())


def snapshot(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() if file.is_file() else b""
        for file in path.rglob("*")
    }
