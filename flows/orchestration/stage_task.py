"""Stages as Prefect tasks, with events, timing, and one retry after infrastructure errors.

Prefect stores no results. The ledger records what is done, so that a run resumes from its directory
alone, whatever the state of the Prefect server. A stage that is already done shows as Skipped.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed
from prefect.tasks import Task

from flows.orchestration.artifacts import ProgressBar
from flows.run import Run
from pipeline.errors import InfraError
from pipeline.ledger import Artifact
from stages.chain import Step
from stages.workspace import StageResult

P = ParamSpec("P")
T = TypeVar("T")


def _is_retryable(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    try:
        state.result()
    except InfraError:
        return True
    except Exception:
        return False
    return False


class StageTask(Task[P, T]):
    """A task that returns its result to the caller, also if the stage was skipped.

    Prefect itself would return the Skipped state to the caller.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:  # type: ignore[override]
        """Run the task; call within a flow."""
        returned: Any = super().__call__(*args, **kwargs)
        result: T = returned.result() if isinstance(returned, State) else returned
        return result


def stage_task(work: Callable[P, T]) -> StageTask[P, T]:
    """Build the task of a stage; its parameter `step` gives the name of the task run."""
    return StageTask(
        work,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=1,
        retry_condition_fn=_is_retryable,
        task_run_name="{step.id}",
    )


class StageObserver:
    """Record a stage of a run: events, timing and a progress bar in Prefect.

    Args:
        run: the run.
        step: the stage.
        around: factories of further contexts to enter while the stage runs.
    """

    def __init__(
        self, run: Run, step: Step, *around: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._run = run
        self._step = step
        self._around = around
        self._bar = ProgressBar(step.title)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Record the start, the end and the duration of the stage."""
        run, step = self._run, self._step
        run.events.emit("stage_started", stage=step.id, title=step.title)
        with ExitStack() as contexts:
            for enter in self._around:
                contexts.enter_context(enter())
            with run.timing.measure(step.id, step.title):
                yield
        seconds = run.timing.seconds()[step.id]
        run.events.emit("stage_done", stage=step.id, title=step.title, seconds=seconds)

    def progress(self, done: int, total: int) -> None:
        """Record the progress of the stage."""
        self._bar.update(done, total)
        run, step = self._run, self._step
        run.events.emit("stage_progress", stage=step.id, title=step.title, done=done, total=total)


def finish(run: Run, step: Step, result: StageResult[T]) -> T:
    """Return the result of a stage; a reused result as a state that shows the task as Skipped."""
    return skipped(run, step, result.value) if result.reused else result.value


def emit_notes(run: Run, step: Step, artifact: Artifact) -> None:
    """Print the notes on data or teacher, also if the stage was already done."""
    for note in artifact.details.get("notes", ()):
        run.events.emit("data_note", stage=step.id, title=step.title, message=note)


def skipped(run: Run, step: Step, value: T) -> T:
    """Return a state that shows the task as Skipped; the caller of the task gets `value`."""
    run.events.emit("stage_done", stage=step.id, title=step.title, cached=True)
    state: Any = Completed(name="Skipped", message=f"{step.title}: already done", data=value)
    return state  # type: ignore[no-any-return] # `StageTask` returns its data
