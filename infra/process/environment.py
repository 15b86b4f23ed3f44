"""Settings of every process: environment, signals, allocator.

The environment is set before heavy imports: no telemetry, noise or secrets. Variables set by the
user are kept. This module imports nothing that reads these variables.
"""

import ctypes
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.redaction import redact_logs

_M_TRIM_THRESHOLD = -1  # constants of /usr/include/malloc.h
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8

_log = logging.getLogger(__name__)

_PRIVACY = {
    "DO_NOT_TRACK": "true",  # MLflow requires "true", Prefect accepts it
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}

_SAFETY = {
    "DIFFUSERS_DISABLE_REMOTE_CODE": "1",  # bundles hold data only
    "WDS_SECURE": "1",  # no `pipe:` URLs, which run a shell
}

_QUIET = {
    "RAY_DEDUP_LOGS": "1",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # detect dead or finished workers quickly
    # calls to a dead server must fail in seconds, not block for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",  # else it reports each missing optional package
    "GIT_PYTHON_REFRESH": "quiet",
}


_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def set_environment_defaults() -> None:
    """Set all defaults that are not set in the environment, and redact secrets in logs.

    If there is a proxy, connections to this machine are exempt from it, also those of children.
    """
    redact_logs()
    for name, value in {**_PRIVACY, **_SAFETY, **_QUIET}.items():
        os.environ.setdefault(name, value)
    if missing := proxied_loopback():
        # programs read one of the names or the other
        exempt = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
        for name in ("no_proxy", "NO_PROXY"):
            own = os.environ.get(name) or exempt
            os.environ[name] = ",".join([own, *missing] if own else missing)


def proxied_loopback() -> list[str]:
    """Return the names of this machine that the environment gives to a proxy; empty without one."""
    from urllib.request import getproxies_environment
    from urllib.request import proxy_bypass_environment as is_exempt  # type: ignore[attr-defined]

    proxies = getproxies_environment()
    if not proxies.keys() - {"no"}:
        return []
    return [name for name in _LOOPBACK if not is_exempt(name, proxies)]


def check_home() -> None:
    """Check that there is a home directory for the files of Prefect and other libraries.

    Raises:
        ConfigError: HOME is not set for a user without an entry in the password database, as in
            some containers, or the directory of Prefect cannot be written.
    """
    try:
        home = Path.home()
    except RuntimeError:
        raise ConfigError(
            f"HOME: not set, and user {os.getuid()} has no home directory on this machine; set it "
            "to a directory that this user may write: export HOME=/tmp/home"
        ) from None
    own = os.environ.get("PREFECT_HOME")
    place = Path(own).expanduser() if own else home / ".prefect"
    present = next(each for each in (place, *place.absolute().parents) if each.exists())
    if not (present.is_dir() and os.access(present, os.W_OK | os.X_OK)):
        raise ConfigError(
            f"{'PREFECT_HOME' if own else 'HOME'}: {present} cannot be written by user "
            f"{os.getuid()}, and Prefect keeps its database in {place}; set PREFECT_HOME to "
            "another directory"
        )


def set_private_umask() -> None:
    """Make new files of this process and its children accessible to their user only."""
    os.umask(0o077)


@contextmanager
def interruptible() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt in the block: during a run, and while waiting for Ray.

    Prefect's handler raises its own exception and then calls the previous handler, by default the
    immediate end of the process, before cleanup. While Ray waits, it passes on KeyboardInterrupt
    only; exceptions of other handlers, such as Prefect's, are lost and the work continues.
    """
    handler = signal.getsignal(signal.SIGTERM)
    set_sigterm(interrupt)
    try:
        yield
    finally:
        set_sigterm(handler or signal.SIG_DFL)


def set_sigterm(handler: Any) -> None:
    """Set the SIGTERM handler; no effect outside the main thread, which cannot set handlers."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def interrupt(number: int, frame: Any) -> None:  # noqa: ARG001 (signal's signature)
    """Raise KeyboardInterrupt, as Ctrl-C does."""
    raise KeyboardInterrupt


def keep_freed_memory() -> None:
    """Make the C library keep large freed blocks instead of returning them to the system.

    glibc returns large blocks immediately, so activations and gradients are mapped and zeroed page
    by page in every update: for 50M parameters under DeepSpeed this took a third of an update.
    Workers need the same blocks again at once, so they are kept. A worker then holds its peak
    memory until it ends, plus a few blocks of each size (measured: at most 8). All threads share
    one arena, because otherwise each would keep its own blocks.

    No effect if the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_ARENA_MAX: 1}
    if not all(mallopt(parameter, value) for parameter, value in settings.items()):
        _log.warning("mallopt failed: freed memory is returned to the system, updates are slower")
