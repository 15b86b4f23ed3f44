"""Large blocks that are freed and allocated again are not mapped again."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import resource, sys
import torch
from infra.process.environment import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(10):  # until the library has as many blocks as it passes round
    torch.ones(2**24)  # 64 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 2**26 // 4096


def faults(how: str) -> int:
    command = [sys.executable, "-c", SCRIPT, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_freed_blocks_are_used_again() -> None:
    assert faults("keep") < PAGES / 10
    # otherwise each of the four blocks is mapped again, in pages of any size
    assert faults("give back") > 4 * faults("keep")
