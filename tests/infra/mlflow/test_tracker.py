"""A real MLflow store in SQLite: runs continue, nothing is there twice, and nobody waits for it."""

import json
import math
import sqlite3
import stat
import time
from pathlib import Path
from urllib.parse import parse_qs, unquote

import pytest
from mlflow import MlflowClient

from infra.mlflow.pages import chart_page, default_uri, ui_command
from infra.mlflow.store import MlflowStore
from infra.mlflow.tracker import MetricForwarder
from pipeline.errors import InfraError
from pipeline.tracking import JsonlTracker


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def store(root):
    return MlflowStore(None, root, "stepfold")


@pytest.fixture(scope="module")
def client(store):
    return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)


@pytest.fixture
def chain(store, request):
    return store.chain(request.node.name, "digits", {"seed": 1}, {})


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "student"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    return folder


def lines(path: Path, *samples: int) -> None:
    with path.open("a") as file:
        for seen in samples:
            metrics = {"update": seen / 10, "train/loss": 1 / seen, "time/updates_per_s": 5.0}
            file.write(json.dumps({"samples_seen": seen, **metrics}) + "\n")


def steps(client: MlflowClient, run_id: str, name: str = "train/loss") -> list[int]:
    return [point.step for point in client.get_metric_history(run_id, name)]


