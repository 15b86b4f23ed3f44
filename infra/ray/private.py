"""Every use of Ray's private names; `cluster.check_version` refuses versions they may differ in.

Ray has no public interface for: a cluster and a process group on loopback only, messages in our
log, errors that are not retried, Ctrl-C that is left to the caller, fewer callbacks, and the driver
that made a placement group.
`tests/infra/test_launch.py` fails if one of the names disappears.
"""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray._private.state import state as cluster_state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData
from ray.job_config import JobConfig
from ray.train import Result, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.torch.config import _TorchBackend
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
from ray.util.placement_group import PlacementGroup, remove_placement_group

from pipeline.errors import StepfoldError
from pipeline.run_files import RECORDS

_log = logging.getLogger(__name__)

_ADDRESS = "127.0.0.1"
_LEFT_OUT = {
    # polls the dashboard, which is disabled, and logs a failure every second
    "PlacementGroupCleanerCallback",
    # starts an additional actor for Ray data sets, which are not used
    "DatasetsCallback",
    # changes the working directory of workers, which breaks relative paths
    "WorkingDirectorySetupCallback",
}
_ABORT_TIMEOUT_S = 10.0


@contextlib.contextmanager
def listening_on_loopback() -> Iterator[None]:
    """Make a Ray that starts in the block listen on 127.0.0.1 only, its default off Linux.

    ray 2.60.0 has no argument for it: a loopback `_node_ip_address` is replaced by the host's.
    """
    allowed = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = allowed


class _NoFolders(list[str]):
    """The driver's folders, to which Ray adds in place."""

    def extend(self, folders: Iterable[str]) -> None:
        """Add none."""


def without_working_directory() -> JobConfig:
    """Return a job whose workers import nothing from the driver's working directory.

    Ray puts it and the driver's script folder before everything else on their import path.
    """
    job = JobConfig()
    job._py_driver_sys_path = _NoFolders()
    return job


def send_messages_to_log() -> None:
    """Log the raylet's messages about dead workers, which no option keeps from the terminal."""
    ray._private.worker.print_to_stdstream = _to_log


def _to_log(data: dict[str, Any], ignore_prefix: Any = None) -> None:  # noqa: ARG001 (Ray's signature)
    _log.info("ray: %s", " ".join(str(line) for line in data.get("lines", [])))


class LoopbackConfig(TorchConfig):  # type: ignore[misc] # ray has no types
    """Configuration of a process group whose workers are all on this machine."""

    @property
    def backend_cls(self) -> type[Any]:
        """The backend class that sets up the process group."""
        return _LoopbackBackend


class _LoopbackBackend(_TorchBackend):  # type: ignore[misc] # ray has no types
    """Ray's own set-up, with workers restricted to loopback."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Restrict the workers to loopback, then set up the process group."""
        worker_group.execute(restrict_to_loopback)
        super().on_start(worker_group, backend_config)


def restrict_to_loopback() -> None:
    """Make torch's store and gloo listen on 127.0.0.1 only, for the rest of this process.

    torch's rendezvous store listens on all addresses of a machine without authentication, and torch
    has no argument for another address that Ray would pass on.
    """
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    os.environ["NCCL_SOCKET_IFNAME"] = "lo"
    # via sys.modules, because the package also has a function of this name; torch 2.13.0 creates
    # every store in this module
    rendezvous: Any = sys.modules["torch.distributed.rendezvous"]
    rendezvous.TCPStore = _open_store


def _open_store(**options: Any) -> Any:
    import torch.distributed

    if options["is_master"]:
        listener = socket.create_server((_ADDRESS, options["port"]))
        options["master_listen_fd"] = listener.detach()
    distributed: Any = torch.distributed  # TCPStore is missing in its stubs
    return distributed.TCPStore(**options)


@contextlib.contextmanager
def removing_placement_groups() -> Iterator[None]:
    """Remove the placement groups that are made in the block and outlive it.

    Ray Train forgets the group of a fit whose workers never formed a process group, and Ray keeps
    it until this driver ends: the next fit would wait for CPUs that nothing uses.
    """
    before = _placement_groups()
    try:
        yield
    finally:
        if ray.is_initialized():
            # a lost cluster reserves nothing; its own error is the one to report
            with contextlib.suppress(ray.exceptions.RayError, RuntimeError, ConnectionError):
                for group in _placement_groups() - before:
                    remove_placement_group(PlacementGroup(ray.PlacementGroupID(group)))


def _placement_groups() -> set[bytes]:
    """Return the ids of the placement groups of this driver; others may share the cluster."""
    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id()).binary()
    table = cluster_state._connect_and_get_accessor().get_placement_group_table()
    groups = [PlacementGroupTableData.FromString(entry) for entry in table]
    return {
        group.placement_group_id
        for group in groups
        if group.creator_job_id == job and group.state != PlacementGroupTableData.REMOVED
    }


class RoundTrainer(TorchTrainer):  # type: ignore[misc] # ray has no types
    """Trainer of one round."""

    _controller: Any = None

    def stop(self) -> None:
        """Stop controller and workers of an interrupted fit."""
        if self._controller is None or not ray.is_initialized():
            return
        # the controller exits while it responds
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self._controller.abort.remote(), timeout=_ABORT_TIMEOUT_S)
        ray.kill(self._controller)

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [each for each in callbacks if type(each).__name__ not in _LEFT_OUT]

    def _initialize_and_run_controller(self, **parts: Any) -> Result:
        checkpoints = self.train_loop_config["job"].get("checkpoints")
        parts["failure_policy"] = _FinalErrors(self.run_config.failure_config, checkpoints)
        return super()._initialize_and_run_controller(**parts)

    def _register_sigint_handler(self, controller: Any) -> None:
        # Ray's handler would ignore the first Ctrl-C and stay installed after the fit
        self._controller = controller


class _FinalErrors(DefaultFailurePolicy):  # type: ignore[misc] # ray has no types
    """Retry infrastructure failures, but not StepfoldErrors, which would recur.

    Failures are counted since the last progress: repeated failures at the same point stop the
    round, occasional failures in a long round do not.
    """

    def __init__(self, failure_config: Any, checkpoints: str | None) -> None:
        super().__init__(failure_config)
        self._checkpoints = checkpoints
        self._reached = self._progress()

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        """Raise StepfoldErrors immediately; let Ray's policy decide on others."""
        if stepfold_error(training_failed_error):
            return FailureDecision.RAISE
        reached = self._progress()
        if reached != self._reached:
            self._reached, self._worker_group_failures = reached, 0
        return super().make_decision(training_failed_error)

    def _progress(self) -> set[str]:
        if self._checkpoints is None:
            return set()
        return {record.name for record in Path(self._checkpoints).glob(f"{RECORDS}/*.json")}


def stepfold_error(error: TrainingFailedError) -> StepfoldError | None:
    """Return the StepfoldError of the lowest rank that raised one; None if none did."""
    if not isinstance(error, WorkerGroupError):
        return None
    for _, failure in sorted(error.worker_failures.items()):
        cause = getattr(failure, "_base_exc", failure)
        if isinstance(cause, StepfoldError):
            return cause
    return None
