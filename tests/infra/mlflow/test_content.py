"""Curves, pictures, origins and tags in a real MLflow store: told twice, they are there once."""

import json
import time

import pytest
from mlflow import MlflowClient
from PIL import Image

from infra.mlflow.content import InputData, log_curves, log_image, log_inputs, log_tags
from infra.mlflow.store import MlflowStore
from pipeline.errors import InfraError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return MlflowStore(None, tmp_path_factory.mktemp("runs"), "stepfold")


@pytest.fixture(scope="module")
def client(store):
    return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)


@pytest.fixture
def run(store, request):
    return store.chain(request.node.name, "digits", {"seed": 1}, {"host": "here"})


def test_a_curve_has_each_point_once(store, client, run):
    curve = [("chain/rms_w2", 0.5, 4), ("chain/rms_w2", 0.7, 2), ("chain/rms_w4", 0.9, 4)]
    log_curves(store, run, curve[:2])
    log_curves(store, run, [*curve, *curve])
    points = client.get_metric_history(run, "chain/rms_w2")
    assert sorted((point.step, point.value) for point in points) == [(2, 0.7), (4, 0.5)]
    assert client.get_run(run).data.metrics["chain/rms_w4"] == 0.9


def test_a_picture_is_there_once_for_each_step(store, client, run, tmp_path):
    path = tmp_path / "w2.png"
    Image.new("L", (40, 30), 200).save(path)
    for step in (0, 1, 1, 10, 0):
        log_image(store, run, path, "samples/w 2.5", step)
    places = [file.path for file in client.list_artifacts(run, "images")]
    full = [place for place in places if place.endswith(".png")]
    assert sorted(place.split("+")[2] for place in full) == ["0", "1", "10"]
    assert all(place.startswith("images/samples~w 2.5+step+") for place in full)
    assert client.get_run(run).data.tags["mlflow.loggedImages"] == "True"


def test_what_was_measured_anew_is_what_a_curve_says(store, client, run):
    def said():
        found = client.get_metric_history(run, "chain/rms_w2")
        return [point.value for point in sorted(found, key=lambda point: point.timestamp)]

    for value in (0.5, 0.7, 0.7, 0.5):  # changed, told again, and changed back
        log_curves(store, run, [("chain/rms_w2", value, 4)])
        time.sleep(0.002)  # MLflow counts milliseconds
        assert client.get_run(run).data.metrics["chain/rms_w2"] == value
    assert said() == [0.5, 0.7, 0.5]
    store.metrics(run, {"chain/rms_w2": 0.7}, 4)
    assert said() == [0.5, 0.7, 0.5, 0.7]


def test_a_picture_that_was_drawn_anew_comes_last(store, client, run, tmp_path):
    def shown():
        places = [file.path for file in client.list_artifacts(run, "images")]
        pictures = sorted(place for place in places if place.endswith(".png"))
        greys = []
        for place in pictures:
            with Image.open(client.download_artifacts(run, place, str(tmp_path))) as picture:
                greys.append(picture.getpixel((0, 0))[0])
        return greys

    path = tmp_path / "w2.png"
    for grey in (200, 100, 100, 200):  # changed, told again, and changed back
        Image.new("L", (40, 30), grey).save(path)
        log_image(store, run, path, "samples/w 2", 1)
        time.sleep(0.002)
        assert shown()[-1] == grey
    assert shown() == [200, 100, 200]


def test_a_picture_of_which_half_arrived_is_told_again(store, client, run, tmp_path):
    path, half = tmp_path / "w2.png", tmp_path / "samples~w 2+step+1+timestamp+1+a.png"
    Image.new("L", (40, 30), 200).save(path)
    half.write_bytes(path.read_bytes()[:40])
    store.files(run, [half], "images")
    for _ in range(2):
        log_image(store, run, path, "samples/w 2", 1)
    places = [file.path for file in client.list_artifacts(run, "images")]
    assert len([place for place in places if place.endswith(".png")]) == 2


def test_origins_say_what_where_and_for_what(store, client, run, tmp_path):
    data = InputData("data", "d" * 64, tmp_path, "training", {"bytes": 12})
    targets = InputData("targets", "e" * 64, tmp_path / "t", "targets")
    for told in ([data], [data, targets]):
        log_inputs(store, run, told)
    found = client.get_run(run).inputs.dataset_inputs
    said = {each.dataset.name: each for each in found}
    assert len(found) == 2
    assert said["data"].dataset.digest == "d" * 36
    assert json.loads(said["data"].dataset.source) == {"uri": str(tmp_path)}
    assert json.loads(said["data"].dataset.profile) == {"bytes": 12}
    assert [tag.value for tag in said["targets"].tags] == ["targets"]


def test_tags_may_change(store, client, run):
    log_tags(store, run, {"bundle": "a", "steps": 4})
    log_tags(store, run, {"bundle": "b"})
    tags = client.get_run(run).data.tags
    assert (tags["bundle"], tags["steps"], tags["host"]) == ("b", "4", "here")


def test_a_round_that_is_looked_up_does_not_run_again(store, client, run):
    def status(round_id):
        return client.get_run(round_id).info.status

    first = store.round(run, "looked/0", "round 0", {"round": 0}, {})
    assert status(first) == "RUNNING"
    store.finish(first, "FINISHED")
    ended = client.get_run(first).info.end_time
    assert store.round(run, "looked/0", "round 0", {"round": 0}, {}, is_at_work=False) == first
    store.finish(first, "FINISHED", unless_ended=True)
    assert (status(first), client.get_run(first).info.end_time) == ("FINISHED", ended)
    new = store.round(run, "looked/1", "round 1", {"round": 1}, {"steps": 2}, is_at_work=False)
    assert status(new) == "FINISHED"
    assert store.round(run, "looked/0", "round 0", {"round": 0}, {"steps": 4}) == first
    assert (status(first), client.get_run(first).data.tags["steps"]) == ("RUNNING", "4")


def test_what_is_not_told_is_an_error_of_ours(store, run, tmp_path, monkeypatch):
    path = tmp_path / "w2.png"
    Image.new("RGB", (4, 4)).save(path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(store, "_client", MlflowClient(tracking_uri="http://127.0.0.1:9"))
    for tell in (
        lambda: log_curves(store, run, [("a/b", 1.0, 1)]),
        lambda: log_image(store, run, path, "samples", 0),
        lambda: log_inputs(store, run, []),
        lambda: log_tags(store, run, {"a": "b"}),
    ):
        with pytest.raises(InfraError, match=r"MLflow at .* is unreachable"):
            tell()
