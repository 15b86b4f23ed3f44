"""Jobs and fits on a local Ray cluster: results, failures, and reproducibility."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from ray.util.placement_group import (
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from safetensors.torch import load_file

from infra.launch import fit, run_jobs
from infra.ray.cluster import check_local_resources, check_version, cluster
from pipeline.config.profile import ComputeConfig, Profile
from pipeline.errors import CapacityError, ConfigError, DataError, InfraError
from tests.support.doors import open_doors
from tests.support.training_cases import (
    UPDATES,
    ZERO,
    difference,
    make_engine,
    train,
)
from tests.support.unreachable import UnreachableConfig

pytestmark = pytest.mark.needs_ray

PROFILE = Profile(compute=ComputeConfig(workers=2, max_restarts=1))
IMPATIENT = Profile(compute=ComputeConfig(workers=2, max_restarts=0))
JOBS = [{"number": number} for number in range(5)]
DOUBLE = "tests.support.training_cases:double"
WORKER = "tests.support.training_cases:worker"


@pytest.fixture(scope="module")
def ray_up(tmp_path_factory):
    with cluster(PROFILE, tmp_path_factory.mktemp("logs")):
        yield


@pytest.fixture(scope="module")
def trained(ray_up, tmp_path_factory):
    """Runs each training once."""
    done = {}

    def run(engine: str, how: str | None = None) -> Path:
        if (engine, how) not in done:
            output = tmp_path_factory.mktemp(f"{engine}-{how}")
            job = {"engine": engine, "output": str(output), "save_at": 4, "fail": how}
            fit(WORKER, job, PROFILE, f"{engine}-{how}", output / "ray")
            done[engine, how] = output
        return done[engine, how]

    return run


def test_another_version_of_ray_is_refused():
    check_version("2.60.1")
    with pytest.raises(ConfigError, match=r"constraints\.txt"):
        check_version("2.61.0")


@pytest.mark.usefixtures("ray_up")
class TestJobs:
    def test_all_results_arrive(self, tmp_path):
        results = list(run_jobs(DOUBLE, {"folder": str(tmp_path)}, JOBS, PROFILE))
        assert sorted((r["number"], r["double"], r["threads"]) for r in results) == [
            (number, 2 * number, 1) for number in range(5)
        ]

    def test_no_jobs_give_no_results(self, tmp_path):
        assert list(run_jobs(DOUBLE, {"folder": str(tmp_path)}, [], PROFILE)) == []

    def test_fewer_jobs_than_workers_all_finish(self, tmp_path):
        results = list(run_jobs(DOUBLE, {"folder": str(tmp_path)}, JOBS[1:2], PROFILE))
        assert [r["double"] for r in results] == [2]

    def test_the_job_of_a_dead_worker_is_done_again(self, tmp_path):
        spec = {"folder": str(tmp_path), "kill": [1, 3]}
        results = list(run_jobs(DOUBLE, spec, JOBS, PROFILE))
        assert sorted(r["double"] for r in results) == [0, 2, 4, 6, 8]
        assert (tmp_path / "killed-1").exists()

    def test_a_worker_runs_at_once_jobs_in_parallel(self, tmp_path):
        spec = {"folder": str(tmp_path), "meet": 2}
        results = list(run_jobs(DOUBLE, spec, JOBS[:4], PROFILE, at_once=2))
        assert sorted((r["number"], r["double"], r["threads"]) for r in results) == [
            (number, 2 * number, 1) for number in range(4)
        ]

    def test_all_the_jobs_of_a_dead_worker_are_done_again(self, tmp_path):
        spec = {"folder": str(tmp_path), "kill": [1]}
        results = list(run_jobs(DOUBLE, spec, JOBS, PROFILE, at_once=2))
        assert sorted(r["double"] for r in results) == [0, 2, 4, 6, 8]
        assert (tmp_path / "killed-1").exists()

    def test_the_job_of_a_stopped_worker_is_done_again(self, tmp_path):
        watchful = Profile(compute=ComputeConfig(workers=2, max_restarts=1, hang_timeout_s=5))
        spec = {"folder": str(tmp_path), "stop": [1]}
        results = list(run_jobs(DOUBLE, spec, JOBS, watchful))
        assert sorted(r["double"] for r in results) == [0, 2, 4, 6, 8]
        stopped = int((tmp_path / "stopped-1").read_text())
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(stopped).wait(timeout=20)  # it does not lie about for ever

    def test_a_job_that_kills_every_worker_ends_the_work(self, tmp_path):
        spec = {"folder": str(tmp_path), "kill": [2], "once": False}
        with pytest.raises(InfraError, match=r"lost its worker 2 times; the last one died"):
            list(run_jobs(DOUBLE, spec, JOBS, PROFILE))

    def test_a_stepfold_error_keeps_its_class(self, tmp_path):
        spec = {"folder": str(tmp_path), "refuse": [2]}
        with pytest.raises(DataError, match=r"^2 is refused; leave it out$"):
            list(run_jobs(DOUBLE, spec, JOBS, PROFILE))

    def test_missing_memory_is_an_error_with_its_size_and_the_key_to_lower(self, tmp_path):
        spec = {"folder": str(tmp_path), "hungry": [2]}
        with pytest.raises(CapacityError, match=rf"allocate {2**50} bytes.*lower batch_size"):
            list(run_jobs(DOUBLE, spec, JOBS, PROFILE))

    def test_an_unknown_error_arrives_with_its_traceback(self, tmp_path):
        spec = {"folder": str(tmp_path), "accident": [2]}
        with pytest.raises(InfraError, match=r"(?s)training_cases.py.*KeyError: 2") as caught:
            list(run_jobs(DOUBLE, spec, JOBS, PROFILE))
        assert caught.type is InfraError


NIGHTLY = ("zero0", "zero2")
"""tests/infra/deepspeed has them in one process."""


@pytest.mark.parametrize(
    "engine",
    [pytest.param(each, marks=[pytest.mark.nightly] * (each in NIGHTLY)) for each in ZERO],
)
def test_two_workers_give_the_numbers_of_plain_torch(trained, engine):
    reference = make_engine("torch")
    expected = train(reference, 0, UPDATES)
    log = json.loads((trained(engine) / "log.json").read_text())
    for (loss, norm, rate), (loss_0, norm_0, rate_0) in zip(log, expected, strict=True):
        assert abs(loss - loss_0) < 1e-6
        assert norm == pytest.approx(norm_0, rel=1e-5)
        assert rate == rate_0
    # half batches are summed in another order; Adam enlarges that where gradients are near zero
    weights = load_file(trained(engine) / "weights.safetensors")
    assert difference(weights, reference.full_weights()) < 1e-4


@pytest.mark.parametrize("engine", [pytest.param("zero1", marks=pytest.mark.nightly), "zero3"])
def test_a_killed_worker_changes_nothing_in_the_result(trained, engine):
    undisturbed, killed = trained(engine), trained(engine, "killed")
    assert (killed / "starts-0").read_text().split() == ["0", "4"]
    weights = "weights.safetensors"
    assert (killed / weights).read_bytes() == (undisturbed / weights).read_bytes()


@pytest.mark.nightly
def test_a_stopped_worker_is_noticed_and_changes_nothing(trained, tmp_path):
    watchful = Profile(compute=ComputeConfig(workers=2, max_restarts=1, hang_timeout_s=5))
    job = {"engine": "zero2", "output": str(tmp_path), "save_at": 4, "fail": "stopped"}
    started = time.monotonic()
    fit(WORKER, job, watchful, "stopped", tmp_path / "ray")
    assert time.monotonic() - started < 60 + 2 * 20  # two starts of a group beside it
    assert (tmp_path / "starts-0").read_text().split() == ["0", "4"]
    weights = "weights.safetensors"
    assert (tmp_path / weights).read_bytes() == (trained("zero2") / weights).read_bytes()


def test_an_unknown_error_is_retried(trained):
    undisturbed, failed = trained("zero1"), trained("zero1", "accident")
    assert (failed / "starts-1").read_text().split() == ["0", "4"]
    weights = "weights.safetensors"
    assert (failed / weights).read_bytes() == (undisturbed / weights).read_bytes()


@pytest.mark.usefixtures("ray_up")
def test_a_stepfold_error_is_not_retried(tmp_path):
    job = {"engine": "zero1", "output": str(tmp_path), "save_at": 4, "fail": "on purpose"}
    with pytest.raises(DataError, match=r"^a target is missing; look for it$"):
        fit(WORKER, job, PROFILE, "refused", tmp_path / "ray")
    assert (tmp_path / "starts-0").read_text().split() == ["0"]
    assert not list((tmp_path / "ray").iterdir())


@pytest.mark.usefixtures("ray_up")
def test_repeated_unknown_errors_are_raised(tmp_path):
    job = {"engine": "zero1", "output": str(tmp_path), "save_at": 4, "fail": "accident"}
    with pytest.raises(InfraError, match="KeyError: 'an accident'") as caught:
        fit(WORKER, job, IMPATIENT, "accident", tmp_path / "ray")
    assert caught.type is InfraError


def reserved() -> list[str]:
    groups = placement_group_table().values()
    return [each["placement_group_id"] for each in groups if each["state"] != "REMOVED"]


@pytest.mark.usefixtures("ray_up")
def test_a_fit_without_a_process_group_frees_its_cpus(tmp_path, monkeypatch):
    theirs = placement_group([{"memory": 1000}])  # of other work in this driver
    assert theirs.wait(20)
    monkeypatch.setattr("infra.ray.private.LoopbackConfig", UnreachableConfig)
    with pytest.raises(InfraError, match=r"^unreachable: compute.workers: 2 .*GLOO_SOCKET"):
        fit(WORKER, {}, IMPATIENT, "unreachable", tmp_path / "ray")
    try:
        deadline = time.monotonic() + 20
        while reserved() != [theirs.id.hex()] and time.monotonic() < deadline:
            time.sleep(0.1)
        assert reserved() == [theirs.id.hex()]
    finally:
        remove_placement_group(theirs)


@pytest.mark.usefixtures("ray_up")
@pytest.mark.parametrize(
    ("progresses", "starts"), [(True, 4), pytest.param(False, 2, marks=pytest.mark.nightly)]
)
def test_deaths_are_counted_from_the_last_progress_on(tmp_path, progresses, starts):
    alone = Profile(compute=ComputeConfig(workers=1, max_restarts=1))
    job = {"output": str(tmp_path), "checkpoints": str(tmp_path / "checkpoints")}
    job |= {"enough": 3, "progresses": progresses}
    ends = contextlib.nullcontext() if progresses else pytest.raises(InfraError, match="stumbling")
    with ends:
        fit("tests.support.training_cases:stumble", job, alone, "stumbling", tmp_path / "ray")
    assert len((tmp_path / "starts").read_text()) == starts


def test_more_cpus_than_there_are_is_refused():
    greedy = Profile(compute=ComputeConfig(workers=1000))
    with pytest.raises(ConfigError, match="1000 CPUs, this machine has"):
        check_local_resources(greedy.compute)


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.nightly), signal.SIGTERM]
)
def test_a_signal_stops_the_work_and_leaves_no_process(tmp_path, number):
    job = {"output": str(tmp_path)}
    script = f"""
import sys
from pathlib import Path
from infra.launch import fit
from pipeline.config.profile import Profile
from infra.ray.cluster import check_local_resources, check_version, cluster
folder = Path({str(tmp_path)!r})
try:
    with cluster(Profile(), folder / "logs"):
        fit("tests.support.training_cases:sleep", {job!r}, Profile(), "slow", folder / "ray")
except KeyboardInterrupt:
    sys.exit(130)
"""
    driver = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("asleep-*"))) < 2:
        assert driver.poll() is None, driver.communicate()[0].decode()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert open_doors(driver.pid) == set()
    family = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(number)
    said, _ = driver.communicate(timeout=60)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    assert driver.returncode == 130, said.decode()
    assert said == b""
    assert list((tmp_path / "logs").glob("ray-*/worker-*"))  # kept, while Ray's folder is gone
