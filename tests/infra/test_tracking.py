"""Every tracker meets the same contract; each is read back by its own client library."""

import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from infra.metric_forwarder import MetricForwarder
from infra.tracking import charts_url, check_tracking, has_history, tracker_of, ui_server
from pipeline.config.profile import Profile, TrackingConfig
from pipeline.documents import build
from pipeline.errors import ConfigError, InfraError
from pipeline.run_dir.run_id import claim_id
from pipeline.tracking import InputData, JsonlTracker, RunTracker

KINDS = ("mlflow", "tensorboard", "none")


class Mlflow:
    """Reads the default store with MLflow's client."""

    def __init__(self, root: Path) -> None:
        self.client = MlflowClient(f"sqlite:///{root}/mlflow.db")

    def points(self, run: str, name: str) -> dict[int, float]:
        found = self.client.get_metric_history(run, name)
        return {each.step: each.value for each in sorted(found, key=lambda it: it.timestamp)}

    def num_points(self, run: str, name: str) -> int:
        return len(self.client.get_metric_history(run, name))

    def num_images(self, run: str) -> int:
        files = self.client.list_artifacts(run, "images")
        return sum(file.path.endswith(".png") for file in files)

    def facts(self, run: str) -> dict[str, Any]:
        found = self.client.get_run(run)
        inputs = {each.dataset.name for each in found.inputs.dataset_inputs}
        status = found.info.status
        return {"params": found.data.params, "tags": found.data.tags, "in": inputs, "is": status}


class TensorBoard:
    """Reads the default folder with TensorBoard's own reader."""

    def __init__(self, root: Path) -> None:
        self.root = root / "tensorboard-logs"

    def events(self, run: str) -> Any:
        # an extra: only these tests need it
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        sizes = {"scalars": 0, "images": 0}
        return EventAccumulator(str(self.root / run), size_guidance=sizes).Reload()

    def scalars(self, run: str, name: str) -> list[Any]:
        events = self.events(run)
        return events.Scalars(name) if name in events.Tags()["scalars"] else []

    def points(self, run: str, name: str) -> dict[int, float]:
        return {each.step: each.value for each in self.scalars(run, name)}

    def num_points(self, run: str, name: str) -> int:
        return len(self.scalars(run, name))

    def num_images(self, run: str) -> int:
        events = self.events(run)
        return sum(len(events.Images(tag)) for tag in events.Tags()["images"])

    def facts(self, run: str) -> dict[str, Any]:
        found = json.loads((self.root / run / "run.json").read_text())
        inputs, status = set(found.get("inputs", {})), found["status"]
        return {"params": found["params"], "tags": found["tags"], "in": inputs, "is": status}


