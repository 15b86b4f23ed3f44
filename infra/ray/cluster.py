"""Connect to a Ray cluster, or start a local one: loopback only, no dashboard, no telemetry."""

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from infra.process.environment import interrupt, set_environment_defaults, set_sigterm
from pipeline.config.profile import ComputeConfig, Profile
from pipeline.errors import ConfigError, InfraError
from pipeline.run_dir.layout import RAY_LINK

_log = logging.getLogger(__name__)

_VERSION = "2.60"
_PREFIX = "sf-"
_SESSION_LOGS = "session_latest/logs"  # where Ray writes its own, in its temporary folder
_DYING_S = 10.0  # they notice within about 4 s that their driver is gone

_LOCAL_DEFAULTS = {
    # Ray's memory monitor kills workers when other programs fill the memory
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a local machine is not preempted
    # time that Ray's processes wait for a dead head node, by default 60 s. A local head node is not
    # restarted, so fail sooner
    "RAY_gcs_rpc_server_reconnect_timeout_s": "20",
}

_EVERYWHERE = {
    # by default 30 s for a process group to shut down, which never succeeds if a worker hangs; Ray
    # Train does not pass this setting from the driver to workers as it does others
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "2",
    "PYTHONUTF8": "1",  # torch reads its own sources in the locale's encoding
}


@contextlib.contextmanager
def cluster(profile: Profile, log_dir: Path) -> Iterator[None]:
    """Run Ray for the duration of the block; no effect if this process is already connected.

    With `compute.launcher: inline` there is no Ray: only what the profile asks for is checked.

    A local Ray keeps its files in a private temporary folder, because its socket paths must be
    short. While it runs, `log_dir/ray` links to its logs; afterwards they are in
    `log_dir/ray-<time>`. Leaving the block, also by Ctrl-C, stops all Ray work. Without a handler
    of the caller, SIGTERM is treated as Ctrl-C.

    Raises:
        ConfigError: the profile needs more CPUs or GPUs than available, or see `check_version`.
        InfraError: Ray cannot be reached or started.
    """
    set_environment_defaults()
    if profile.compute.launcher == "inline":
        check_local_resources(profile.compute)
        yield
        return
    import ray

    check_version(ray.__version__)
    if ray.is_initialized():
        yield
        return
    if profile.compute.ray_address == "local":
        check_local_resources(profile.compute)
        with (
            _own_folder(log_dir) as folder,
            _session(_local_arguments(profile.compute, folder)),
        ):
            _link(log_dir / RAY_LINK, folder / _SESSION_LOGS)
            yield
        return
    runtime = {"env_vars": _EVERYWHERE}
    with _session({"address": profile.compute.ray_address, "runtime_env": runtime}):
        _check(profile.compute, ray.cluster_resources(), "the Ray cluster has")
        yield


def check_version(version: str) -> None:
    """Check that Ray is the version whose private names `infra.ray.private` uses.

    Raises:
        ConfigError: it is another version.
    """
    if not version.startswith(f"{_VERSION}."):
        raise ConfigError(
            f"Ray {version} is installed, but Stepfold depends on private interfaces of "
            f"{_VERSION}; install with -c constraints.txt"
        )


def check_local_resources(compute: ComputeConfig) -> None:
    """Check that this machine has the CPUs and GPUs that the profile needs.

    Raises:
        ConfigError: resources are missing; the message has what is available.
    """
    available: dict[str, float] = {"CPU": len(os.sched_getaffinity(0))}
    if compute.gpus_per_worker:
        import torch

        available["GPU"] = torch.cuda.device_count()
    _check(compute, available, "this machine has")


def _check(compute: ComputeConfig, available: dict[str, float], owner: str) -> None:
    for kind, each in (("CPU", compute.cpus_per_worker), ("GPU", compute.gpus_per_worker)):
        needed, found = compute.workers * each, int(available.get(kind, 0))
        if needed > found:
            key = f"{kind.lower()}s_per_worker"
            raise ConfigError(
                f"compute: {compute.workers} workers with {each} {kind}(s) each need {needed} "
                f"{kind}s, {owner} {found}; lower compute.workers or compute.{key}"
            )


