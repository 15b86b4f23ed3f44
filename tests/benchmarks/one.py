"""Run one benchmark in this process: `python -m tests.benchmarks.one NAME RESULT.json ...`.

The suite starts one such process after another, its threads fixed by the environment. So no
benchmark sees the allocator, the caches or the thread pools another has left behind.
"""

import argparse
import importlib
import logging
import os
import tempfile
import time
from pathlib import Path

from infra.ray.worker import prepare_process
from tests.benchmarks.hardware import this_machine
from tests.benchmarks.rows import Part, Settings


def main() -> None:
    """Measure, and write the part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("result", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    asked = parser.parse_args()
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    prepare_process(threads)  # as the product's workers do before any work
    logging.getLogger().setLevel(logging.ERROR)
    module = importlib.import_module(f"tests.benchmarks.{asked.name}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        settings = Settings(
            quick=asked.quick,
            profile=asked.profile,
            teacher=asked.teacher,
            output=asked.output,
            scratch=Path(scratch),
        )
        rows = tuple(module.measure(settings))
    part = Part(
        name=asked.name,
        about=(module.__doc__ or "").partition("\n")[0],
        quick=asked.quick,
        threads=threads,
        seconds=round(time.monotonic() - began, 1),
        hardware=this_machine(),
        rows=rows,
    )
    asked.result.write_text(part.model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
