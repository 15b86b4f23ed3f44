"""The inline launcher: the bytes of one Ray worker, and no side effects."""

import faulthandler
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import torch.distributed as dist
from threadpoolctl import threadpool_info

from infra.launch import fit, run_jobs
from infra.process.machines import this_machine
from infra.ray.cluster import cluster
from pipeline.config import Recipe
from pipeline.config.profile import ComputeConfig, Profile, default_profile
from pipeline.documents import build, read_yaml
from pipeline.errors import CapacityError, ConfigError, DataError, InfraError
from pipeline.evaluation.documents import SampleSpec
from pipeline.ledger import Ledger
from pipeline.training.plan import plan_rounds
from stages.data.encode import encode
from stages.data.shard import shard
from stages.evaluation.sample_sets import SampleInputs, sample_cells
from stages.rounds.targets import pregenerate
from stages.rounds.train import train
from stages.teacher.adopt import adopt, adopt_components
from stages.workspace import ProgressObserver, Workspace
from tests.support.doors import open_doors
from tests.support.family_chain import resolve

INLINE = Profile(compute=ComputeConfig(launcher="inline", workers=1))
RAY = Profile(compute=ComputeConfig(workers=1))
JOBS = [{"number": number} for number in range(5)]
DOUBLE = "tests.support.training_cases:double"
STIR = "tests.support.training_cases:stir"
STIR_FIT = "tests.support.training_cases:stir_fit"
WORKER = "tests.support.training_cases:worker"
ENGINES = ("zero1", "zero3", "zero1-bfloat16")


def state() -> dict[str, Any]:
    """Return all global state that a worker's settings change."""
    umask = os.umask(0o077)
    os.umask(umask)
    return {
        "environment": dict(os.environ),
        "threads": torch.get_num_threads(),
        "pools": [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()],
        "torch": torch.get_rng_state().tolist(),
        "numpy": [str(part) for part in np.random.get_state()],
        "random": random.getstate(),
        "linear": torch.nn.functional.linear,
        "umask": umask,
        "sigterm": signal.getsignal(signal.SIGTERM),
        "group": dist.is_initialized(),
        "ray": "ray" in sys.modules,
    }


@contextmanager
def nothing_changes() -> Iterator[None]:
    before = state()
    yield
    assert state() == before


OF_A_WORKER = {"OMP_NUM_THREADS": "1", "threads": 1, "plain linear": True}


class TestJobs:
    def test_results_arrive_in_order_one_by_one(self, tmp_path):
        spec = {"folder": str(tmp_path), "refuse": [3]}
        results = run_jobs(DOUBLE, spec, JOBS, INLINE, at_once=2)
        assert [next(results)["double"] for _ in range(3)] == [0, 2, 4]
        with pytest.raises(DataError, match=r"^3 is refused; leave it out$"):
            next(results)

    def test_no_jobs_give_no_results(self):
        assert list(run_jobs("no_such_module:f", {}, [], INLINE)) == []

    def test_a_job_has_the_threads_of_a_worker(self, tmp_path):
        two = Profile(compute=ComputeConfig(launcher="inline", workers=1, cpus_per_worker=2))
        for profile, threads in ((INLINE, 1), (two, 2)):
            results = run_jobs(DOUBLE, {"folder": str(tmp_path)}, JOBS[:1], profile)
            assert [result["threads"] for result in results] == [threads]

    def test_every_job_begins_as_in_a_fresh_process(self):
        assert list(run_jobs(STIR, {}, [{}, {}], INLINE)) == [OF_A_WORKER] * 2

    def test_the_callers_state_is_back_while_a_result_is_used(self):
        torch.manual_seed(7)
        before = state()
        for _ in run_jobs(STIR, {}, [{}, {}], INLINE):
            assert state() == before

    @pytest.mark.parametrize(
        ("factory", "job", "error"),
        [(STIR, {"refuse": True}, DataError), ("no_such_module:f", {}, InfraError)],
    )
    def test_an_error_leaves_nothing_either(self, factory, job, error):
        with nothing_changes(), pytest.raises(error):
            list(run_jobs(factory, {}, [job], INLINE))

    def test_an_unknown_error_arrives_with_its_traceback(self, tmp_path):
        spec = {"folder": str(tmp_path), "accident": [2]}
        with pytest.raises(InfraError, match=r"(?s)training_cases.py.*KeyError: 2") as caught:
            list(run_jobs(DOUBLE, spec, JOBS, INLINE))
        assert caught.type is InfraError
        assert isinstance(caught.value.__cause__, KeyError)

    def test_missing_memory_is_an_error_with_its_size_and_the_key_to_lower(self, tmp_path):
        spec = {"folder": str(tmp_path), "hungry": [2]}
        with pytest.raises(CapacityError, match=rf"allocate {2**50} bytes.*lower batch_size"):
            list(run_jobs(DOUBLE, spec, JOBS, INLINE))


