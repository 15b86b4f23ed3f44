"""What runs inside Ray's processes: find the function that was named, and call it.

Only names, JSON and paths come in. Torch is imported after its number of threads is known.
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

from infra.process.environment import keep_private, settle_environment
from infra.process.malloc import keep_freed_memory
from pipeline import errors
from pipeline.errors import CapacityError, InfraError, StepfoldError

_TAIL = 12


def train_loop(config: dict[str, Any]) -> None:
    """Body of a Ray Train worker: `config` holds `entry`, `job` and `threads`."""
    # deepspeed imports mlflow if it finds it (1 s), and a worker does not track
    sys.modules["mlflow"] = None  # type: ignore[assignment]
    prepare_process(config["threads"])
    try:
        find(config["entry"])(config["job"])
    except Exception as error:
        raise short_of_memory(error) or error from error


class JobServer:
    """Body of a Ray actor: makes its function from `factory(spec)` at the first job.

    Jobs may come in several threads. Each has as many of torch's threads as the first, because the
    environment says so before torch is imported.
    """

    def __init__(self, factory: str, spec: dict[str, Any], threads: int) -> None:
        self._factory = factory
        self._spec = spec
        self._threads = threads
        self._opening = threading.Lock()
        self._serve: Callable[[dict[str, Any]], dict[str, Any]] | None = None

    def beat(self) -> tuple[str, int]:
        """Answer, which a process that is stuck cannot: its node, as Ray calls it, and its pid."""
        import ray

        return ray.get_runtime_context().get_node_id(), os.getpid()

    def serve(self, job: dict[str, Any]) -> dict[str, Any]:
        """Do one job; gives {"result": ...} or {"failure": ...}, never an exception."""
        try:
            with self._opening:
                if self._serve is None:
                    prepare_process(self._threads)
                    self._serve = find(self._factory)(self._spec)
            return {"result": self._serve(job)}
        except Exception as error:
            return {"failure": pack(error)}


def end_process(pid: int) -> None:
    """Kill a process of this node; one that is gone already is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def prepare_process(threads: int) -> None:
    """Settle environment, memory, threads, logging and known noise before any real work."""
    settle_environment()
    keep_private()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    if not torch.cuda.is_available():  # where there is a GPU, the large blocks are there
        keep_freed_memory()
    logging.basicConfig(
        level=logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING,
        format=f"%(asctime)s rank {os.environ.get('RANK', '-')} %(name)s: %(message)s",
    )
    ignore_known_noise()


def ignore_known_noise() -> None:
    """Hide deprecations that deepspeed 0.19.8 triggers in torch 2.13 with every update."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")


def find(name: str) -> Callable[..., Any]:
    """The function called "module:function"."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def pack(error: Exception) -> dict[str, str]:
    """An error as JSON: its class if it was deliberate, else the end of its traceback."""
    error = short_of_memory(error) or error
    if isinstance(error, StepfoldError):
        return {"class": type(error).__name__, "text": str(error)}
    return {"class": InfraError.__name__, "text": tail(traceback.format_exc())}


def short_of_memory(error: Exception) -> CapacityError | None:
    """What to do about an allocation that failed; None for any other error.

    torch has a class for it on a GPU only; on a CPU its text is all there is, with the size asked.
    """
    text = str(error)
    is_torchs = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text
    if not is_torchs and not isinstance(error, MemoryError):
        return None
    return CapacityError(
        f"a worker ran out of memory ({' '.join(text.split()) or 'MemoryError'}); lower "
        "batch_size, set engine.gradient_checkpointing: true or a higher engine.zero_stage, or use "
        "fewer workers on a machine. `stepfold plan` says what each needs"
    )


def unpack(failure: dict[str, str]) -> StepfoldError:
    """The inverse of `pack`."""
    kind: type[StepfoldError] = getattr(errors, failure["class"])
    return kind(failure["text"])


def tail(text: str) -> str:
    """The last lines of a traceback, where the cause stands."""
    return "\n".join(text.strip().splitlines()[-_TAIL:])
