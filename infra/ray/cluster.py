"""Connect to Ray, or start it here: on loopback, without dashboard or telemetry, silently."""

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

from infra.process.environment import settle_environment
from infra.process.signals import interrupt, set_sigterm
from pipeline.config.profile import ComputeConfig, Profile
from pipeline.errors import ConfigError, InfraError

_log = logging.getLogger(__name__)

_PREFIX = "sf-"
_DYING_S = 10.0  # they notice within about 4 s that their driver is gone

_LOCAL_DEFAULTS = {
    # Ray's memory monitor kills bystanders when other programs fill the machine
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # nobody reclaims this machine
    # Ray's processes wait that long for a head that died, one minute by default. It does not come
    # back by itself here, and whoever waits for the run is to know within that minute
    "RAY_gcs_rpc_server_reconnect_timeout_s": "20",
}

_EVERYWHERE = {
    # half a minute for workers to take leave of each other, which one that hangs never does; Ray
    # Train does not hand it on from the driver as it does its other settings
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "2",
    "PYTHONUTF8": "1",  # torch reads sources of its own in whatever encoding the locale has
}


@contextlib.contextmanager
def cluster(profile: Profile, log_dir: Path) -> Iterator[None]:
    """Have Ray up for the duration; does nothing where it is up in this process already.

    With `compute.launcher: inline` there is no Ray: only what the profile asks for is checked.

    A local Ray keeps its files in a private temporary folder, because its socket paths must be
    short. While it runs, `log_dir/ray` points to its logs; afterwards they lie in
    `log_dir/ray-<time>`. Leaving the block, also by Ctrl-C, stops all Ray work; without a handler
    of the caller's, SIGTERM counts as Ctrl-C.

    Raises:
        ConfigError: more CPUs or GPUs are asked for than exist.
        InfraError: Ray cannot be reached or started.
    """
    settle_environment()
    if profile.compute.launcher == "inline":
        check_local_resources(profile.compute)
        yield
        return
    import ray

    if ray.is_initialized():
        yield
        return
    if profile.compute.ray_address == "local":
        check_local_resources(profile.compute)
        with (
            _own_folder(log_dir) as folder,
            _session(_local_arguments(profile.compute, folder)),
        ):
            _link(log_dir / "ray", folder / "session_latest" / "logs")
            yield
        return
    runtime = {"env_vars": _EVERYWHERE}
    with _session({"address": profile.compute.ray_address, "runtime_env": runtime}):
        _check(profile.compute, ray.cluster_resources(), "the Ray cluster has")
        yield


def check_local_resources(compute: ComputeConfig) -> None:
    """Refuse to ask this machine for more than it has.

    Raises:
        ConfigError: with what is there.
    """
    available: dict[str, float] = {"CPU": len(os.sched_getaffinity(0))}
    if compute.gpus_per_worker:
        import torch

        available["GPU"] = torch.cuda.device_count()
    _check(compute, available, "this machine has")


def _check(compute: ComputeConfig, available: dict[str, float], whose: str) -> None:
    for kind, each in (("CPU", compute.cpus_per_worker), ("GPU", compute.gpus_per_worker)):
        asked, there = compute.workers * each, int(available.get(kind, 0))
        if asked > there:
            key = f"{kind.lower()}s_per_worker"
            raise ConfigError(
                f"compute: {compute.workers} workers with {each} {kind}(s) each need {asked} "
                f"{kind}s, {whose} {there}; lower compute.workers or compute.{key}"
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
        "object_store_memory": 80 * 1024 * 1024,  # nothing but JSON goes through it
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

    handler = signal.getsignal(signal.SIGTERM)
    started = time.monotonic()
    try:
        with _loopback() if arguments["address"] == "local" else contextlib.nullcontext():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **arguments)
    except (ConnectionError, TimeoutError, OSError, RuntimeError, ValueError) as error:
        raise InfraError(
            f"Ray at {arguments['address']} did not start or answer ({error}); "
            "check compute.ray_address and that the cluster is up"
        ) from error
    # what the raylet has to say about dead workers would go to the terminal, whatever we ask
    ray._private.worker.print_to_stdstream = _to_log
    # Ray's own handler exits, and Ray makes any exit that begins while it waits one with code 1
    set_sigterm(handler if callable(handler) else interrupt)
    _log.info("Ray is up after %.1f s", time.monotonic() - started)
    try:
        yield
    finally:
        ray.shutdown()
        set_sigterm(handler)


@contextlib.contextmanager
def _loopback() -> Iterator[None]:
    """Let Ray listen on 127.0.0.1 only, as it does by itself on other systems than Linux.

    ray 2.60.0 has no argument for it: it replaces a loopback `_node_ip_address` by the host's.
    """
    from ray._private import ray_constants

    allowed = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = allowed


def _to_log(data: dict[str, Any], ignore_prefix: Any = None) -> None:  # noqa: ARG001 (Ray's)
    _log.info("ray: %s", " ".join(str(line) for line in data.get("lines", [])))


@contextlib.contextmanager
def _own_folder(log_dir: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_short_temporary_root()))
    try:
        yield folder
    finally:
        (log_dir / "ray").unlink(missing_ok=True)
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


def clear_dead_session(log_dir: Path) -> bool:
    """Remove the temporary folder of a local Ray whose driver was killed; whether there was one.

    Call when no driver is at work with this `log_dir`: Ray's processes end with theirs.
    """
    link = log_dir / "ray"
    if not link.is_symlink():
        return False
    folder = next((p for p in link.readlink().parents if p.name.startswith(_PREFIX)), None)
    link.unlink()
    # the link is a text that anyone may have written: only what `_own_folder` makes is removed
    if folder is None or str(folder.parent) != _short_temporary_root() or not folder.is_dir():
        return False
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        return False
    _wait_for_the_end(folder)
    _keep_logs(folder, log_dir)
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _wait_for_the_end(folder: Path) -> None:
    """Until no process of a dead Ray is left that would write into its folder again."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            # of Ray's package and told this folder; a person reading its logs is neither
            if any("/ray/" in word for word in words) and any(str(folder) in w for w in words):
                found.append(process)
    _, alive = psutil.wait_procs(found, timeout=_DYING_S)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=_DYING_S)


def _keep_logs(folder: Path, log_dir: Path) -> None:
    logs = folder / "session_latest" / "logs"
    if not logs.is_dir():
        return
    kept = log_dir / time.strftime("ray-%Y%m%d-%H%M%S", time.gmtime())
    for file in logs.resolve().rglob("*"):
        if file.is_file() and file.stat().st_size:
            copy = kept / file.relative_to(logs.resolve())
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
