"""A stage as a Prefect task: named for people, timed, retried for infrastructure faults only.

Prefect keeps no results here. What exists is decided by the ledger, so that a run resumes from its
directory alone, whatever became of the control plane; a stage found done shows as Skipped.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed
from prefect.tasks import Task

from flows.orchestration.artifacts import Progress
from flows.run import Run
from pipeline.errors import InfraError

P = ParamSpec("P")
T = TypeVar("T")


def _may_help_to_retry(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    try:
        state.result()
    except InfraError:
        return True
    except Exception:
        return False
    return False


class StageTask(Task[P, T]):
    """A task whose caller sees what its work returns, whether the stage was skipped or not.

    Prefect hands a state that a task returned to the caller as it is.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:  # type: ignore[override]
        """Do the work, called within a flow."""
        given: Any = super().__call__(*args, **kwargs)
        found: T = given.result() if isinstance(given, State) else given
        return found


def stage_task(work: Callable[P, T]) -> StageTask[P, T]:
    """A task that does a stage's work; its parameter `label` is its name."""
    return StageTask(
        work,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=1,
        retry_condition_fn=_may_help_to_retry,
        task_run_name="{label}",
    )


def perform(run: Run, label: str, work: Callable[[], T]) -> T:
    """Do a stage's work, timed, and tell whoever watches that it began and ended."""
    run.events.emit("stage_started", label=label)
    with run.timing.measure(label):
        result = work()
    run.events.emit("stage_done", label=label, seconds=run.timing.stages()[label], cached=False)
    return result


def telling(run: Run, label: str) -> Callable[[int, int], None]:
    """A function that tells whoever watches how far a stage is."""
    bar = Progress(label)

    def tell(done: int, total: int) -> None:
        bar.tell(done, total)
        run.events.emit("stage_progress", label=label, done=done, total=total)

    return tell


def skipped(run: Run, label: str, result: T) -> T:
    """A Prefect state that shows the stage as skipped; the caller sees `result`."""
    run.events.emit("stage_done", label=label, seconds=0.0, cached=True)
    state: Any = Completed(name="Skipped", message=f"{label}: already done", data=result)
    return state  # type: ignore[no-any-return] # `StageTask` gives the caller what it holds
