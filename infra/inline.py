"""The launcher `inline`: jobs and training in the driver's own process, without Ray.

The results are those of one Ray worker, bit for bit: while a job or a fit runs, the process has the
threads and the environment of a fresh worker, and gets its own back afterwards, like the random
state of every library. A debugger, a profiler and `print` see everything.

Nothing replaces a worker here: an error ends the work at once, a crash ends the driver, and work
that hangs is not noticed. `ray_address`, `max_restarts`, `hang_timeout_s` and `start_timeout_s` of
`compute` have no effect. A later run continues from the newest checkpoint, as after any failure.
"""

import gc
import os
import random
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from infra.process.environment import keep_private, settle_environment
from infra.process.malloc import keep_freed_memory
from infra.process.signals import interruptible
from infra.ray.worker import find, ignore_known_noise, pack, short_of_memory, tail, unpack
from pipeline.config.profile import ComputeConfig
from pipeline.errors import ConfigError, InfraError, StepfoldError

_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
_ONLY_RANK = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "NODE_RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_WORLD_SIZE": "1",
}


def run_jobs(
    factory: str, spec: dict[str, Any], jobs: Sequence[dict[str, Any]], compute: ComputeConfig
) -> Iterator[dict[str, Any]]:
    """Do independent jobs one after another, in order; see `infra.launch.run_jobs`.

    The process has a worker's settings during a job only, not while the caller uses a result.
    """
    serve = None
    for job in jobs:
        with as_worker(compute):
            try:
                serve = serve or find(factory)(spec)
                result = serve(job)
            except StepfoldError:
                raise
            except Exception as error:
                raise unpack(pack(error)) from error
        yield result


def fit(entry: str, job: dict[str, Any], compute: ComputeConfig, name: str) -> None:
    """Call `entry` as the only rank of a process group; see `infra.launch.fit`.

    The group and DeepSpeed's traces in the process are gone afterwards, so that the next fit begins
    as in a fresh process.
    """
    with as_worker(compute, {**_ONLY_RANK, **_LOOPBACK}), _without_mlflow():
        from infra.deepspeed.engine import group_of_one

        try:
            with group_of_one():
                find(entry)(job)
        except StepfoldError:
            raise
        except Exception as error:
            text = f"{name} failed:\n{tail(traceback.format_exc())}"
            raise short_of_memory(error) or InfraError(text) from error
        finally:
            gc.collect()  # engines are cycles, and the next one needs their memory


@contextmanager
def as_worker(
    compute: ComputeConfig, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Give this process the settings of a fresh Ray worker, and its own back afterwards.

    Memory that is freed is kept from then on, as a worker keeps it: that cannot be taken back.

    Args:
        compute: threads and GPUs of the worker.
        environment: more variables of the worker's.

    Raises:
        ConfigError: `gpus_per_worker` is 0, but this process uses a GPU already.
    """
    variables = {"OMP_NUM_THREADS": str(compute.cpus_per_worker), **(environment or {})}
    if compute.gpus_per_worker == 0:
        variables["CUDA_VISIBLE_DEVICES"] = ""
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        stack.enter_context(_environment(variables))
        stack.callback(os.umask, os.umask(0o077))
        settle_environment()
        keep_private()
        import torch

        _check_gpus(compute)
        if not torch.cuda.is_available():  # where there is a GPU, the large blocks are there
            keep_freed_memory()
        stack.enter_context(_threads(compute.cpus_per_worker))
        stack.enter_context(_kept_random_state())
        stack.enter_context(_plain_linear())
        stack.enter_context(warnings.catch_warnings())
        ignore_known_noise()
        yield


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _check_gpus(compute: ComputeConfig) -> None:
    import torch

    if compute.gpus_per_worker == 0 and torch.cuda.is_available():
        raise ConfigError(
            "compute.gpus_per_worker: 0 with compute.launcher: inline, but this process uses a GPU "
            "already; set compute.gpus_per_worker: 1, or export CUDA_VISIBLE_DEVICES="
        )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Have torch, and the BLAS of NumPy and SciPy, compute in so many threads."""
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # it has no stubs

    before = torch.get_num_threads()
    with threadpool_limits(count):
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@contextmanager
def _kept_random_state() -> Iterator[None]:
    """Restore every library's random state afterwards."""
    import numpy as np
    import torch

    state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[0] if torch.cuda.is_available() else []):
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)


@contextmanager
def _plain_linear() -> Iterator[None]:
    """Begin with torch's own `linear`, and take back whatever replaces it.

    ZeRO 3 replaces it for the rest of a process, by one that adds the bias in a step of its own:
    all later networks would differ from those of a fresh process in the last bits.
    """
    import torch

    before = torch.nn.functional.linear
    torch.nn.functional.linear = torch._C._nn.linear
    try:
        yield
    finally:
        torch.nn.functional.linear = before


@contextmanager
def _without_mlflow() -> Iterator[None]:
    """Hide MLflow, which DeepSpeed imports where it finds it (1 s) and a worker does not use."""
    if "mlflow" in sys.modules:
        yield
        return
    sys.modules["mlflow"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["mlflow"]
