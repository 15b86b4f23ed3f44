"""Ray Train's TorchTrainer with three changes.

StepfoldErrors are not retried, Ctrl-C is handled by the caller, and unneeded callbacks are removed.
Ray has no public interface for these, so this file overrides private methods of ray 2.60.0;
`tests/infra/test_launch.py` fails if one of them disappears.
"""

import contextlib
from pathlib import Path
from typing import Any

import ray
from ray.train import Result, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision

from pipeline.errors import StepfoldError
from pipeline.ledger import RECORDS

_LEFT_OUT = {
    # polls the dashboard, which is disabled, and logs a failure every second
    "PlacementGroupCleanerCallback",
    # starts an additional actor for Ray data sets, which are not used
    "DatasetsCallback",
    # changes the working directory of workers, which breaks relative paths
    "WorkingDirectorySetupCallback",
}
_ABORT_TIMEOUT_S = 10.0


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
