"""The benchmark suite: `python -m tests.benchmarks [NAME ...] [--quick] [--output DIR]`.

Every benchmark runs in a fresh process, one after the other. Results go to `bench.json` and, as
tables, to `bench.md`, in the output folder; naming some benchmarks renews their parts only. Run it
on a machine that does nothing else.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.benchmarks.rows import Part, read_parts, write_parts
from tests.benchmarks.tables import to_markdown, to_screen

BENCHMARKS = {
    "update": 1,
    "workers": 1,
    "pregenerate": 1,
    "loader": 1,
    "round": 1,
    "memory": 1,
    "bf16": 1,
    "scaling": 1,
    "peers": 2,
    "chain": 1,
    "overhead": 1,
}
"""Names in the order they run, with torch's threads in each."""

_ROOT = Path(__file__).resolve().parents[2]
_POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_console = Console()


def main() -> int:
    """Run what was asked for; 1 if a benchmark failed to run, whatever its numbers."""
    asked = _parse()
    results = asked.output / "bench.json"
    failed = []
    for name in asked.names or BENCHMARKS:
        _console.rule(name)
        part = _run(name, asked)
        if part is None:
            failed.append(name)
            continue
        parts = {**read_parts(results), name: part}
        parts = {each: parts[each] for each in BENCHMARKS if each in parts}
        write_parts(results, parts)
        (asked.output / "bench.md").write_text(to_markdown(parts.values()), encoding="utf-8")
        _console.print(to_screen(part))
    if failed:
        _console.print(f"[red]did not run: {', '.join(failed)}[/red]")
    return 1 if failed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="only see that it runs")
    parser.add_argument("--profile", action="store_true", help="write profiles beside the results")
    parser.add_argument(
        "--teacher", type=Path, default=Path("runs/digits"), help="a finished run of the digits"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/bench"))
    asked = parser.parse_args()
    unknown = sorted(set(asked.names) - BENCHMARKS.keys())
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; use {', '.join(BENCHMARKS)}")
    asked.output = asked.output.resolve()
    asked.teacher = asked.teacher.resolve()
    asked.output.mkdir(parents=True, exist_ok=True)
    return asked


def _run(name: str, asked: argparse.Namespace) -> Part | None:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        result = Path(folder) / "part.json"
        command = [sys.executable, "-m", "tests.benchmarks.one", name, str(result)]
        command += ["--teacher", str(asked.teacher), "--output", str(asked.output)]
        command += ["--quick"] * asked.quick + ["--profile"] * asked.profile
        pools = dict.fromkeys(_POOLS, str(BENCHMARKS[name]))
        done = subprocess.run(command, cwd=_ROOT, env={**os.environ, **pools}, check=False)
        if done.returncode or not result.is_file():
            return None
        return Part.model_validate_json(result.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
