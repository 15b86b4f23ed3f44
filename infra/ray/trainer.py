"""Ray Train's TorchTrainer with three habits changed.

Deliberate errors are final, a Ctrl-C belongs to the caller, and callbacks that only cost time are
left out. Ray offers no public way to any of them, so this file overrides private methods of
ray 2.60.0; `tests/infra/test_launch.py` notices when one of them is gone.
"""

import contextlib
from pathlib import Path
from typing import Any

import ray
from ray.train import Result, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision

from pipeline.errors import StepfoldError

_LEFT_OUT = {
    # polls the dashboard, which is not there, and logs its failure every second
    "PlacementGroupCleanerCallback",
    # starts an actor, beside the workers that are starting, for Ray data sets; we have none
    "DatasetsCallback",
    # would move workers out of the driver's directory, and relative paths with them
    "WorkingDirectorySetupCallback",
}
_ABORT_TIMEOUT_S = 10.0


class RoundTrainer(TorchTrainer):  # type: ignore[misc] # ray has no types
    """One fit of one round."""

    _controller: Any = None

    def stop(self) -> None:
        """Stop controller and workers of a fit that was interrupted."""
        if self._controller is None or not ray.is_initialized():
            return
        # the controller leaves the stage while it answers
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
        # Ray would swallow the first Ctrl-C, and keep its handler after the fit
        self._controller = controller


class _FinalErrors(DefaultFailurePolicy):  # type: ignore[misc] # ray has no types
    """Retry what may go away; what was raised on purpose would be raised again.

    Failures are counted from the last progress on: one at the same place again and again ends the
    work, one now and then in a long round does not.
    """

    def __init__(self, failure_config: Any, checkpoints: str | None) -> None:
        super().__init__(failure_config)
        self._checkpoints = checkpoints
        self._reached = self._progress()

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        """Raise deliberate errors at once."""
        if deliberate(training_failed_error):
            return FailureDecision.RAISE
        reached = self._progress()
        if reached != self._reached:
            self._reached, self._worker_group_failures = reached, 0
        return super().make_decision(training_failed_error)

    def _progress(self) -> set[str]:
        if self._checkpoints is None:
            return set()
        return {record.name for record in Path(self._checkpoints).glob("ledger/*.json")}


def deliberate(error: TrainingFailedError) -> StepfoldError | None:
    """The error a rank raised on purpose, of the lowest such rank."""
    if not isinstance(error, WorkerGroupError):
        return None
    for _, failure in sorted(error.worker_failures.items()):
        cause = getattr(failure, "_base_exc", failure)
        if isinstance(cause, StepfoldError):
            return cause
    return None
