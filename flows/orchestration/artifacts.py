"""Prefect artifacts of a run: progress bars, results of rounds, and links.

They are for display only: an artifact that cannot be written neither delays nor fails a run.
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
from infra.tracking import charts_url
from pipeline.run_dir.monitor import latest_training
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan
from pipeline.wording import format_duration
from stages.chain import train_step
from stages.rounds.preview_images import PreviewImage

_UPDATE_EVERY_S = 5.0
_POLL_EVERY_S = 2.0
_PAUSE_S = 60.0  # without attempts after a failure

_log = logging.getLogger(__name__)


class _Pause:
    until = 0.0


_pause = _Pause()


class ProgressBar:
    """A progress bar on the page of the current task run.

    Args:
        label: description of the bar.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._id: UUID | None = None
        self._updated = -_UPDATE_EVERY_S

    def update(self, done: int, total: int) -> None:
        """Set the progress; calls in quick succession are skipped."""
        now = time.monotonic()
        if total <= 0 or (now - self._updated < _UPDATE_EVERY_S and done < total):
            return
        self._updated = now
        _try(lambda: self._publish(100.0 * done / total))

    def _publish(self, percent: float) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        if self._id is None:
            created: Any = create_progress_artifact(percent, description=self._label)
            self._id = created
        else:
            update_progress_artifact(self._id, percent)


@contextmanager
def training_progress(run: Run, label: str) -> Iterator[None]:
    """Show the updates of a training round as a progress bar while the block runs."""
    bar = ProgressBar(label)
    since, done = time.time(), threading.Event()

    def poll() -> None:
        training = latest_training(run.run_dir, since)
        if training:
            bar.update(training.update, training.total)

    def follow() -> None:
        while not done.wait(_POLL_EVERY_S):
            poll()
        poll()

    # Prefect reads the current task run, to which the bar belongs, from the context
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(follow,), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(3 * _POLL_EVERY_S)


def show_links(run: Run) -> None:
    """Publish a link from the flow run to the run in the tracker, if there is one."""
    from prefect.artifacts import create_link_artifact

    tracking = run.profile.tracking
    page = charts_url(tracking, run.run_dir)
    if page is None:
        return
    text = f"{tracking.title}: charts of {run.recipe.run.name}"
    if not tracking.address:
        text += f" (while `stepfold ui --run-dir {run.path}` runs)"
    key = _key(run, tracking.kind)
    _try(lambda: create_link_artifact(page, text, key=key, description=text))


def show_round(run: Run, plan: RoundPlan, pictures: list[PreviewImage]) -> None:
    """Publish values and previews of a round on its page, and all rounds on the chain's page."""
    from prefect.artifacts import create_markdown_artifact

    text = _markdown(run, plan, pictures)
    key = _key(run, "teacher" if plan.index == TEACHER_ROUND else f"round-{plan.index}")
    _try(lambda: create_markdown_artifact(text, key=key, description=plan.title))
    if plan.index != TEACHER_ROUND:
        _try(lambda: _add_to_table(run, plan, pictures))


def _markdown(run: Run, plan: RoundPlan, pictures: list[PreviewImage]) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in _facts(run, plan, pictures).items())
    parts = [f"## {plan.title}", "", "| | |", "|---|---|", rows, ""]
    for picture in pictures:
        if picture.path is not None:
            data = base64.b64encode(picture.path.read_bytes()).decode()
            parts.append(f"![samples at w = {picture.w:g}](data:image/png;base64,{data})\n")
    page = charts_url(run.profile.tracking, run.run_dir)
    link = [f"[Charts in {run.profile.tracking.title}]({page})"] if page else []
    return "\n".join([*parts, *link])


def _facts(run: Run, plan: RoundPlan, pictures: list[PreviewImage]) -> dict[str, str]:
    """Return the displayed values of a round by name."""
    facts = {
        "sampling steps": str(plan.sampling_steps),
        "updates": str(plan.training.updates),
    }
    training = latest_training(run.run_dir)
    if training:
        facts["last loss"] = f"{training.loss:.4g}"
    seconds = run.timing.seconds().get(train_step(plan).id)
    if seconds is not None:
        facts["training time"] = format_duration(seconds)
    for each in pictures:
        if each.rms is not None:
            facts[f"RMS to the teacher, w = {each.w:g}"] = f"{each.rms:.3f} ({each.num} samples)"
    return facts


def _add_to_table(run: Run, plan: RoundPlan, pictures: list[PreviewImage]) -> None:
    """Add a round to the table of rounds on the page of the chain's flow run."""
    from prefect.artifacts import Artifact
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import ArtifactCreate
    from prefect.runtime import flow_run

    chain = flow_run.parent_flow_run_id or flow_run.id
    if chain is None:
        return
    key = _key(run, "rounds")
    old: Any = Artifact.get(key)
    is_same_run = old is not None and str(old.flow_run_id) == str(chain)
    rows = json.loads(old.data) if is_same_run else []
    rows = [row for row in rows if row["round"] != plan.title]
    rows.append({"round": plan.title, **_facts(run, plan, pictures)})
    with get_client(sync_client=True) as client:
        client.create_artifact(
            ArtifactCreate(
                key=key,
                type="table",
                description=f"{run.recipe.run.name}: finished rounds",
                data=json.dumps(rows),
                flow_run_id=UUID(str(chain)),
            )
        )


def _key(run: Run, suffix: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", run.recipe.run.name.lower()).strip("-")
    return f"{name}-{suffix}"


def _try(publish: Callable[[], object]) -> None:
    """Publish an artifact; after a failure, skip artifacts for a while."""
    if time.monotonic() < _pause.until:
        return
    try:
        publish()
    except Exception as error:  # an unreachable server costs several seconds per attempt
        _pause.until = time.monotonic() + _PAUSE_S
        _log.warning("could not publish Prefect artifact: %s", type(error).__name__)
        _log.debug("could not publish Prefect artifact", exc_info=error)
