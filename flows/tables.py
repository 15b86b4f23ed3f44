"""What `plan`, `status`, `doctor`, `clean` and `reap` show."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flows.clean import Removed
from flows.console import near
from flows.disk import readable
from flows.doctor import Finding
from flows.follow import newest_training
from flows.gate_words import found as found_in_words
from flows.reaping import Reaped
from flows.standing import Standing
from pipeline.ledger import Artifact
from pipeline.training.plan_row import PlanRow
from pipeline.wording import grouped
from stages.gate_record import GateRecord

_LINE = "{:<29}{:>8}{:>11}{:>9}{:>11}{:>11}"
_MARKS = {"good": "✓", "careful": "!", "bad": "✗"}
_STATES = {"finished": "good", "running": "name", "failed": "bad", "stopped": "careful"}


def plan_table(rows: Sequence[PlanRow]) -> RenderableType:
    """What would run, what is there already, and what it costs."""
    names = ("updates", "targets", "disk", "teacher", "student")
    lines = [Text(_LINE.format("", *names).rstrip(), style="quiet")]
    title = ""
    for row in rows:
        head, part = _split(row.label)
        if head != title:
            lines.append(_heading(head, row))
        title = head
        if any(_counts(row)):
            style = "quiet" if row.state == "done" else "default"
            lines.append(Text(_LINE.format(f"    {part}", *_counts(row)).rstrip(), style=style))
    todo = [row for row in rows if row.state == "to do"]
    if len(todo) > 1:
        lines.append(Text(_LINE.format("\n  in all", *_counts(_sum(todo))), style="name"))
    verdict = f"\n{len(todo)} of {len(rows)} stages to do. " if todo else "\nAll done already. "
    note = "teacher, student: network evaluations of one sample."
    lines.append(Text(verdict, style="name").append(note, style="quiet"))
    return Group(*lines)


_PARTS = {"encode the data": "draw samples", "evaluate": "draw samples"}
"""What costs something in a stage that is no round, where it is not training."""


def _split(label: str) -> tuple[str, str]:
    """A round's title and the part of it: `round 1: 4 -> 2 steps`, `distil`."""
    head, separator, part = label.rpartition(", ")
    return (head, part) if separator else (label, _PARTS.get(label, "train"))


def _heading(title: str, row: PlanRow) -> Text:
    done = row.state == "done"
    head = Text("✓ " if done else "  ", style="good")
    head.append(title, style="quiet" if done else "name")
    return head.append(f"  {row.reason}", style="quiet")


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


def doctor_table(findings: Iterable[Finding]) -> RenderableType:
    """What was looked at, with a mark for each."""
    table = Table.grid(padding=(0, 2))
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        mark = Text(_MARKS[finding.verdict], style=finding.verdict)
        table.add_row(mark, Text(finding.topic, style="name"), Text(finding.text))
    return table


def clean_table(removed: Sequence[Removed]) -> RenderableType:
    """What was taken away."""
    total = sum(part.size for part in removed)
    parts = [
        f"{part.count} x {part.what} ({readable(part.size)})" for part in removed if part.count
    ]
    if not parts:
        return Text("Nothing to clean.")
    return Text(f"Removed {', '.join(parts)}; {readable(total)} in all.")


def reap_table(reaped: Sequence[Reaped]) -> RenderableType:
    """What was done about each run."""
    if not reaped:
        return Text("No runs below runs/; name one.")
    table = Table.grid(padding=(0, 2))
    for each in reaped:
        done = ", ".join(each.done) or ("" if each.left else "nothing to clear up")
        table.add_row(Text(near(each.run_dir), style="name"), Text(done))
        for reason in each.left:
            table.add_row("", Text(f"left: {reason}", style="careful"))
    return table


def _counts(row: PlanRow) -> list[str]:
    def shown(number: int) -> str:
        return grouped(number) if number else ""

    return [
        shown(row.updates),
        shown(row.tuples),
        readable(row.bytes) if row.bytes else "",
        shown(row.teacher_evaluations),
        shown(row.student_evaluations),
    ]


def _sum(rows: Sequence[PlanRow]) -> PlanRow:
    return PlanRow(
        label="",
        state="to do",
        reason="",
        updates=sum(row.updates for row in rows),
        tuples=sum(row.tuples for row in rows),
        bytes=sum(row.bytes for row in rows),
        teacher_evaluations=sum(row.teacher_evaluations for row in rows),
        student_evaluations=sum(row.student_evaluations for row in rows),
    )


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
