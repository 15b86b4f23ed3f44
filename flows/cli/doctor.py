"""`stepfold doctor`: check that this machine can run recipes."""

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import typer
from packaging.requirements import InvalidRequirement, Requirement
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from flows.cli.console import DONE, FAILED, open_console
from flows.cli.options import RunsProfile
from pipeline.wording import format_bytes

Verdict = Literal["good", "careful", "bad"]

_GB = 10**9

_TORCH = """
import json, torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
build = f"CUDA {torch.version.cuda} build" if torch.version.cuda else "CPU build"
print(json.dumps({"build": f"{torch.__version__}, {build}", "gpus": ", ".join(gpus)}))
"""


_PORTS = {"prefect ui": 4200, "mlflow ui": 5000}
"""Default ports of `stepfold schedule` and `stepfold ui`."""


def doctor(profile: RunsProfile = None) -> None:
    """Check whether this machine can run recipes: packages, cores, memory, disk, ports, GPU.

    Exit codes: 0 ready, 1 something is broken.
    """
    console = open_console()
    with console.status("Checking this machine ..."):
        from flows.cli.request import runs_root

        findings = list(examine(runs_root(profile), _PORTS))
    console.print(doctor_table(findings))
    raise typer.Exit(FAILED if any(each.verdict == "bad" for each in findings) else DONE)


@dataclass(frozen=True)
class Finding:
    """Result of one check: `bad` breaks runs, `careful` may cause trouble."""

    topic: str
    verdict: Verdict
    text: str


def examine(root: Path, ports: dict[str, int]) -> Iterator[Finding]:
    """Check everything a run depends on, fast checks first.

    Args:
        root: directory of the run directories.
        ports: default ports of the servers that commands start, by purpose.
    """
    from flows.orchestration.server import is_free

    version = platform.python_version()
    advice = "create the environment with Python 3.11"
    yield _check("python", version.startswith("3.11."), f"{version} in {sys.prefix}", advice, "bad")
    yield _packages()
    usable, present, load = len(os.sched_getaffinity(0)), os.cpu_count(), os.getloadavg()[0]
    text = f"{usable} of {present}, load {load:.1f}"
    yield _check("cores", load <= usable, text, "busy, so runs will be slow")
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield _check("memory", size >= 4 * _GB, format_bytes(size), "two workers need about 4 GB")
    place = next(found for found in [root, *root.parents] if found.is_dir())
    free = shutil.disk_usage(place).free
    text = f"{format_bytes(free)} free at {place}"
    yield _check("disk", free >= _GB, text, "free at least 1 GB", "bad")
    shared = Path("/dev", "shm")
    free = shutil.disk_usage(shared).free if shared.is_dir() else 0
    advice = "below 125 MB Ray uses slow files; start the container with --shm-size=1g"
    yield _check(str(shared), free >= _GB // 8, f"{format_bytes(free)} free", advice)
    for purpose, port in ports.items():
        is_unused = is_free(port)
        text = f"port {port} is {'free' if is_unused else 'in use'}"
        yield _check(purpose, is_unused, text, "a server may be running; else choose with --port")
    yield from _proxy()
    yield from _torch()
    yield _prefect()


def _check(
    topic: str, passed: object, text: str, advice: str, verdict: Verdict = "careful"
) -> Finding:
    """Build a finding; a failed check has the `verdict`, and the advice after the text."""
    return Finding(topic, "good", text) if passed else Finding(topic, verdict, f"{text}; {advice}")


def _proxy() -> Iterator[Finding]:
    """Report a proxy that the variables give for connections to this machine."""
    from infra.process.environment import proxied_loopback

    if missing := proxied_loopback():
        yield Finding(
            "proxy",
            "careful",
            f"used for {', '.join(missing)}, except in what Stepfold starts; for other programs, "
            f"such as prefect: export NO_PROXY={','.join(missing)}",
        )


def _packages() -> Finding:
    try:
        declared = importlib.metadata.requires("stepfold") or []
    except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
        declared = []
    required = [each for each in _requirements(declared) if not each.marker]
    if broken := _mismatches(required):
        return Finding("packages", "bad", f"{'; '.join(broken)}; install with -c constraints.txt")
    file = Path(str(resources.files("flows"))).parent / "constraints.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    tested = [each for each in _requirements(lines) if _version(each.name)]
    if not tested:
        text = "constraints.txt not found, so only declared versions were compared"
        return Finding("packages", "careful", text)
    if other := _mismatches(tested):
        listed = ", ".join(other[:4]) + (f" and {len(other) - 4} more" if other[4:] else "")
        return Finding("packages", "careful", f"not the versions tested together: {listed}")
    return Finding("packages", "good", f"{len(tested)} installed, in the versions tested together")


def _requirements(lines: Iterable[str]) -> Iterator[Requirement]:
    for line in lines:
        try:
            yield Requirement(line.partition("#")[0].strip())
        except InvalidRequirement:  # a comment or an empty line
            continue


def _mismatches(requirements: Iterable[Requirement]) -> list[str]:
    found = []
    for each in requirements:
        version = _version(each.name)
        if version is None:
            found.append(f"{each.name} is missing")
        # 2.13.0 and 2.13.0+cpu are the same version in two builds
        elif not each.specifier.contains(re.sub(r"\+.*", "", version), prereleases=True):
            found.append(f"{each.name} {version} instead of {each.specifier}")
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch() -> Iterator[Finding]:
    output, error = _run_python(_TORCH)
    if error:
        yield Finding("torch", "bad", f"import failed: {error}")
        return
    facts = json.loads(output.splitlines()[-1])
    yield Finding("torch", "good", facts["build"])
    has_device = any(Path("/dev").glob("nvidia[0-9]*"))
    text = "present, but not visible to torch" if has_device else "none; the laptop profile is fine"
    advice = "install the CUDA build of torch and the driver"
    yield _check("gpu", facts["gpus"] or not has_device, facts["gpus"] or text, advice)


def _prefect() -> Finding:
    _, error = _run_python("import prefect.server.api.server")
    text = f"import of the server failed: {error}" if error else f"server {_version('prefect')}"
    advice = f"fastapi {_version('fastapi')} is installed, and it must be below 0.151"
    return _check("prefect", not error, text, advice, "bad")


def _run_python(code: str) -> tuple[str, str]:
    """Run code in a process of its own; return its output and the last line of its error."""
    command = [sys.executable, "-P", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    lines = result.stderr.strip().splitlines() or ["no message"]
    return result.stdout, lines[-1] if result.returncode else ""


_MARKS = {"good": "✓", "careful": "!", "bad": "✗"}


def doctor_table(findings: Iterable[Finding]) -> RenderableType:
    """Return the findings as text, with a mark for each."""
    table = Table.grid(padding=(0, 2))
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        mark = Text(_MARKS[finding.verdict], style=finding.verdict)
        table.add_row(mark, Text(finding.topic, style="name"), Text(finding.text))
    return table
