"""The `inline` launcher: jobs and training in the driver's own process, without Ray.

Results equal those of one Ray worker, bit for bit: while a job or a fit runs, the process has the
threads and the environment of a fresh worker. Afterwards its own settings and the random state of
every library are restored. Debuggers, profilers and `print` work as usual.

There is no fault tolerance: an error ends the work at once, a crash ends the driver, and a hang is
not detected. `ray_address`, `max_restarts`, `hang_timeout_s` and `start_timeout_s` of `compute`
have no effect. A later run continues from the newest checkpoint, as after any failure.
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

from infra.process.environment import (
    interruptible,
    keep_freed_memory,
    set_environment_defaults,
    set_private_umask,
)
from infra.ray.worker import (
    error_from_json,
    error_to_json,
    ignore_known_warnings,
    import_function,
    last_lines,
    short_of_memory,
)
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
    """Run independent jobs one after another, in order; see `infra.launch.run_jobs`.

    Worker settings apply during a job only, not while the caller uses a result.
    """
    serve = None
    for job in jobs:
        with as_worker(compute):
            try:
                serve = serve or import_function(factory)(spec)
                result = serve(job)
            except StepfoldError:
                raise
            except Exception as error:
                raise error_from_json(error_to_json(error)) from error
        yield result


def fit(entry: str, job: dict[str, Any], compute: ComputeConfig, name: str) -> None:
    """Call `entry` as the only rank of a process group; see `infra.launch.fit`.

    The group and DeepSpeed's process-wide state are removed afterwards, so that the next fit starts
    as in a fresh process.
    """
    with as_worker(compute, {**_ONLY_RANK, **_LOOPBACK}), _without_mlflow():
        from infra.deepspeed.engine import group_of_one

        try:
            with group_of_one():
                import_function(entry)(job)
        except StepfoldError:
            raise
        except Exception as error:
            text = f"{name} failed:\n{last_lines(traceback.format_exc())}"
            raise short_of_memory(error) or InfraError(text) from error
        finally:
            gc.collect()  # engines are reference cycles, and the next one needs their memory


@contextmanager
def as_worker(
    compute: ComputeConfig, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Give this process the settings of a fresh Ray worker, and restore its own afterwards.

    Freed memory is kept by the allocator from then on, as in a worker; this is not undone.

    Args:
        compute: threads and GPUs of the worker.
        environment: further environment variables of the worker.

    Raises:
        ConfigError: `gpus_per_worker` is 0, but this process already uses a GPU.
    """
    variables = {"OMP_NUM_THREADS": str(compute.cpus_per_worker), **(environment or {})}
    if compute.gpus_per_worker == 0:
        variables["CUDA_VISIBLE_DEVICES"] = ""
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        stack.enter_context(_environment(variables))
        stack.callback(os.umask, os.umask(0o077))
        set_environment_defaults()
        set_private_umask()
        import torch

        _check_gpus(compute)
        if not torch.cuda.is_available():  # with a GPU, large blocks are in GPU memory
            keep_freed_memory()
        stack.enter_context(_threads(compute.cpus_per_worker))
        stack.enter_context(_preserved_random_state())
        stack.enter_context(_stock_linear())
        stack.enter_context(warnings.catch_warnings())
        ignore_known_warnings()
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
            "compute.gpus_per_worker: 0 with compute.launcher: inline, but this process "
            "already uses a GPU; set compute.gpus_per_worker: 1, or export CUDA_VISIBLE_DEVICES="
        )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Limit torch, and the BLAS of NumPy and SciPy, to `count` threads."""
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
def _preserved_random_state() -> Iterator[None]:
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
def _stock_linear() -> Iterator[None]:
    """Start with torch's own `linear`, and undo any replacement afterwards.

    ZeRO 3 replaces it for the rest of the process by a version that adds the bias separately, which
    would change the last bits of all later networks.
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
    """Hide MLflow, which DeepSpeed would import (1 s) and a worker does not use."""
    if "mlflow" in sys.modules:
        yield
        return
    sys.modules["mlflow"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["mlflow"]
