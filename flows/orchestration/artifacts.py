"""What a run shows on its pages in Prefect: how far a stage is, each round's result, links.

They are for people who watch. No work waits for them or fails because one could not be made.
"""

import base64
import contextvars
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from flows.run import Run
from flows.tracking.mlflow_links import history_page
from flows.tracking.rounds import training_label
from pipeline.run_dir.monitor import newest_training
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan
from pipeline.wording import duration
from stages.rounds.preview_images import Picture, sampling_steps

_EVERY_S = 5.0  # between two words about one stage
_LOOK_S = 2.0
_SILENT_S = 60.0  # after a failure

_log = logging.getLogger(__name__)


class _Silence:
    until = 0.0


_silence = _Silence()


class Progress:
    """A bar on the page of the task that it is made in.

    Args:
        label: what goes on.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._id: UUID | None = None
        self._said = -_EVERY_S

    def tell(self, done: int, total: int) -> None:
        """So much is done of so much."""
        now = time.monotonic()
        if total <= 0 or (now - self._said < _EVERY_S and done < total):
            return
        self._said = now
        _shown(lambda: self._show(100.0 * done / total))

    def _show(self, percent: float) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        if self._id is None:
            made: Any = create_progress_artifact(percent, description=self._label)
            self._id = made
        else:
            update_progress_artifact(self._id, percent)


@contextmanager
def training_shown(run: Run, label: str) -> Iterator[None]:
    """Have a bar follow a round's updates for the block."""
    progress = Progress(label)
    since, done = time.time(), threading.Event()

    def look() -> None:
        training = newest_training(run.run_dir, since)
        if training:
            progress.tell(training.update, training.total)

    def follow() -> None:
        while not done.wait(_LOOK_S):
            look()
        look()

    # the bar belongs to the task, which Prefect finds in the context
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(follow,), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(3 * _LOOK_S)


def show_links(run: Run) -> None:
    """Link from the flow run to the run in MLflow."""
    from prefect.artifacts import create_link_artifact

    page = history_page(run.profile, run.run_dir)
    text = f"MLflow: charts of {run.recipe.run.name}"
    if not run.profile.tracking.address:
        text += f" (while `stepfold ui --run-dir {run.path}` runs)"
    _shown(lambda: create_link_artifact(page, text, key=_key(run, "mlflow"), description=text))


def show_round(run: Run, plan: RoundPlan, pictures: list[Picture]) -> None:
    """A round's numbers and pictures on its own page; the table of all rounds on the chain's."""
    from prefect.artifacts import create_markdown_artifact

    text = _markdown(run, plan, pictures)
    key = _key(run, "teacher" if plan.index == TEACHER_ROUND else f"round-{plan.index}")
    _shown(lambda: create_markdown_artifact(text, key=key, description=plan.title))
    if plan.index != TEACHER_ROUND:
        _shown(lambda: _add_to_table(run, plan, pictures))


def _markdown(run: Run, plan: RoundPlan, pictures: list[Picture]) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in _facts(run, plan, pictures).items())
    parts = [f"## {plan.title}", "", "| | |", "|---|---|", rows, ""]
    for picture in pictures:
        if picture.path is not None:
            data = base64.b64encode(picture.path.read_bytes()).decode()
            parts.append(f"![samples at w = {picture.w:g}](data:image/png;base64,{data})\n")
    page = history_page(run.profile, run.run_dir)
    return "\n".join([*parts, f"[Charts in MLflow]({page})"])


def _facts(run: Run, plan: RoundPlan, pictures: list[Picture]) -> dict[str, str]:
    """What a row or a table says of a round."""
    facts = {
        "sampling steps": str(sampling_steps(run.recipe, plan)),
        "updates": str(plan.training.updates),
    }
    training = newest_training(run.run_dir)
    if training:
        facts["last loss"] = f"{training.loss:.4g}"
    seconds = run.timing.stages().get(training_label(plan))
    if seconds is not None:
        facts["training took"] = duration(seconds)
    for each in pictures:
        if each.rms is not None:
            facts[f"RMS to the teacher, w = {each.w:g}"] = f"{each.rms:.3f} ({each.num} samples)"
    return facts


def _add_to_table(run: Run, plan: RoundPlan, pictures: list[Picture]) -> None:
    """Write the table of the chain again, one row longer: on the page of the chain's flow run."""
    from prefect.artifacts import Artifact
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import ArtifactCreate
    from prefect.runtime import flow_run

    chain = flow_run.parent_flow_run_id or flow_run.id
    if chain is None:
        return
    key = _key(run, "rounds")
    before: Any = Artifact.get(key)
    is_ours = before is not None and str(before.flow_run_id) == str(chain)
    rows = json.loads(before.data) if is_ours else []
    rows = [row for row in rows if row["round"] != plan.title]
    rows.append({"round": plan.title, **_facts(run, plan, pictures)})
    with get_client(sync_client=True) as client:
        client.create_artifact(
            ArtifactCreate(
                key=key,
                type="table",
                description=f"{run.recipe.run.name}: rounds so far",
                data=json.dumps(rows),
                flow_run_id=UUID(str(chain)),
            )
        )


def _key(run: Run, what: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", run.recipe.run.name.lower()).strip("-")
    return f"{name}-{what}"


def _shown(show: Callable[[], object]) -> None:
    if time.monotonic() < _silence.until:
        return
    try:
        show()
    except Exception as error:  # such as a server that went away, which costs seconds to find out
        _silence.until = time.monotonic() + _SILENT_S
        _log.warning("not shown in Prefect: %s", type(error).__name__)
        _log.debug("not shown in Prefect", exc_info=error)