class TestProfile:
    @pytest.mark.parametrize("workers", [2, 8])
    def test_more_workers_are_refused_with_the_way_out(self, workers):
        tree = {"compute": {"launcher": "inline", "workers": workers}}
        message = rf"compute: .*workers: {workers}.*launcher: inline.*compute\.workers: 1"
        with pytest.raises(ConfigError, match=message):
            build(Profile, tree, "profile.yaml")

    def test_the_shipped_profile_differs_from_the_default_in_where_it_runs_alone(self):
        path = default_profile().with_name("inline.yaml")
        shipped = build(Profile, read_yaml(path), path.name)
        assert shipped.compute == INLINE.compute
        assert shipped.engine == build(Profile, read_yaml(default_profile()), "laptop").engine

    def test_there_is_no_cluster_and_the_machine_is_this_one(self, tmp_path):
        with cluster(INLINE, tmp_path / "logs"):
            machine = this_machine(INLINE.compute)
        assert not (tmp_path / "logs").exists()
        assert machine.is_local
        assert [node.words for node in machine.nodes] == ["1 CPUs"]

    def test_more_cpus_than_there_are_are_refused(self, tmp_path):
        compute = ComputeConfig(launcher="inline", workers=1, cpus_per_worker=1000)
        with (
            pytest.raises(ConfigError, match="1000 CPUs, this machine has"),
            cluster(Profile(compute=compute), tmp_path / "logs"),
        ):
            pass


class TestFit:
    @pytest.mark.slow
    def test_the_entry_is_the_only_rank_of_a_fresh_process(self, tmp_path):
        for number in (1, 2):
            output = tmp_path / str(number)
            with nothing_changes():
                fit(STIR_FIT, {"output": str(output)}, INLINE, "stirred", tmp_path / "ray")
            assert json.loads(output.read_text()) == {
                **OF_A_WORKER,
                "RANK": "0",
                "LOCAL_RANK": "0",
                "WORLD_SIZE": "1",
                "ranks": 1,
            }
        assert not (tmp_path / "ray").exists()

    def test_a_stepfold_error_keeps_its_class(self, tmp_path):
        job = {"output": str(tmp_path / "found"), "refuse": True}
        with nothing_changes(), pytest.raises(DataError, match=r"^refused; leave it out$"):
            fit(STIR_FIT, job, INLINE, "refused", tmp_path / "ray")

    def test_an_unknown_error_arrives_with_its_traceback_and_is_not_retried(self, tmp_path):
        message = r"(?s)^an accident failed:\n.*training_cases.py.*KeyError: 'output'"
        with nothing_changes(), pytest.raises(InfraError, match=message):
            fit(STIR_FIT, {}, INLINE, "an accident", tmp_path / "ray")

    def test_the_timer_of_the_process_is_left_to_others(self, tmp_path):
        stacks = tmp_path / "stacks"
        with stacks.open("w") as file:
            faulthandler.dump_traceback_later(0.5, file=file)
            fit(STIR_FIT, {"output": str(tmp_path / "found")}, INLINE, "timed", tmp_path / "ray")
            time.sleep(0.7)
        assert "Timeout" in stacks.read_text()

    @pytest.mark.needs_ray
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_it_at_once_and_nothing_listens(self, tmp_path, number):
        job = {"output": str(tmp_path)}
        script = f"""
import sys
from pathlib import Path
from infra.launch import fit
from pipeline.config.profile import ComputeConfig, Profile
from infra.ray.cluster import cluster
profile = Profile(compute=ComputeConfig(launcher="inline", workers=1))
folder = Path({str(tmp_path)!r})
try:
    with cluster(profile, folder / "logs"):
        fit("tests.support.training_cases:sleep", {job!r}, profile, "slow", folder / "ray")
except KeyboardInterrupt:
    sys.exit(131 if "ray" in sys.modules else 130)
"""
        driver = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        )
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("asleep-*")):
            assert driver.poll() is None, driver.communicate()[0].decode()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert open_doors(driver.pid) == set()
        assert psutil.Process(driver.pid).children() == []
        driver.send_signal(number)
        said, _ = driver.communicate(timeout=30)
        assert (driver.returncode, said) == (130, b"")


