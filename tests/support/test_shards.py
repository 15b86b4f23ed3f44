"""The parts of the nightly tests contain every test once and do not split files."""

import pytest

from tests.support.shards import parse_shard, select

NAMES = [
    *(f"tests/faults/test_chain_kills.py::test_kill[{number}]" for number in range(20)),
    *(f"tests/{file}.py::test_{number}" for file in "abcdefghi" for number in range(3)),
]


def test_every_test_is_in_one_part() -> None:
    parts = [select(NAMES, part, 8) for part in range(1, 9)]
    assert sorted(name for part in parts for name in part) == sorted(NAMES)
    for part in parts:
        kills = [name for name in part if "kill" in name]
        others = {name.partition("::")[0] for name in part if "kill" not in name}
        assert len(part) - len(kills) == 3 * len(others)
        assert 2 <= len(kills) <= 3


@pytest.mark.parametrize("text", ["", "1", "0/8", "9/8", "1/8/2", "a/b", "-1/8"])
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(pytest.UsageError, match="K/N"):
        parse_shard(text)
    assert parse_shard("8/8") == (8, 8)
