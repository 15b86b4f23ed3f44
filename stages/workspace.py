"""The inputs and results that all stages share."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.ledger import Artifact, Ledger
from pipeline.run_dir.layout import DATA, LATENTS, TEACHER, RunDir

T = TypeVar("T")

Progress = Callable[[int, int], None]
"""Called with (parts done, parts in total)."""


@dataclass(frozen=True)
class Workspace:
    """A run as its stages see it; every worker must see the same `run_dir`."""

    run_dir: Path
    recipe: Recipe
    profile: Profile = field(default_factory=Profile)

    @cached_property
    def ledger(self) -> Ledger:
        """The commit records of the run."""
        return Ledger(self.run_dir)

    @property
    def layout(self) -> RunDir:
        """The files of the run directory."""
        return RunDir(self.run_dir)


@dataclass(frozen=True)
class StageResult(Generic[T]):
    """Result of a stage.

    Attributes:
        value: the artifact, or artifacts.
        reused: whether it was already committed, so that the stage did no work.
    """

    value: T
    reused: bool


class Observer(Protocol):
    """Receives the progress of one stage."""

    def working(self) -> AbstractContextManager[None]:
        """Return a context that the stage enters for its work, and not when a result is reused."""

    def progress(self, done: int, total: int) -> None:
        """Report the number of finished parts, and the total."""


class ProgressObserver:
    """Observer that forwards progress to a callback.

    Args:
        progress: called with (parts done, parts in total).
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def working(self) -> AbstractContextManager[None]:
        """Return an empty context."""
        return nullcontext()


UNOBSERVED: Observer = ProgressObserver(lambda done, total: None)  # noqa: ARG005


def data_notes(
    run_dir: RunDir, places: Sequence[str] = (DATA, LATENTS, TEACHER)
) -> tuple[str, ...]:
    """Return the notes on the committed data and teacher, one sentence each."""
    artifacts = run_dir.artifacts()
    found = (artifacts[place] for place in places if place in artifacts)
    return tuple(note for artifact in found for note in artifact.details.get("notes", ()))


def find_or_make(
    ledger: Ledger, key: str, observer: Observer, make: Callable[[], Artifact]
) -> StageResult[Artifact]:
    """Return the committed artifact with fingerprint `key`, or make it: one look-up per stage."""
    found = ledger.find(key)
    if found is not None:
        return StageResult(found, reused=True)
    with observer.working():
        return StageResult(make(), reused=False)
