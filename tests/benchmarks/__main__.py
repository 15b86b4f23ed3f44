"""The benchmark suite: `python -m tests.benchmarks [NAME ...] [--quick] [--output DIR]`.

Every benchmark runs in a fresh process with one thread, one after the other. Results go to
`bench.json` and, as tables, to `bench.md`, in the output folder; naming some benchmarks renews
their parts only. Run it on a machine that does nothing else.
"""

import argparse
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from tests.benchmarks.harness import read_parts, run, to_markdown, write_parts

BENCHMARKS = {
    "update": "update:measure",
    "workers": "workers:measure",
    "pregenerate": "pregenerate:measure",
    "loader": "loader:measure",
    "resume": "resume:measure",
    "round": "round_costs:measure_start",
    "memory": "round_costs:measure_memory",
    "bf16": "update:measure_bf16",
    "scaling": "scaling:measure",
}
"""Names in the order they run, each with its module and function."""


def main() -> int:
    """Run the selected benchmarks; return 1 if one failed to run, whatever its numbers."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="only see that it runs")
    parser.add_argument("--output", type=Path, default=Path("runs/bench"))
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - BENCHMARKS.keys()):
        parser.error(f"there is no benchmark {', '.join(unknown)}; use {', '.join(BENCHMARKS)}")
    asked.output.mkdir(parents=True, exist_ok=True)
    results, console, failed = asked.output / "bench.json", Console(), []
    for pool in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[pool] = "1"
    for name in asked.names or BENCHMARKS:
        console.rule(name)
        fresh = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=fresh) as process:
            try:
                part = process.submit(run, name, BENCHMARKS[name], quick=asked.quick).result()
            except Exception:  # whatever it was, the others run
                console.print_exception()
                failed.append(name)
                continue
        parts = {**read_parts(results), name: part}
        write_parts(results, {each: parts[each] for each in BENCHMARKS if each in parts})
        console.print(Markdown(to_markdown([part])))
    if failed:
        console.print(f"[red]did not run: {', '.join(failed)}[/red]")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
