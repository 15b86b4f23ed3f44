"""`stepfold status`: the state of a run and of its stages."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flows.gate_wording import found as found_in_words
from pipeline.ledger import Artifact
from pipeline.run_dir.gate_history import GateRecord
from pipeline.run_dir.monitor import newest_training
from pipeline.run_dir.run_status import Standing
from pipeline.wording import grouped, near, readable

_STATES = {"finished": "good", "running": "name", "failed": "bad", "stopped": "careful"}


def status_table(run_dir: Path, standing: Standing) -> RenderableType:
    """Where a run stands."""
    head = Text(standing.recipe.run.name, style="name")
    head.append("  ").append(standing.state, style=_STATES[standing.state])
    head.append(f"{_holder(standing)}  in {near(run_dir)}\n", style="quiet")
    table = Table.grid(padding=(0, 2))
    running = standing.last.label if standing.last and standing.state == "running" else ""
    for label, artifact in standing.stages:
        table.add_row(*_stage(label, artifact, running))
    parts: list[RenderableType] = [head, table]
    training = newest_training(run_dir)
    if training and standing.state != "finished":
        numbers = f"update {grouped(training.update)} of {grouped(training.total)}"
        parts.append(Text(f"\nLast loss {training.loss:.4g} at {numbers}.", style="default"))
    if standing.gate:
        parts.append(_gate(standing.gate))
    if standing.message:
        parts.append(Text("\nFailed   ", style="bad").append(standing.message, style="default"))
    return Group(*parts)


def _gate(found: Sequence[GateRecord]) -> RenderableType:
    """What the gate said of each student, and what a person said of that."""
    table = Table.grid(padding=(0, 2))
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for record in found:
        ok, answer, verdict = record.is_accepted, record.answer, record.verdict
        mark = Text("✓" if ok else "✗", style="good" if ok else "bad")
        said = "" if answer is None else f"; a person said {'yes' if answer else 'no'}"
        words = found_in_words(verdict) + said
        table.add_row(mark, Text(verdict.title), Text(words, style="quiet"))
    return Group(Text("\nThe gate", style="name"), table)


def _holder(standing: Standing) -> str:
    holder = standing.holder
    if holder is None:
        return ""
    if holder.is_alive is False:
        return f", left by process {holder.pid}, which is gone"
    return f", process {holder.pid} on {holder.host}"


def _stage(label: str, artifact: Artifact | None, running: str) -> list[Text]:
    if artifact:
        size = readable(sum(file.size for file in artifact.files.values()))
        return [Text("✓", style="good"), Text(label), Text(size, style="quiet")]
    if running.startswith(label):
        doing = running.removeprefix(label).removeprefix(", ") or "running"
        return [Text("→", style="name"), Text(label), Text(doing)]
    return [Text("·", style="quiet"), Text(label, style="quiet"), Text("")]
