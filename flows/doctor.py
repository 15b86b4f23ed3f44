"""Is this machine ready? Each finding says what is, and what to do where it is not right."""

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement

from flows.child import is_free
from flows.disk import readable

Verdict = Literal["good", "careful", "bad"]

_CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"
_ASK_TORCH = """
import json, torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "gpus": gpus}))
"""
_GB = 10**9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `bad` breaks runs, `careful` may surprise."""

    topic: str
    verdict: Verdict
    text: str


def examine(root: Path, ports: dict[str, int]) -> Iterator[Finding]:
    """Look at everything a run depends on, the quick things first.

    Args:
        root: where runs would go.
        ports: ports that commands of ours listen on, by what for.
    """
    yield _python()
    yield from _packages()
    yield _cores()
    yield _memory()
    yield from _disk(root)
    for purpose, port in ports.items():
        yield _port(purpose, port)
    yield from _torch()
    yield _prefect()


def _python() -> Finding:
    version = platform.python_version()
    if version.startswith("3.11."):
        return Finding("python", "good", f"{version} in {sys.prefix}")
    return Finding("python", "bad", f"{version}; make the environment with Python 3.11")


def _packages() -> Iterator[Finding]:
    required = [
        requirement
        for line in _declared()
        if (requirement := _parse(line)) and (not requirement.marker)
    ]
    broken = [text for requirement in required if (text := _unmet(requirement))]
    for text in broken:
        yield Finding("packages", "bad", f"{text}; install with -c constraints.txt")
    tested = [found for line in _tested() if (found := _parse(line))]
    if not tested:
        text = "constraints.txt is not here, so only declared versions were compared"
        yield Finding("packages", "careful", text)
        return
    here = [requirement for requirement in tested if _version(requirement.name)]
    others = [text for requirement in here if (text := _unmet(requirement))]
    if others:
        listed = ", ".join(others[:4]) + (f" and {len(others) - 4} more" if others[4:] else "")
        yield Finding("packages", "careful", f"not the set that was tested together: {listed}")
    else:
        yield Finding("packages", "good", f"{len(here)} installed, all as tested together")


def _declared() -> list[str]:
    try:
        return importlib.metadata.requires("stepfold") or []
    except importlib.metadata.PackageNotFoundError:  # used from a checkout that is not installed
        return []


def _tested() -> list[str]:
    return _CONSTRAINTS.read_text(encoding="utf-8").splitlines() if _CONSTRAINTS.is_file() else []


def _parse(line: str) -> Requirement | None:
    try:
        return Requirement(line.partition("#")[0].strip())
    except InvalidRequirement:
        return None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _unmet(requirement: Requirement) -> str:
    version = _version(requirement.name)
    if version is None:
        return f"{requirement.name} is missing"
    # 2.13.0 and 2.13.0+cpu are the same version in two builds
    if requirement.specifier.contains(re.sub(r"\+.*", "", version), prereleases=True):
        return ""
    return f"{requirement.name} {version} instead of {requirement.specifier}"


def _cores() -> Finding:
    usable, present = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    load = os.getloadavg()[0]
    text = f"{usable} of {present}" if usable < present else f"{present}"
    if load > usable:
        return Finding("cores", "careful", f"{text}, and busy (load {load:.1f}): runs will be slow")
    return Finding("cores", "good", f"{text}, load {load:.1f}")


def _memory() -> Finding:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size < 4 * _GB:
        return Finding("memory", "careful", f"{readable(size)}; two workers take about 4 GB")
    return Finding("memory", "good", readable(size))


def _disk(root: Path) -> Iterator[Finding]:
    place = next(found for found in [root, *root.parents] if found.is_dir())
    free = shutil.disk_usage(place).free
    if free < _GB:
        yield Finding("disk", "bad", f"{readable(free)} free at {place}; free at least 1 GB")
    else:
        yield Finding("disk", "good", f"{readable(free)} free at {place}")
    shared = Path("/dev", "shm")
    if not shared.is_dir() or shutil.disk_usage(shared).free < _GB // 8:
        text = "under 125 MB: Ray falls back to slow files; start the container with --shm-size=1g"
        yield Finding(str(shared), "careful", text)
    else:
        yield Finding(str(shared), "good", f"{readable(shutil.disk_usage(shared).free)} free")


def _port(purpose: str, port: int) -> Finding:
    if is_free(port):
        return Finding(purpose, "good", f"port {port} is free")
    return Finding(purpose, "careful", f"port {port} is in use; it serves already, or give --port")


def _torch() -> Iterator[Finding]:
    # asked in a process of its own: loading it takes a second, and a broken build takes us down
    answer = _ask(_ASK_TORCH)
    if answer.returncode:
        yield Finding("torch", "bad", f"cannot be imported: {_last_line(answer.stderr)}")
        return
    facts = json.loads(answer.stdout.splitlines()[-1])
    build = f"the CUDA {facts['cuda']} build" if facts["cuda"] else "the CPU build"
    yield Finding("torch", "good", f"{facts['version']}, {build}")
    nvidia = any(Path("/dev").glob("nvidia[0-9]*"))
    if facts["gpus"]:
        yield Finding("gpu", "good", ", ".join(facts["gpus"]))
    elif nvidia:
        text = "there is one, but this torch does not see it; install the CUDA build and its driver"
        yield Finding("gpu", "careful", text)
    else:
        yield Finding("gpu", "good", "none; the laptop profile needs none")


def _prefect() -> Finding:
    answer = _ask("import prefect.server.api.server")
    if answer.returncode == 0:
        return Finding("prefect", "good", f"server {_version('prefect')} can be imported")
    text = f"its server cannot be imported: {_last_line(answer.stderr)}"
    advice = f"with fastapi {_version('fastapi')}; fastapi must be below 0.151"
    return Finding("prefect", "bad", f"{text} ({advice})")


def _ask(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=False
    )


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"
