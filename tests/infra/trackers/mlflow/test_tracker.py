"""MLflow only: its database, text forms, registry and errors."""

import json
import sqlite3
import stat
import time
from pathlib import Path
from shutil import rmtree
from urllib.parse import parse_qs, unquote

import pytest
from mlflow import MlflowClient
from PIL import Image

from infra.metric_forwarder import MetricForwarder
from infra.trackers.mlflow.tracker import MlflowTracker, default_uri
from pipeline.errors import InfraError
from pipeline.tracking import InputData


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def store(root):
    return MlflowTracker(None, root, "stepfold")


@pytest.fixture(scope="module")
def client(store):
    return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)


@pytest.fixture
def chain(store, request):
    return store.start(request.node.name, "digits", {"seed": 1}, {})


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
    child = store.start(
        "children/0", "round 0", {"round": 0, "w_max": 4.0}, {"a": "b"}, parent=chain
    )
    run = client.get_run(child)
    assert run.data.tags["mlflow.parentRunId"] == chain
    assert run.data.tags["kind"] == "round"
    assert run.data.tags["round"] == "00"
    assert run.data.tags["a"] == "b"
    assert run.data.params == {"round": "0", "w_max": "4.0"}
    assert client.get_run(chain).data.tags["kind"] == "chain"


def test_a_parameter_too_long_for_mlflow_is_whole_in_a_file(store, client, tmp_path):
    text = "x" * 7000
    run = store.start("long", "digits", {"recipe": text}, {})
    assert client.get_run(run).data.params["recipe"].endswith("(complete in params/recipe.txt)")
    copy = client.download_artifacts(run, "params/recipe.txt", str(tmp_path))
    assert Path(copy).read_text() == text


def test_names_are_ascii(store, client, chain):
    store.log(chain, [("eval/größe µ", 1.0, 1)])
    assert client.get_metric_history(chain, "eval/gr__e _")[0].value == 1.0


def test_files_and_descriptions_are_kept(store, client, chain, tmp_path):
    picture = tmp_path / "grid.png"
    picture.write_bytes(b"png")
    store.log_files(chain, [picture], "pictures")
    store.describe(chain, "# Chain\n| a |\n|---|\n| 1 |\n\n## More\n\ntext")
    assert [file.path for file in client.list_artifacts(chain, "pictures")] == ["pictures/grid.png"]
    note = client.get_run(chain).data.tags["mlflow.note.content"]
    assert note == "# Chain\n\n| a |\n|---|\n| 1 |\n\n## More\n\ntext"


def test_weights_have_one_version(store, client, chain, bundle):
    first = store.register(chain, "students", bundle, "sha-1", {"steps": 4})
    assert store.register(chain, "students", bundle, "sha-1", {"steps": 4}) == first
    second = store.register(chain, "students", bundle, "sha-2", {"steps": 4})
    assert second != first
    assert len(client.search_model_versions("name = 'students'")) == 2
    version = client.get_model_version("students", first)
    assert version.source.startswith(client.get_run(chain).info.artifact_uri)
    assert version.tags == {"steps": "4", "stepfold.digest": "sha-1"}
    for chosen in (first, second, second):
        store.set_alias("students", "teacher", chosen)
        found = client.get_model_version_by_alias("students", "teacher")
        assert str(found.version) == chosen


def test_a_version_keeps_its_weights_when_another_student_takes_their_path(
    store, client, chain, bundle
):
    weights = bundle / "network" / "weights.safetensors"
    weights.parent.mkdir()
    versions = []
    for content in (b"first", b"second"):
        rmtree(weights.parent)  # as the ledger replaces a student: never in place
        weights.parent.mkdir()
        weights.write_bytes(content)
        versions.append(store.register(chain, "replaced", bundle, content.hex(), {}))
    rmtree(bundle)
    kept = [Path(client.get_model_version("replaced", version).source) for version in versions]
    assert [(place / "network" / weights.name).read_bytes() for place in kept] == [
        b"first",
        b"second",
    ]


def test_a_registration_that_was_killed_is_repeated_from_the_start(store, client, chain, bundle):
    root = Path(client.get_run(chain).info.artifact_uri)
    half = root / "bundles" / "again"
    half.mkdir(parents=True)
    (half / "manifest.json").write_text("half")
    version = store.register(chain, "killed", bundle, "again", {})
    source = Path(client.get_model_version("killed", version).source)
    assert source == half
    assert (source / "manifest.json").samefile(bundle / "manifest.json")


def test_the_link_selects_the_rounds_of_one_chain_in_order(store, client, chain, request):
    other = store.start("other", "other", {}, {})
    store.start("other/0", "round 0", {"round": 0}, {}, parent=other)
    rounds = [
        store.start(f"link/{number}", f"round {number}", {"round": number}, {}, parent=chain)
        for number in (10, 2, 0)
    ]
    page, _, query = store.url(request.node.name, 5001).partition("?")
    assert page == f"http://127.0.0.1:5001/#/experiments/{store.experiment_id}/runs"
    asked = {name: unquote(value[0]) for name, value in parse_qs(query).items()}
    found = client.search_runs(
        [store.experiment_id],
        asked["searchFilter"],
        order_by=[f"{asked['orderByKey']} ASC"],
    )
    assert asked["orderByAsc"] == "true"
    assert [run.info.run_id for run in found] == [*rounds[::-1], chain]
    assert asked["compareRunsMode"] == "CHART"