def trained(profile: Profile, root: Path, engines: Sequence[str]) -> list[dict[str, bytes]]:
    """Weights and metrics of several trainings in one process."""
    found = []
    for number, engine in enumerate(engines):
        output = root / f"{number}-{engine}"
        output.mkdir(parents=True)
        job = {"engine": engine, "output": str(output), "save_at": 4}
        fit(WORKER, job, profile, output.name, output / "ray")
        names = ("weights.safetensors", "log.json")
        found.append({name: (output / name).read_bytes() for name in names})
    return found


def made(profile: Profile, recipe: Recipe, run_dir: Path) -> dict[str, dict[str, Any]]:
    """File hashes by artifact after the stages of a tiny Stable Diffusion."""

    def progress(done: int, total: int) -> None:
        assert done <= total

    work, observer = Workspace(run_dir, recipe, profile), ProgressObserver(progress)
    images, components = shard(work).value, adopt_components(work).value
    samples = encode(work, data=images, components=components, observer=observer).value
    teacher = adopt(work, samples).value
    guided, halving = plan_rounds(recipe)
    for plan in (guided, halving):
        inputs = {"data": samples, "teacher": teacher}
        targets = pregenerate(work, plan, **inputs, observer=observer).value
        teacher = train(work, plan, **inputs, targets=targets)
    cell = SampleSpec(
        role="student",
        bundle=teacher.path,
        digest=teacher.digest,
        round=halving.index,
        sampler="ddim",
        steps=2,
        w=3.0,
        seed=1,
    )
    sample_inputs = SampleInputs(images, components)
    sample_cells(work, [cell], [teacher], sample_inputs, progress)
    records = Ledger(run_dir).records()
    return {
        record.path: {name: file.sha256 for name, file in record.files.items()}
        for record in records
    }


@pytest.fixture(scope="module")
def ray_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray, which inline runs do not use."""
    with cluster(RAY, tmp_path_factory.mktemp("logs")):
        yield


@pytest.mark.needs_ray
@pytest.mark.nightly
@pytest.mark.usefixtures("ray_up")
class TestOneWorkerOfRay:
    def test_fits_in_a_row_give_the_bytes_of_fresh_processes(self, tmp_path):
        # after ZeRO 3, which replaces torch's `linear`, the first is trained again
        with nothing_changes():
            here = trained(INLINE, tmp_path / "here", (*ENGINES, ENGINES[0]))
        there = trained(RAY, tmp_path / "ray", ENGINES)
        assert here == [*there, there[0]]

    def test_data_targets_students_and_samples_have_the_same_bytes(self, tmp_path):
        recipe = resolve("sd", tmp_path)
        here = made(INLINE, recipe, tmp_path / "here")
        kinds = {Path(place).name for place in here}
        assert {"data", "latents", "teacher", "student", "pass-000-shard-00000"} <= kinds
        assert here == made(RAY, recipe, tmp_path / "ray")