class Nothing:
    """The folder of runs, in which the tracker `none` writes nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def points(self, _run: str, _name: str) -> dict[int, float]:
        return {number: 0.0 for number, _ in enumerate(self.root.iterdir())}

    def num_points(self, run: str, name: str) -> int:
        return len(self.points(run, name))

    def num_images(self, run: str) -> int:
        return len(self.points(run, ""))


READERS = {"mlflow": Mlflow, "tensorboard": TensorBoard, "none": Nothing}


class Case:
    """One kind of tracker, and what its own client reads from it."""

    def __init__(self, kind: str, root: Path) -> None:
        self.kind, self.root = kind, root
        self.config = build(TrackingConfig, {"kind": kind}, "tracking")
        self.records = kind != "none"
        self.tracker = self.open()
        self.read: Any = READERS[kind](root)
        self.keys: dict[str, str] = {}

    def open(self) -> RunTracker:
        """Open the tracker like another process."""
        return tracker_of(self.config, self.root)

    def expect(self, value: Any) -> Any:
        """Return the value, or the empty value of a tracker that records nothing."""
        return value if self.records else type(value)()

    def chain(self, name: str, **params: Any) -> str:
        run = self.tracker.start(name, name, params, {"host": "here"})
        self.keys[run] = name
        return run

    def round(self, chain: str, training: str | None = "a" * 64, **how: Any) -> str:
        key = f"{self.keys[chain]}/rounds/00-guidance"
        parameters = {"round": 0, "updates": how.pop("updates", 5)}
        return self.tracker.start(
            key, "round 0", parameters, {}, parent=chain, training=training, **how
        )


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def chain(case: Case, request: pytest.FixtureRequest) -> str:
    return case.chain(request.node.originalname, seed=1)


def lines(path: Path, *samples: int) -> None:
    with path.open("a") as file:
        for seen in samples:
            metrics = {"update": seen / 10, "train/loss": 1 / seen, "time/updates_per_s": 5.0}
            file.write(json.dumps({"samples_seen": seen, **metrics}) + "\n")


def steps(case: Case, run: str) -> list[int]:
    assert case.read.num_points(run, "train/loss") == len(case.read.points(run, "train/loss"))
    return sorted(case.read.points(run, "train/loss"))


def test_a_point_is_logged_once_and_a_changed_one_again(case: Case, chain: str) -> None:
    curve = [("chain/rms_w2", 0.1, 4), ("chain/rms_w2", 0.7, 2), ("chain/rms_w4", 0.9, 4)]
    for tracker in (case.tracker, case.tracker, case.open()):
        tracker.log(chain, curve)
    assert case.read.num_points(chain, "chain/rms_w2") == case.expect(2)
    assert case.open().last_step(chain, "chain/rms_w2") == (4 if case.records else -1)
    assert case.open().last_step(chain, "chain/unknown") == -1
    for value in (0.5, 0.5, 0.1):  # changed, repeated, and changed back
        time.sleep(0.002)  # MLflow counts milliseconds
        case.tracker.log(chain, [("chain/rms_w2", value, 4)])
    newest = case.read.points(chain, "chain/rms_w2")
    assert case.read.num_points(chain, "chain/rms_w2") == case.expect(4)
    assert newest == pytest.approx(case.expect({2: 0.7, 4: 0.1}))


def test_infinite_and_undefined_values_are_logged(case: Case, chain: str) -> None:
    case.tracker.log(chain, [("a/inf", math.inf, 1), ("a/nan", math.nan, 1)])
    assert case.read.num_points(chain, "a/inf") == case.expect(1)
    assert case.read.num_points(chain, "a/nan") == case.expect(1)


def test_an_image_is_logged_once_for_each_step_and_content(
    case: Case, chain: str, tmp_path: Path
) -> None:
    path = tmp_path / "w2.png"
    Image.new("L", (40, 30), 200).save(path)
    for step in (0, 1, 1, 10, 0):
        case.open().log_image(chain, path, "samples/w 2.5", step)
    assert case.read.num_images(chain) == case.expect(3)
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(path)
    for _ in range(2):
        case.tracker.log_image(chain, path, "samples/w 2.5", 10)
    assert case.read.num_images(chain) == case.expect(4)


def test_parameters_tags_and_inputs_are_kept(case: Case, chain: str, tmp_path: Path) -> None:
    tracker = case.tracker
    data = InputData("data", "d" * 64, tmp_path, "training", {"bytes": 12})
    targets = InputData("targets", "e" * 64, tmp_path / "t", "targets")
    for inputs in ([data], [data, targets]):
        tracker.log_inputs(chain, inputs)
    tracker.log_tags(chain, {"bundle": "a", "steps": 4})
    tracker.log_tags(chain, {"bundle": "b"})
    tracker.describe(chain, "# Chain\n\n| a |\n|---|\n| 1 |\n")
    tracker.log_files(chain, [Path(__file__)], "files")
    assert case.chain(Path(__file__).stem, seed=1) == case.chain(Path(__file__).stem, seed=2)
    if case.records:
        facts = case.read.facts(chain)
        tags = {name: facts["tags"][name] for name in ("bundle", "steps", "host")}
        assert tags == {"bundle": "b", "steps": "4", "host": "here"}
        assert (facts["params"]["seed"], facts["in"]) == ("1", {"data", "targets"})
        again = case.read.facts(case.chain(Path(__file__).stem, seed=2))
        assert (again["params"]["seed"], again["tags"]["changed.seed"]) == ("1", "2")


@pytest.mark.parametrize("ended", ["FAILED", "KILLED", None])
def test_a_run_continues_after_a_crash(case: Case, chain: str, ended: Any) -> None:
    training = f"{ended}" * 16
    first = case.round(chain, training)
    if ended:
        case.tracker.finish(first, ended)
    assert case.round(chain, training) == first
    case.tracker.finish(first, "FINISHED")
    assert case.round(chain, training, is_running=False) == first
    case.tracker.finish(first, "FINISHED", unless_ended=True)
    if case.records:
        assert case.read.facts(first)["is"] == "FINISHED"


def test_another_training_has_its_own_run_and_supersedes_the_first(case: Case, chain: str) -> None:
    first = case.round(chain, "a" * 64)
    second = case.round(chain, "b" * 64, updates=7)
    assert case.round(chain, None, is_running=False) == second
    if case.records:
        assert first != second
        old, new = case.read.facts(first), case.read.facts(second)
        assert (old["tags"]["superseded"], old["is"], old["params"]["updates"]) == (
            *(second, "KILLED"),
            "5",
        )
        assert ("superseded" in new["tags"], new["params"]["updates"]) == (False, "7")
        assert case.round(chain, "a" * 64) == first
        assert "superseded" not in case.read.facts(first)["tags"]


def test_running_runs_of_one_chain_are_ended(case: Case) -> None:
    ended, other = case.chain("stale"), case.chain("stale-2")
    done = case.round(ended)
    case.tracker.finish(done, "FINISHED")
    found = [case.tracker.end_stale_runs("stale") for _ in range(2)]
    assert found == ([1, 0] if case.records else [0, 0])
    if case.records:
        states = [case.read.facts(run)["is"] for run in (ended, done, other)]
        assert states == ["KILLED", "FINISHED", "RUNNING"]


def test_only_mlflow_has_a_registry(case: Case, chain: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    versions = {
        case.tracker.register(chain, "students", tmp_path, "sha", {"round": "0"}) for _ in range(2)
    }
    case.tracker.set_alias("students", "teacher", "1")
    assert versions == ({"1"} if case.kind == "mlflow" else {None})


def test_pages_are_served_on_loopback_unless_nothing_is_recorded(case: Case) -> None:
    run_dir = case.root / "served"
    run_dir.mkdir()
    case.chain(claim_id(run_dir))
    if case.records:
        server = ui_server(case.config, case.root, 5001)
        assert server.command[server.command.index("--host") + 1] == "127.0.0.1"
        assert server.command[server.command.index("--port") + 1] == "5001"
        assert str(charts_url(case.config, run_dir, 5001)).startswith("http://127.0.0.1:5001/")
        assert has_history(case.config, case.root)
    else:
        assert charts_url(case.config, run_dir, 5001) is None
        with pytest.raises(ConfigError, match=r"tracking\.kind"):
            ui_server(case.config, case.root, 5001)
    shutil.rmtree(run_dir)


@pytest.mark.parametrize("kind", ["mlflow", "tensorboard"])
def test_a_folder_without_history_has_no_pages(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--run-dir"):
        ui_server(build(TrackingConfig, {"kind": kind}, "tracking"), tmp_path, 5001)


class TestForwarding:
    """A growing metrics file arrives at every tracker, each line once."""

    def test_lines_arrive_while_the_file_grows(
        self, case: Case, chain: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "metrics.jsonl"
        with MetricForwarder(case.tracker, lambda: chain, path, interval=0.05):
            lines(path, 10, 20)
            deadline = time.monotonic() + 30
            while case.records and sorted(case.read.points(chain, "train/loss")) != [10, 20]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            lines(path, 30)
        assert steps(case, chain) == case.expect([10, 20, 30])
        assert sorted(case.read.points(chain, "time/updates_per_s")) == case.expect([10, 20, 30])
        assert case.read.num_points(chain, "update") == 0  # names without a section

    def test_an_incomplete_line_is_sent_once_complete(
        self, case: Case, chain: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "metrics.jsonl"
        lines(path, 10)
        for text in ('{"samples_seen": 20, "train/lo', 'ss": 2.0}\n'):
            with path.open("a") as file:
                file.write(text)
            with MetricForwarder(case.tracker, lambda: chain, path, interval=0.05):
                pass
        assert steps(case, chain) == case.expect([10, 20])

    def test_a_resumed_round_repeats_no_point(self, case: Case, chain: str, tmp_path: Path) -> None:
        path = tmp_path / "metrics.jsonl"
        lines(path, 10, 20, 30)
        with MetricForwarder(case.tracker, lambda: chain, path, interval=0.05):
            time.sleep(0.2)
            JsonlTracker(path, samples_seen=20)  # as a worker does that resumes from 20
            lines(path, 30, 40)
        lines(path, 50)
        with MetricForwarder(case.open(), lambda: chain, path, interval=0.05):  # another driver
            pass
        assert steps(case, chain) == case.expect([10, 20, 30, 40, 50])

    def test_lines_of_an_earlier_training_are_skipped(
        self, case: Case, chain: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "metrics.jsonl"
        lines(path, 11, 22, 33)
        with MetricForwarder(case.tracker, lambda: chain, path, interval=0.05, awaits_writer=True):
            time.sleep(0.3)
            JsonlTracker(path, samples_seen=0)  # as a worker does that starts from scratch
            lines(path, 10, 20)
        assert steps(case, chain) == case.expect([10, 20])

    def test_long_files_are_sent_in_parts(self, case: Case, chain: str, tmp_path: Path) -> None:
        path = tmp_path / "metrics.jsonl"
        lines(path, *range(1, 1201))
        with MetricForwarder(case.tracker, lambda: chain, path, interval=0.05):
            pass
        assert steps(case, chain) == case.expect(list(range(1, 1201)))

    def test_a_file_that_never_comes_is_no_error(
        self, case: Case, chain: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with MetricForwarder(case.tracker, lambda: chain, tmp_path / "none.jsonl", interval=0.05):
            pass
        assert not caplog.records


FULL_DISK = """
import json, resource, signal, sys, threading
from pathlib import Path
from infra.metric_forwarder import MetricForwarder
from infra.tracking import tracker_of
from pipeline.config.profile import TrackingConfig

