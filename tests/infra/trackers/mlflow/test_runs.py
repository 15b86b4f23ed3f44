"""Look-up of runs in a real MLflow store, by key and by training."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from infra.trackers.mlflow.runs import KEY, SUPERSEDED, searchable
from infra.trackers.mlflow.tracker import MlflowTracker

PATHS = (
    "/runs/it's",
    '/runs/the "best" one',
    '/runs/it\'s the "best" one',
    "/runs/a\\b",
    "/runs/a\\",
    "/runs/100%",
    "/runs/100%27",
    "/runs/größe `x`; --y",
    "/runs/x' or tags.`kind` = 'chain",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MlflowTracker:
    return MlflowTracker(None, tmp_path_factory.mktemp("runs"), "stepfold")


@pytest.fixture(scope="module")
def client(store: MlflowTracker) -> MlflowClient:
    return MlflowClient(tracking_uri=store.uri)


@pytest.fixture
def chain(store: MlflowTracker, request: pytest.FixtureRequest) -> str:
    return store.start(request.node.name, "digits", {}, {})


def status_of(client: MlflowClient, run_id: str) -> str:
    return str(client.get_run(run_id).info.status)


@pytest.mark.parametrize("path", PATHS)
def test_a_run_is_found_again_whatever_its_directory_is_called(
    store: MlflowTracker, client: MlflowClient, path: str
) -> None:
    chain = store.start(path, "digits", {}, {})
    child = store.start(f"{path}/rounds/00-guidance", "round 0", {}, {}, parent=chain)
    assert store.start(path, "digits", {}, {}) == store.find(path) == chain
    assert store.start(f"{path}/rounds/00-guidance", "round 0", {}, {}, parent=chain) == child
    other = store.start(f"{path}2", "digits", {}, {})
    assert store.end_stale_runs(path) == 2
    assert [status_of(client, each) for each in (chain, child, other)] == [
        *("KILLED", "KILLED"),
        "RUNNING",
    ]


def test_two_directories_are_two_runs() -> None:
    assert len({searchable(path) for path in PATHS}) == len(PATHS)


class TestOfOneKey:
    """A round in one folder, with changing trainings."""

    @pytest.fixture
    def opened(self, store: MlflowTracker, chain: str) -> "Opened":
        return Opened(store, chain)

    def test_a_retrained_round_has_a_run_of_its_own(
        self, client: MlflowClient, opened: "Opened"
    ) -> None:
        first = opened.run("one")
        opened.store.finish(first, "FAILED")
        second = opened.run("two")
        assert opened.run("two") == opened.run("two", is_running=False) == second != first
        old, new = client.get_run(first), client.get_run(second)
        assert (old.data.tags[SUPERSEDED], old.info.status) == (second, "FAILED")
        assert old.info.run_name == "round 0, superseded"
        assert (new.info.run_name, SUPERSEDED in new.data.tags) == ("round 0", False)
        assert opened.store.find(opened.key) == second

    def test_back_at_the_first_it_goes_on_there(
        self, client: MlflowClient, opened: "Opened"
    ) -> None:
        first = opened.run("one")
        second = opened.run("two")
        assert status_of(client, first) == "KILLED"  # no process works on it
        assert opened.run("one") == first
        old, new = client.get_run(second), client.get_run(first)
        assert (old.data.tags[SUPERSEDED], SUPERSEDED in new.data.tags) == (first, False)
        assert (new.info.run_name, new.info.status) == ("round 0", "RUNNING")
        assert opened.store.find(opened.key) == first

    def test_a_run_is_marked_also_if_the_first_try_was_killed_before_it(
        self, client: MlflowClient, opened: "Opened"
    ) -> None:
        first, second = opened.run("one"), opened.run("two")
        client.delete_tag(first, SUPERSEDED)
        opened.run("two")
        old = client.get_run(first)
        assert (old.data.tags[SUPERSEDED], old.info.run_name) == (second, "round 0, superseded")


class Opened:
    """Opens the run of one folder of a chain."""

    def __init__(self, store: MlflowTracker, chain: str) -> None:
        self.store = store
        self.chain = chain
        self.key = str(Path("/runs") / chain / "rounds/00-guidance")

    def run(self, training: str, *, is_running: bool = True) -> str:
        name, of = "round 0", {"round": 0}
        return self.store.start(
            self.key, name, of, {}, parent=self.chain, training=training, is_running=is_running
        )


def test_the_key_of_an_ordinary_path_is_the_path(
    store: MlflowTracker, client: MlflowClient
) -> None:
    run = store.start("/runs/digits", "digits", {}, {})
    assert client.get_run(run).data.tags[KEY] == "/runs/digits"
