"""Parts of the nightly tests of about equal duration."""

from collections.abc import Sequence

import pytest

BY_TEST = "tests/faults/"
"""Tests that share little with those of their file: they are dealt out one by one."""


def parse_shard(text: str) -> tuple[int, int]:
    """K and N of "K/N".

    Raises:
        UsageError: the value has another form.
    """
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise pytest.UsageError(f"shard {text}: expected K/N with K from 1 to N")
    return int(part), int(parts)


def select(names: Sequence[str], part: int, parts: int) -> set[str]:
    """Tests of a part, by their node ids: files of other folders whole, tests of `BY_TEST` singly.

    Both are distributed in order of names.
    """
    units: dict[str, list[str]] = {}
    for name in names:
        file = name.partition("::")[0]
        units.setdefault(name if file.startswith(BY_TEST) else file, []).append(name)
    dealt = sorted(units, key=lambda unit: ("::" in unit, unit))
    return {name for unit in dealt[part - 1 :: parts] for name in units[unit]}
