"""A stage looks its result up once, and works only if it is missing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.ledger import Artifact, Ledger
from stages.data.encode import encode
from stages.data.shard import shard
from stages.teacher.adopt import adopt, adopt_components
from stages.workspace import Observer, StageResult, Workspace, find_or_make
from tests.support.family_chain import resolve
from tests.support.recipes import INLINE
from tests.support.small_run import small_recipe
from tests.support.told import Told

KEY = "k" * 64

Stage = Callable[[Observer], StageResult[Artifact]]


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the fingerprints that are looked up, in any ledger."""
    keys: list[str] = []
    find = Ledger.find

    def counted(ledger: Ledger, key: str) -> Artifact | None:
        keys.append(key)
        return find(ledger, key)

    monkeypatch.setattr(Ledger, "find", counted)
    return keys


def test_a_missing_result_is_looked_up_once_and_made_while_observed(
    tmp_path: Path, looked_up: list[str]
) -> None:
    ledger, observer = Ledger(tmp_path), Told()

    def write(folder: Path) -> dict[str, Any]:
        assert observer.worked == 1
        (folder / "file").write_text("made")
        return {}

    def make() -> Artifact:
        return ledger.publish("thing", KEY, "thing", write)

    made = find_or_make(ledger, KEY, observer, make)
    assert not made.reused
    assert looked_up == [KEY]
    again = find_or_make(ledger, KEY, observer, make)
    assert again == StageResult(made.value, reused=True)
    assert looked_up == [KEY, KEY]
    assert observer.worked == 1


def test_a_stage_that_fails_was_at_work(tmp_path: Path, looked_up: list[str]) -> None:
    observer = Told()

    def make() -> Artifact:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        find_or_make(Ledger(tmp_path), KEY, observer, make)
    assert (looked_up, observer.worked) == ([KEY], 1)


def runs_once(stage: Stage, looked_up: list[str]) -> Artifact:
    """Run a stage twice: it works once, and the second call looks up one fingerprint."""
    observer = Told()
    made = stage(observer)
    assert (made.reused, observer.worked) == (False, 1)
    looked_up.clear()
    assert stage(observer) == StageResult(made.value, reused=True)
    assert observer.worked == 1
    assert looked_up == [made.value.fingerprint]
    return made.value


def test_stages_are_looked_up_once(tmp_path: Path, looked_up: list[str]) -> None:
    work = Workspace(tmp_path / "gaussian", small_recipe())
    data = runs_once(lambda observer: shard(work, observer), looked_up)
    runs_once(lambda observer: adopt(work, data, observer), looked_up)

    of_sd = Workspace(tmp_path / "run", resolve("sd", tmp_path), INLINE)
    inputs = {
        "data": shard(of_sd).value,
        "components": runs_once(lambda observer: adopt_components(of_sd, observer), looked_up),
    }
    encoded = runs_once(lambda observer: encode(of_sd, **inputs, observer=observer), looked_up)
    assert looked_up == [encoded.fingerprint]