def _local_arguments(compute: ComputeConfig, folder: Path) -> dict[str, Any]:
    for name, value in _LOCAL_DEFAULTS.items():
        os.environ.setdefault(name, value)
    packages = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH", "")
    return {
        "address": "local",
        "num_cpus": compute.workers * compute.cpus_per_worker,
        "num_gpus": compute.workers * compute.gpus_per_worker,
        "object_store_memory": 80 * 1024 * 1024,  # it stores JSON only
        "include_dashboard": False,
        "_temp_dir": str(folder),
        "runtime_env": {
            "env_vars": {
                "PYTHONPATH": f"{packages}:{inherited}" if inherited else packages,
                **_EVERYWHERE,
            }
        },
    }


@contextlib.contextmanager
def _session(arguments: dict[str, Any]) -> Iterator[None]:
    import ray

    from infra.ray.private import (
        listening_on_loopback,
        send_messages_to_log,
        without_working_directory,
    )

    handler = signal.getsignal(signal.SIGTERM)
    started = time.monotonic()
    try:
        is_local = arguments["address"] == "local"
        with listening_on_loopback() if is_local else contextlib.nullcontext():
            ray.init(
                log_to_driver=False,
                logging_level=logging.ERROR,
                job_config=without_working_directory(),
                **arguments,
            )
    except (ConnectionError, TimeoutError, OSError, RuntimeError, ValueError) as error:
        raise InfraError(
            f"compute.ray_address: Ray at {arguments['address']} did not start or respond "
            f"({error}); check the address and that the cluster is running"
        ) from error
    send_messages_to_log()
    # Ray's own handler exits, and during a wait Ray turns any exit into one with code 1
    set_sigterm(handler if callable(handler) else interrupt)
    _log.info("Ray is up after %.1f s", time.monotonic() - started)
    try:
        yield
    finally:
        ray.shutdown()
        set_sigterm(handler)


@contextlib.contextmanager
def _own_folder(log_dir: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_short_temporary_root()))
    try:
        yield folder
    finally:
        (log_dir / RAY_LINK).unlink(missing_ok=True)
        _keep_logs(folder, log_dir)
        shutil.rmtree(folder, ignore_errors=True)


def _short_temporary_root() -> str:
    # Ray adds about 60 characters for its sockets, and the kernel takes 107
    root = tempfile.gettempdir()
    return root if len(root) <= 30 else "/tmp"  # noqa: S108 (mkdtemp makes it private)


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target.resolve())


def remove_dead_session(log_dir: Path) -> bool:
    """Remove the temporary folder of a local Ray whose driver was killed.

    Call only if no driver is using this `log_dir`.

    Returns:
        Whether a folder was removed.
    """
    link = log_dir / RAY_LINK
    if not link.is_symlink():
        return False
    folder = next((p for p in link.readlink().parents if p.name.startswith(_PREFIX)), None)
    link.unlink()
    # the link is untrusted: remove only folders that `_own_folder` can have created
    if folder is None or str(folder.parent) != _short_temporary_root() or not folder.is_dir():
        return False
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        return False
    _wait_for_exit(folder)
    _keep_logs(folder, log_dir)
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _wait_for_exit(folder: Path) -> None:
    """Wait until the processes of a dead Ray, which still write into its folder, have ended."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            # run from Ray's package with this folder as argument, unlike a viewer of its logs
            if any("/ray/" in word for word in words) and any(str(folder) in w for w in words):
                found.append(process)
    _, alive = psutil.wait_procs(found, timeout=_DYING_S)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=_DYING_S)


def _keep_logs(folder: Path, log_dir: Path) -> None:
    logs = folder / _SESSION_LOGS
    if not logs.is_dir():
        return
    kept = log_dir / time.strftime("ray-%Y%m%d-%H%M%S", time.gmtime())
    for file in logs.resolve().rglob("*"):
        if file.is_file() and file.stat().st_size:
            copy = kept / file.relative_to(logs.resolve())
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
