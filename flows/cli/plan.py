"""What `plan` shows of memory: parameters, and what a training worker needs in each ZeRO stage."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from flows.cli.console import open_console
from flows.cli.request import Request
from infra.deepspeed.memory_model import ZeroStage
from pipeline.ledger import check_format
from pipeline.wording import grouped, readable
from stages.plan.plan import PlanRow, describe
from stages.plan.sizes import Footprint, measure_footprint


def memory_table(footprint: Footprint) -> RenderableType:
    """Whether the networks fit, before anything is paid for."""
    who = "1 worker" if footprint.workers == 1 else f"each of {footprint.workers} workers"
    head = Text(f"Memory of {who} in training, {footprint.precision}", style="name")
    lines = [Text(""), head, *_networks(footprint)]
    lines += [_stage(footprint, stage) for stage in footprint.stages]
    lines.append(Text(f"  {_activations(footprint)}", style="quiet"))
    return Group(*lines)


def _networks(footprint: Footprint) -> list[Text]:
    same = footprint.teacher == footprint.student
    teacher = "the same" if same else grouped(footprint.teacher)
    text = f"  network {grouped(footprint.student)} parameters, teacher {teacher}"
    lines = [Text(text, style="default")]
    if footprint.components is not None:
        text = f"  text encoders and autoencoder {grouped(footprint.components)}, in no such worker"
        lines.append(Text(text, style="quiet"))
    if footprint.online:
        held = "a share of its" if footprint.split_teacher else "its"
        text = f"  targets.mode online: each worker holds {held} teacher too, in float32"
        lines.append(Text(text, style="quiet"))
    return lines


def _stage(footprint: Footprint, stage: ZeroStage) -> Text:
    size = footprint.stages[stage]
    chosen = stage == footprint.zero_stage
    said = "not in bfloat16" if size is None else readable(size)
    line = Text(f"  ZeRO {stage}  {said:>9}", style="name" if chosen else "default")
    return line.append("  this profile" if chosen else "", style="good")


def _activations(footprint: Footprint) -> str:
    if footprint.checkpointing:
        return "Activations come on top, few of them with engine.gradient_checkpointing."
    return "Activations come on top; engine.gradient_checkpointing: true lowers them."


def show_plan(request: Request) -> None:
    """Print what a run would do, what it costs, and what memory its workers need.

    Raises:
        ConfigError: see `stages.plan.plan.describe`; or the run directory is of another format.
        BundleError: the teacher that the recipe names is none.
    """
    recipe, profile = request.recipe, request.profile
    check_format(request.run_dir)
    rows = describe(recipe, profile, request.run_dir)
    footprint = measure_footprint(recipe, profile)
    console = open_console()
    console.print(plan_table(rows))
    console.print(memory_table(footprint))


_LINE = "{:<29}{:>8}{:>11}{:>9}{:>11}{:>11}"


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
