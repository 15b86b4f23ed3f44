"""Entry points of Ray's processes: look up a function by name and call it.

Inputs are names, JSON and paths only. Torch is imported after its number of threads is set.
"""

import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from infra.process.environment import keep_freed_memory, set_environment_defaults, set_private_umask
from pipeline import errors
from pipeline.errors import CapacityError, InfraError, StepfoldError

_TAIL = 12


def train_loop(config: dict[str, Any]) -> None:
    """Body of a Ray Train worker: `config` holds `entry`, `job` and `threads`."""
    # deepspeed imports mlflow if installed (1 s), but workers do not use it
    sys.modules["mlflow"] = None  # type: ignore[assignment]
    prepare_process(config["threads"])
    try:
        import_function(config["entry"])(config["job"])
    except Exception as error:
        raise short_of_memory(error) or error from error


class JobServer:
    """Body of a Ray actor, which creates its function by `factory(spec)` at the first job.

    Jobs may run in several threads. Each uses the same number of torch threads, because the
    environment variable is set before torch is imported.
    """

    def __init__(self, factory: str, spec: dict[str, Any], threads: int) -> None:
        self._factory = factory
        self._spec = spec
        self._threads = threads
        self._opening = threading.Lock()
        self._serve: Callable[[dict[str, Any]], dict[str, Any]] | None = None

    def beat(self) -> tuple[str, int]:
        """Return Ray's node id and the pid, as a heartbeat."""
        import ray

        return ray.get_runtime_context().get_node_id(), os.getpid()

    def serve(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run one job; return {"result": ...} or {"failure": ...}, without raising."""
        try:
            with self._opening:
                if self._serve is None:
                    prepare_process(self._threads)
                    self._serve = import_function(self._factory)(self._spec)
            return {"result": self._serve(job)}
        except Exception as error:
            return {"failure": error_to_json(error)}


def kill_process(pid: int) -> None:
    """Kill a process of this node; a process that has already ended is ignored."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def prepare_process(threads: int) -> None:
    """Configure environment, memory, threads, logging and known warnings of this process."""
    set_environment_defaults()
    set_private_umask()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    if not torch.cuda.is_available():  # with a GPU, the large blocks are in GPU memory
        keep_freed_memory()
    logging.basicConfig(
        level=logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING,
        format=f"%(asctime)s rank {os.environ.get('RANK', '-')} %(name)s: %(message)s",
    )
    ignore_known_warnings()


def ignore_known_warnings() -> None:
    """Hide deprecation warnings that deepspeed 0.19.8 triggers in torch 2.13 in every update."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")


def import_function(name: str) -> Callable[..., Any]:
    """Import the function with the name "module:function"."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def error_to_json(error: Exception) -> dict[str, str]:
    """Convert an error to JSON: class and text of a StepfoldError, else the traceback's end."""
    error = short_of_memory(error) or error
    if isinstance(error, StepfoldError):
        return {"class": type(error).__name__, "text": str(error)}
    return {"class": InfraError.__name__, "text": last_lines(traceback.format_exc())}


def short_of_memory(error: Exception) -> CapacityError | None:
    """Convert a failed allocation to a CapacityError; None for any other error.

    torch has an exception class for it on GPUs only; on a CPU it is recognised by the message.
    """
    text = str(error)
    is_torch_error = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text
    if not is_torch_error and not isinstance(error, MemoryError):
        return None
    return CapacityError(
        f"a worker ran out of memory ({' '.join(text.split()) or 'MemoryError'}); lower "
        "batch_size, set engine.gradient_checkpointing: true or a higher engine.zero_stage, or use "
        "fewer workers per machine. `stepfold plan` shows the memory of a worker"
    )


def error_from_json(failure: dict[str, str]) -> StepfoldError:
    """Rebuild an error from `error_to_json`."""
    kind: type[StepfoldError] = getattr(errors, failure["class"])
    return kind(failure["text"])


def last_lines(text: str) -> str:
    """Return the last lines of a traceback, which have the cause."""
    return "\n".join(text.strip().splitlines()[-_TAIL:])