def test_the_default_store_is_the_users_alone(root, store):
    assert stat.S_IMODE((root / "mlflow.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "mlflow-artifacts").stat().st_mode) == 0o700
    assert store.uri == default_uri(root)


def test_rounds_are_children_of_their_chain(store, client, chain):
    child = store.round(chain, "children/0", "round 0", {"round": 0, "w_max": 4.0}, {"a": "b"})
    run = client.get_run(child)
    assert run.data.tags["mlflow.parentRunId"] == chain
    assert run.data.tags["kind"] == "round"
    assert run.data.tags["round"] == "00"
    assert run.data.tags["a"] == "b"
    assert run.data.params == {"round": "0", "w_max": "4.0"}
    assert client.get_run(chain).data.tags["kind"] == "chain"


@pytest.mark.parametrize("ended", ["FAILED", "KILLED", None])
def test_the_same_run_continues_after_a_crash(root, store, client, ended):
    first = store.chain(f"crash-{ended}", "digits", {"seed": 1}, {})
    child = store.round(first, f"crash-{ended}/0", "round 0", {"round": 0}, {})
    if ended:
        store.finish(child, ended)
        store.finish(first, ended)
    again = MlflowStore(None, root, "stepfold")
    assert again.experiment_id == store.experiment_id
    assert again.chain(f"crash-{ended}", "digits", {"seed": 1}, {}) == first
    assert again.round(first, f"crash-{ended}/0", "round 0", {"round": 0}, {}) == child
    assert client.get_run(child).info.status == "RUNNING"
    again.finish(child, "FINISHED")
    assert client.get_run(child).info.status == "FINISHED"


def test_a_changed_parameter_is_kept_beside_the_first_one(store, client):
    run = store.chain("changed", "digits", {"rate": 0.1, "seed": 1}, {})
    assert store.chain("changed", "digits", {"rate": 0.2, "seed": 1, "new": 3}, {}) == run
    data = client.get_run(run).data
    assert data.params == {"rate": "0.1", "seed": "1", "new": "3"}
    assert data.tags["changed.rate"] == "0.2"
    assert "changed.seed" not in data.tags


def test_a_parameter_too_long_for_mlflow_is_whole_in_a_file(store, client, tmp_path):
    text = "x" * 7000
    run = store.chain("long", "digits", {"recipe": text}, {})
    assert client.get_run(run).data.params["recipe"].endswith("(whole in params/recipe.txt)")
    copy = client.download_artifacts(run, "params/recipe.txt", str(tmp_path))
    assert Path(copy).read_text() == text


def test_a_metric_is_recorded_once(store, client, chain):
    for _ in range(3):
        store.metrics(chain, {"chain/distance": 1.5}, step=4)
    store.metrics(chain, {"chain/distance": 1.5}, step=2)
    store.metrics(chain, {"chain/distance": 1.25}, step=2)
    assert steps(client, chain, "chain/distance") == [4, 2, 2]


def test_names_are_ascii_and_values_may_be_infinite(store, client, chain):
    store.metrics(chain, {"eval/größe µ": math.inf}, step=1)
    assert client.get_metric_history(chain, "eval/gr__e _")[0].value > 1e300


def test_files_texts_and_descriptions_are_kept(store, client, chain, tmp_path):
    picture = tmp_path / "grid.png"
    picture.write_bytes(b"png")
    store.files(chain, [picture], "pictures")
    store.text(chain, "a: 1\n", "recipe.yaml")
    store.describe(chain, "# Chain\n| a |\n|---|\n| 1 |\n\n## More\n\ntext")
    assert [file.path for file in client.list_artifacts(chain, "pictures")] == ["pictures/grid.png"]
    assert "recipe.yaml" in [file.path for file in client.list_artifacts(chain)]
    note = client.get_run(chain).data.tags["mlflow.note.content"]
    assert note == "# Chain\n\n| a |\n|---|\n| 1 |\n\n## More\n\ntext"


def test_weights_have_one_version(store, client, chain, bundle):
    first = store.register("students", bundle, "sha-1", chain, {"steps": 4})
    assert store.register("students", bundle, "sha-1", chain, {"steps": 4}) == first
    second = store.register("students", bundle, "sha-2", chain, {"steps": 4})
    assert second != first
    assert len(client.search_model_versions("name = 'students'")) == 2
    version = client.get_model_version("students", first)
    assert version.source == str(bundle)
    assert version.tags == {"steps": "4", "stepfold.digest": "sha-1"}
    for chosen in (first, second, second):
        store.alias("students", "teacher", chosen)
        found = client.get_model_version_by_alias("students", "teacher")
        assert str(found.version) == chosen


def test_the_link_selects_the_rounds_of_one_chain_in_order(store, client, chain):
    other = store.chain("other", "other", {}, {})
    store.round(other, "other/0", "round 0", {"round": 0}, {})
    rounds = [
        store.round(chain, f"link/{number}", f"round {number}", {"round": number}, {})
        for number in (10, 2, 0)
    ]
    page, _, query = chart_page(store.experiment_id, chain).partition("?")
    assert page == f"#/experiments/{store.experiment_id}/runs"
    asked = {name: unquote(value[0]) for name, value in parse_qs(query).items()}
    found = client.search_runs(
        [store.experiment_id],
        asked["searchFilter"],
        order_by=[f"{asked['orderByKey']} ASC"],
    )
    assert asked["orderByAsc"] == "true"
    assert [run.info.run_id for run in found] == [*rounds[::-1], chain]
    assert asked["compareRunsMode"] == "CHART"


def test_the_pages_are_served_on_loopback_only(root):
    command = ui_command(root / "mlflow-artifacts", 5001)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5001"


class TestForwarding:
    def test_lines_arrive_while_the_file_grows(self, store, client, chain, tmp_path):
        path = tmp_path / "metrics.jsonl"
        with MetricForwarder(store, lambda: chain, path, interval=0.05):
            lines(path, 10, 20)
            deadline = time.monotonic() + 30
            while steps(client, chain) != [10, 20]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            lines(path, 30)
        assert steps(client, chain) == [10, 20, 30]
        assert steps(client, chain, "time/updates_per_s") == [10, 20, 30]
        assert "update" not in client.get_run(chain).data.metrics

    def test_a_line_being_written_is_left_for_later(self, store, client, chain, tmp_path):
        path = tmp_path / "metrics.jsonl"
        lines(path, 10)
        with path.open("a") as file:
            file.write('{"samples_seen": 20, "train/lo')
        with MetricForwarder(store, lambda: chain, path, interval=0.05):
            pass
        with path.open("a") as file:
            file.write('ss": 2.0}\n')
        with MetricForwarder(store, lambda: chain, path, interval=0.05):
            pass
        assert steps(client, chain) == [10, 20]

    def test_a_resumed_round_repeats_no_point(self, store, client, chain, tmp_path):
        path = tmp_path / "metrics.jsonl"
        lines(path, 10, 20, 30)
        with MetricForwarder(store, lambda: chain, path, interval=0.05):
            time.sleep(0.2)
            JsonlTracker(path, samples_seen=20)  # as a worker does that resumes from 20
            lines(path, 30, 40)
        lines(path, 50)
        with MetricForwarder(
            store, lambda: chain, path, interval=0.05
        ):  # a driver that starts again
            pass
        assert steps(client, chain) == [10, 20, 30, 40, 50]

    def test_what_another_training_left_is_not_told(self, store, client, chain, tmp_path):
        path = tmp_path / "metrics.jsonl"
        lines(path, 11, 22, 33)
        with MetricForwarder(store, lambda: chain, path, interval=0.05, awaits_writer=True):
            time.sleep(0.3)
            JsonlTracker(path, samples_seen=0)  # as a worker does that begins anew
            lines(path, 10, 20)
        assert steps(client, chain) == [10, 20]

    def test_long_files_are_sent_in_parts(self, store, client, chain, tmp_path):
        path = tmp_path / "metrics.jsonl"
        lines(path, *range(1, 1201))
        with MetricForwarder(store, lambda: chain, path, interval=0.05):
            pass
        assert steps(client, chain) == list(range(1, 1201))

    def test_a_store_that_fails_is_asked_again_and_warns_once(
        self, store, client, chain, tmp_path, caplog, monkeypatch
    ):
        path = tmp_path / "metrics.jsonl"
        lines(path, 10, 20)
        working = store._client
        # a second client of a server that is not there; no method of ours is replaced
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        store._client = MlflowClient(tracking_uri="http://127.0.0.1:9")
        try:
            with MetricForwarder(store, lambda: chain, path, interval=0.05):
                time.sleep(0.5)
                store._client = working
        finally:
            store._client = working
        assert steps(client, chain) == [10, 20]
        assert len([r for r in caplog.records if "unreachable" in r.message]) == 1

    def test_a_dead_store_does_not_keep_anyone_waiting(self, store, chain, tmp_path, monkeypatch):
        path = tmp_path / "metrics.jsonl"
        lines(path, 10)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        working = store._client
        store._client = MlflowClient(tracking_uri="http://127.0.0.1:9")
        started = time.monotonic()
        try:
            with MetricForwarder(store, lambda: chain, path, interval=0.05, patience=1.0):
                pass
        finally:
            store._client = working
        assert time.monotonic() - started < 5

    def test_a_file_that_never_comes_is_no_error(self, store, chain, tmp_path, caplog):
        with MetricForwarder(store, lambda: chain, tmp_path / "none.jsonl", interval=0.05):
            pass
        assert not caplog.records


def test_a_locked_database_delays_and_loses_nothing(root, store, client, chain, tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines(path, 10, 20)
    other = sqlite3.connect(root / "mlflow.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with MetricForwarder(store, lambda: chain, path, interval=0.05):
        time.sleep(3)
        other.execute("COMMIT")
    other.close()
    assert steps(client, chain) == [10, 20]


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InfraError, match=r"MLflow at http://\*\*\*@127.0.0.1:9 ") as caught:
        MlflowStore("http://me:secret@127.0.0.1:9", tmp_path, "stepfold")
    assert "secret" not in str(caught.value)