kind, root = sys.argv[1], Path(sys.argv[2])
threading.excepthook = lambda _: None  # TensorBoard's writer thread raises, too
tracker = tracker_of(TrackingConfig(kind=kind), root)
chain = tracker.start("a" * 32, "run", {}, {})
tracker.log(chain, [("a/b", 1.0, 1)])
metrics = root / "metrics.jsonl"
line = {"samples_seen": 10, "train/loss": 1.0, **{f"a/{n}": 1.0 for n in range(900)}}
metrics.write_text(json.dumps(line) + "\\n")
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
# every write fails, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (100, unlimited[1]))
with MetricForwarder(tracker, lambda: chain, metrics, interval=0.05, patience=0.5) as forwarder:
    pass
try:
    forwarder.check()
except Exception as error:
    print(type(error).__name__)
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
with MetricForwarder(tracker, lambda: chain, metrics, interval=0.05) as forwarder:
    pass
forwarder.check()
print(tracker_of(TrackingConfig(kind=kind), root).last_step(chain, "train/loss"))
"""


@pytest.mark.parametrize("kind", ["mlflow", "tensorboard"])
@pytest.mark.slow
def test_a_full_disk_fails_no_training_and_metrics_arrive_later(kind: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, kind, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["InfraError", "10"], done.stderr


def test_a_folder_that_cannot_be_made_is_an_infra_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = build(TrackingConfig, {"kind": "tensorboard", "uri": f"{tmp_path}/file/logs"}, "p")
    with pytest.raises(InfraError, match="TensorBoard"):
        tracker_of(config, tmp_path).start("a" * 32, "run", {}, {})


def test_events_after_a_torn_one_are_kept(tmp_path: Path) -> None:
    config = build(TrackingConfig, {"kind": "tensorboard"}, "tracking")
    first = tracker_of(config, tmp_path)
    run = first.start("a" * 32, "run", {}, {})
    first.log(run, [("a/b", 1.0, 1)])
    (events,) = (tmp_path / "tensorboard-logs" / run).glob("events.*")
    first.finish(run, "FAILED")
    with events.open("ab") as file:
        file.write(b"\x18\0\0\0")
    tracker_of(config, tmp_path).log(run, [("a/b", 1.0, 1), ("a/b", 2.0, 2)])
    assert TensorBoard(tmp_path).points(run, "a/b") == {1: 1.0, 2: 2.0}


def test_runs_of_equal_name_do_not_share_a_folder(tmp_path: Path) -> None:
    config = build(TrackingConfig, {"kind": "tensorboard", "uri": str(tmp_path / "logs")}, "p")
    runs = {tracker_of(config, tmp_path / key).start(key * 32, "run", {}, {}) for key in ("a", "b")}
    assert len(runs) == 2


@pytest.fixture
def without_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)


@pytest.mark.usefixtures("without_tensorboard")
def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    config = build(TrackingConfig, {"kind": "tensorboard"}, "tracking")
    for check in (lambda: check_tracking(config), lambda: tracker_of(config, tmp_path)):
        with pytest.raises(ConfigError, match=r"pip install 'stepfold\[tensorboard\]'"):
            check()
    assert list(tmp_path.iterdir()) == []


def test_a_profile_without_the_key_uses_mlflow() -> None:
    assert build(Profile, {"tracking": {"pictures": 0}}, "p.yaml").tracking.kind == "mlflow"
    with pytest.raises(ConfigError, match="tensorboard"):
        build(Profile, {"tracking": {"kind": "tensorboard", "uri": "http://host:5000"}}, "p.yaml")
