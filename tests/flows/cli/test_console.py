"""The terminal: texts of failures, and a log file for everything that libraries print."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.console import exclusive_terminal, failure
from tests.support.terminal import command, environment


def test_a_failure_names_the_stage_the_log_and_the_command_to_continue(tmp_path: Path) -> None:
    text = failure("round 1, distil", "a worker died", tmp_path / "run.log", "stepfold run x.yaml")
    assert text.plain.splitlines() == [
        "Failed   round 1, distil: a worker died",
        f"Log      {tmp_path / 'run.log'}",
        "Continue stepfold run x.yaml",
    ]


def test_the_output_of_libraries_goes_to_the_log_and_ours_to_the_terminal(
    tmp_path: Path,
) -> None:
    code = (
        "import logging, os, sys, subprocess, pathlib\n"
        "from flows.cli.console import exclusive_terminal\n"
        "with exclusive_terminal(pathlib.Path('logs/run.log')) as console:\n"
        "    print('noise of python'); os.write(2, b'noise of C\\n')\n"
        "    log = logging.getLogger('stages.gate.judge')\n"
        "    log.info('verdict %s', 'in'); log.debug('no'); log.warning('careful')\n"
        "    subprocess.run(['echo', 'noise of a child'])\n"
        "    console.print('for people')\n"
        "log.info('no'); print('afterwards')"
    )
    done = subprocess.run(
        [command()[0], "-c", code],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "for people\nafterwards\n"
    assert done.stderr == ""
    lines = (tmp_path / "logs" / "run.log").read_text().splitlines()
    ours = [line.split(" | ", 1)[1] for line in lines if " | " in line]
    assert ours == [
        "INFO    | stages.gate.judge - verdict in",
        "WARNING | stages.gate.judge - careful",
    ]
    others = {line for line in lines if " | " not in line}
    assert others == {"noise of python", "noise of C", "noise of a child"}


def test_descriptors_are_restored_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive_terminal(tmp_path / "run.log"):
        raise ZeroDivisionError
    assert sys.stdout.writable()
