"""Ask a person whether a student that failed the gate is good enough: a pause of the flow run.

The question can be answered where there is a Prefect server that people can reach. The server that
lives as long as a run has no page, so nobody is asked there and the run stops.
"""

import base64
import logging
from pathlib import Path

from prefect import pause_flow_run
from prefect.artifacts import create_markdown_artifact
from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput
from prefect.settings import get_current_settings

from flows.gate_words import found
from flows.run import Run
from pipeline.training.attempts import Judged

_LOOK_EVERY_S = 5

_log = logging.getLogger(__name__)


class Answer(RunInput):
    """What the form asks: whether the student may become the next round's teacher."""

    accept: bool = False


def ask_person(run: Run, judged: Judged) -> bool | str:
    """Show pictures and numbers, pause the flow run, wait: the answer, or why there is none.

    Call within a flow.
    """
    if not get_current_settings().api.url:
        return (
            "Nobody could be asked: the run's own Prefect server has no page; start one with "
            "prefect server start and set PREFECT_API_URL"
        )
    gate = run.recipe.gate
    hours = gate.ask_hours if gate else 0.0
    show(run, judged)
    question = f"{found(judged.verdict)}; is it good enough? Answer in Prefect within {hours:g} h"
    run.events.emit("asked", label=judged.plan.title, message=question)
    form = Answer.with_initial_data(description=_form(judged), accept=False)
    try:
        said = pause_flow_run(
            wait_for_input=form,
            timeout=max(1, round(hours * 3600)),
            poll_interval=_LOOK_EVERY_S,
            key=judged.record.fingerprint[:32],
        )
    except FlowPauseTimeout:
        return f"Nobody answered within {hours:g} h"
    _log.info("%s: a person said %s", judged.plan.title, "yes" if said.accept else "no")
    return bool(said.accept)


def show(run: Run, judged: Judged) -> None:
    """Numbers and pictures of a verdict as an artifact of the flow run."""
    name = judged.plan.folder.replace("/", "-").lower()
    create_markdown_artifact(
        markdown=_page(run.run_dir / judged.record.path, judged),
        key=f"gate-{name}",
        description=f"{judged.plan.title}: teacher and student side by side",
    )


def _form(judged: Judged) -> str:
    return (
        f"**{judged.plan.title}**: the student {found(judged.verdict)}.\n\nIts pictures are in the "
        "artifact of this flow run. Accept it, and it becomes the next round's teacher; else the "
        "recipe's next remedy follows, or the run stops."
    )


def _page(folder: Path, judged: Judged) -> str:
    lines = [f"# {judged.plan.title}", f"The student {found(judged.verdict)}.", ""]
    lines += ["| w | check | found | bound |", "|--:|---|--:|---|"]
    for at in judged.verdict.found:
        for check in at.checks:
            bounds = [f"at least {check.least:g}"] if check.least is not None else []
            bounds += [f"at most {check.most:g}"] if check.most is not None else []
            failed = "" if check.passed else "**"
            lines.append(
                f"| {at.w:g} | {check.name} | {failed}{check.value:.3g}{failed} | "
                f"{', '.join(bounds) or 'off'} |"
            )
    lines += [_picture(folder / name) for name in judged.verdict.pictures]
    return "\n".join(lines)


def _picture(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f"\n![{path.stem}](data:image/png;base64,{data})"
