"""`stepfold status`: the state of a run and of each of its stages."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flows.cli.console import open_console
from flows.cli.options import RunDirOption, RunsProfile
from pipeline.wording import format_bytes, format_integer, format_path

if TYPE_CHECKING:
    from pipeline.run_dir.gate_history import GateRecord
    from pipeline.run_dir.run_status import RunStatus
    from stages.chain import StageState

_STATES = {"finished": "good", "running": "name", "failed": "bad", "stopped": "careful"}


def status(run_dir: RunDirOption = None, profile: RunsProfile = None) -> None:
    """Show the state of a run: finished stages, the stage in progress, gate results, failure."""
    from flows.cli.request import find_run
    from pipeline.run_dir.run_status import read_status

    place = find_run(run_dir, profile)
    open_console().print(status_table(place, read_status(place)), soft_wrap=True)


def status_table(run_dir: Path, standing: "RunStatus") -> RenderableType:
    """Return what `stepfold status` prints of a run."""
    from pipeline.run_dir.monitor import latest_training
    from stages.chain import recorded_states
    from stages.workspace import Workspace

    head = Text(standing.recipe.run.name, style="name")
    head.append("  ").append(standing.state, style=_STATES[standing.state])
    head.append(f"{_holder(standing)}  in {format_path(run_dir)}\n", style="quiet")
    table = Table.grid(padding=(0, 2))
    running = standing.last.stage if standing.last and standing.state == "running" else ""
    for stage in recorded_states(Workspace(run_dir, standing.recipe)):
        table.add_row(*_stage(stage, is_running=stage.step.id == running))
    parts: list[RenderableType] = [head, table]
    training = latest_training(run_dir)
    if training and standing.state != "finished":
        numbers = f"update {format_integer(training.update)} of {format_integer(training.total)}"
        parts.append(Text(f"\nLast loss {training.loss:.4g} at {numbers}.", style="default"))
    if standing.gate:
        parts.append(_gate(standing.gate))
    if standing.message:
        parts.append(Text("\nFailed   ", style="bad").append(standing.message, style="default"))
    return Group(*parts)


def _gate(records: "Sequence[GateRecord]") -> RenderableType:
    """Return one row per judged student: the verdict, and the manual decision."""
    from flows.gate_wording import verdict_text

    table = Table.grid(padding=(0, 2))
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for record in records:
        accepted, answer, verdict = record.is_accepted, record.answer, record.verdict
        mark = Text("✓" if accepted else "✗", style="good" if accepted else "bad")
        decision = "" if answer is None else f"; {'approved' if answer else 'rejected'} by a person"
        table.add_row(
            mark, Text(verdict.title), Text(verdict_text(verdict) + decision, style="quiet")
        )
    return Group(Text("\nQuality gate", style="name"), table)


def _holder(standing: "RunStatus") -> str:
    holder = standing.holder
    if holder is None:
        return ""
    if holder.is_alive is False:
        return f", left by process {holder.pid}, which has ended"
    return f", process {holder.pid} on {holder.host}"


def _stage(stage: "StageState", *, is_running: bool) -> list[Text]:
    title = stage.step.title
    if is_running:
        return [Text("→", style="name"), Text(title), Text("running")]
    if stage.done:
        size = format_bytes(stage.size) if stage.size else ""
        return [Text("✓", style="good"), Text(title), Text(size, style="quiet")]
    return [Text("·", style="quiet"), Text(title, style="quiet"), Text("")]