def test_images_have_mlflows_names_and_a_changed_one_comes_last(store, client, chain, tmp_path):
    path = tmp_path / "w2.png"
    for grey in (200, 100, 100, 200):  # changed, repeated, and changed back
        Image.new("L", (40, 30), grey).save(path)
        store.log_image(chain, path, "samples/w 2.5", 1)
        time.sleep(0.002)  # MLflow counts milliseconds
    places = [file.path for file in client.list_artifacts(chain, "images")]
    pictures = sorted(place for place in places if place.endswith(".png"))
    assert all(place.startswith("images/samples~w 2.5+step+1+") for place in pictures)
    copies = [client.download_artifacts(chain, place, str(tmp_path)) for place in pictures]
    greys = [Image.open(copy).getpixel((0, 0))[0] for copy in copies]
    assert greys == [200, 100, 200]
    assert client.get_run(chain).data.tags["mlflow.loggedImages"] == "True"


def test_an_image_of_which_half_arrived_is_logged_again(store, client, chain, tmp_path):
    path, half = tmp_path / "w2.png", tmp_path / "samples~w 2+step+1+timestamp+1+a.png"
    Image.new("L", (40, 30), 200).save(path)
    half.write_bytes(path.read_bytes()[:40])
    store.log_files(chain, [half], "images")
    for _ in range(2):
        store.log_image(chain, path, "samples/w 2", 1)
    places = [file.path for file in client.list_artifacts(chain, "images")]
    assert len([place for place in places if place.endswith(".png")]) == 2


def test_inputs_have_digest_place_and_context(store, client, chain, tmp_path):
    store.log_inputs(chain, [InputData("data", "d" * 64, tmp_path, "training", {"bytes": 12})])
    (found,) = client.get_run(chain).inputs.dataset_inputs
    assert found.dataset.digest == "d" * 36
    assert json.loads(found.dataset.source) == {"uri": str(tmp_path)}
    assert json.loads(found.dataset.profile) == {"bytes": 12}
    assert [tag.value for tag in found.tags] == ["training"]


def test_a_round_that_is_looked_up_keeps_its_end(store, client, chain):
    first = store.start("looked/0", "round 0", {"round": 0}, {}, parent=chain)
    assert client.get_run(first).info.status == "RUNNING"
    store.finish(first, "FINISHED")
    ended = client.get_run(first).info.end_time
    store.start("looked/0", "round 0", {"round": 0}, {}, parent=chain, is_running=False)
    store.finish(first, "FINISHED", unless_ended=True)
    assert client.get_run(first).info.end_time == ended
    new = store.start("looked/1", "round 1", {"round": 1}, {}, parent=chain, is_running=False)
    assert client.get_run(new).info.status == "FINISHED"


@pytest.fixture
def unreachable(store, monkeypatch):
    """The client of a server that does not exist, until the test ends."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(store, "_client", MlflowClient(tracking_uri="http://127.0.0.1:9"))


@pytest.mark.usefixtures("unreachable")
def test_an_unreachable_server_is_an_infra_error(store, tmp_path):
    path = tmp_path / "w2.png"
    Image.new("RGB", (4, 4)).save(path)
    for call in (
        lambda: store.log("run", [("a/b", 1.0, 1)]),
        lambda: store.log_image("run", path, "samples", 0),
        lambda: store.log_inputs("run", []),
        lambda: store.log_tags("run", {"a": "b"}),
    ):
        with pytest.raises(InfraError, match=r"MLflow at .* is unreachable"):
            call()


def test_forwarding_is_retried_and_warns_once(store, client, chain, tmp_path, caplog, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    lines(path, 10, 20)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with monkeypatch.context() as patched:
        patched.setattr(store, "_client", MlflowClient(tracking_uri="http://127.0.0.1:9"))
        forwarder = MetricForwarder(store, lambda: chain, path, interval=0.05)
        forwarder.__enter__()
        time.sleep(0.5)
    forwarder.close()
    assert steps(client, chain) == [10, 20]
    assert len([r for r in caplog.records if "unreachable" in r.message]) == 1


@pytest.mark.usefixtures("unreachable")
def test_an_unreachable_server_delays_no_training(store, tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines(path, 10)
    started = time.monotonic()
    with MetricForwarder(store, lambda: "run", path, interval=0.05, patience=1.0):
        pass
    assert time.monotonic() - started < 5


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
        MlflowTracker("http://me:secret@127.0.0.1:9", tmp_path, "stepfold")
    assert "secret" not in str(caught.value)
