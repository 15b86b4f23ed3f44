"""A stage looks its result up once, and works only if it is missing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.ledger import Artifact, Ledger
from stages.data.encode import Jobs, encode
from stages.data.encode_worker import open_worker
from stages.data.shard import shard
from stages.export.export import export_student
from stages.teacher.adopt import adopt, adopt_components
from stages.teacher.components import components, components_key
from stages.workspace import Observer, StageResult, Workspace, find_or_make
from tests.stages.export.test_export import commit
from tests.stages.teacher.test_components import recipe as components_recipe
from tests.support.family_chain import resolve
from tests.support.small_run import small_recipe
from tests.support.stock_bundles import tiny
from tests.support.told import Told

KEY = "k" * 64

Stage = Callable[[Observer], StageResult[Artifact]]


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fingerprints that were looked up, in any ledger."""
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
    """Run a stage twice: it works the first time, and looks up one fingerprint the second."""
    observer = Told()
    made = stage(observer)
    assert (made.reused, observer.worked) == (False, 1)
    looked_up.clear()
    assert stage(observer) == StageResult(made.value, reused=True)
    assert observer.worked == 1
    assert looked_up == [made.value.fingerprint]
    return made.value


def test_data_and_teacher_are_looked_up_once(tmp_path: Path, looked_up: list[str]) -> None:
    work = Workspace(tmp_path, small_recipe())
    data = runs_once(lambda observer: shard(work, observer), looked_up)
    runs_once(lambda observer: adopt(work, data, observer), looked_up)


def test_adopted_components_and_latents_are_looked_up_once(
    tmp_path: Path, looked_up: list[str]
) -> None:
    work = Workspace(tmp_path / "run", resolve("sd", tmp_path))
    data = shard(work).value
    parts = runs_once(lambda observer: adopt_components(work, observer), looked_up)

    def serve(spec: dict[str, Any], jobs: Jobs) -> Iterator[dict[str, Any]]:
        yield from map(open_worker(spec), jobs)

    def encoded(observer: Observer) -> StageResult[Artifact]:
        return encode(work, data=data, components=parts, observer=observer, run=serve)

    runs_once(encoded, looked_up)


def test_components_that_were_trained_are_looked_up_once(
    tmp_path: Path, looked_up: list[str]
) -> None:
    work, observer = Workspace(tmp_path, components_recipe()), Told()
    data = shard(work).value

    def write(folder: Path) -> dict[str, Any]:
        (folder / "model_index.json").write_text("{}")
        return {}

    key = components_key(work.recipe, data)
    trained = work.ledger.publish("components", key, "components", write)
    looked_up.clear()
    found = components(work, data=data, observer=observer)
    assert found == StageResult(trained, reused=True)
    assert (looked_up, observer.worked) == ([key], 0)


def test_an_exported_pipeline_is_looked_up_once(tmp_path: Path, looked_up: list[str]) -> None:
    parts, work = tiny("sd", tmp_path / "tiny"), Workspace(tmp_path / "run", small_recipe())
    student = commit(work.ledger, "student", parts.student(1), "rounds/01/student")
    around = commit(work.ledger, "components", parts.components, "components")

    def exported(observer: Observer) -> StageResult[Artifact]:
        return export_student(work, student, around, observer=observer)

    runs_once(exported, looked_up)
