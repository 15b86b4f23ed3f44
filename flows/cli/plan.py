"""`stepfold plan`: the stages of a run, their costs, and the memory that training needs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from rich.console import Group, RenderableType
from rich.text import Text
from typer import Option

from flows.cli.console import open_console
from flows.cli.options import ComputeProfile, NewRunDir, Overrides, RecipeFile
from pipeline.wording import format_bytes, format_integer

if TYPE_CHECKING:
    from infra.deepspeed.memory_model import ZeroStage
    from stages.chain import Step
    from stages.plan.plan import PlanRow
    from stages.plan.sizes import Footprint


def plan(
    recipe: RecipeFile,
    profile: ComputeProfile = None,
    run_dir: NewRunDir = None,
    overrides: Overrides = None,
    expand: Annotated[
        bool, Option("--expand", help="Print the recipe with its rounds written out, and exit.")
    ] = False,
) -> None:
    """Show the stages of a run: which are done, what the rest costs, and the memory it needs.

    Nothing is created. Example: stepfold plan my-model.yaml --profile gpu.yaml
    """
    from flows.cli.request import read_request
    from pipeline.documents import dump_yaml
    from pipeline.ledger import check_format
    from stages.plan.plan import plan_notes, plan_run
    from stages.plan.sizes import measure_footprint
    from stages.workspace import Workspace

    request = read_request(recipe, profile, run_dir, overrides or [])
    if expand:
        expanded = request.recipe.with_rounds()
        tree = expanded.model_dump(mode="json", exclude_defaults=True)
        open_console().print(dump_yaml(tree), soft_wrap=True, highlight=False, end="")
        return
    check_format(request.run_dir)
    work = Workspace(request.run_dir, request.recipe, request.profile)
    rows = plan_run(work)
    notes = plan_notes(work, rows)
    footprint = measure_footprint(request.recipe, request.profile)
    console = open_console()
    console.print(plan_table(rows))
    console.print(memory_table(footprint))
    for note in notes:
        console.print(Text(f"\nData: {note}", style="careful"), soft_wrap=True)


_LINE = "{:<29}{:>8}{:>11}{:>9}{:>11}{:>11}"

_SAMPLING = ("encode", "evaluate")
"""Stages outside of rounds that sample; the others train."""


def plan_table(rows: "Sequence[PlanRow]") -> RenderableType:
    """Return the stages with their state and cost."""
    names = ("updates", "targets", "disk", "teacher", "student")
    lines = [Text(_LINE.format("", *names).rstrip(), style="quiet")]
    title = ""
    for row in rows:
        head, part = _split(row.step)
        if head != title:
            lines.append(_heading(head, row))
        title = head
        if any(_costs(row)):
            style = "quiet" if row.state == "done" else "default"
            lines.append(Text(_LINE.format(f"    {part}", *_costs(row)).rstrip(), style=style))
    todo = [row for row in rows if row.state == "to do"]
    if len(todo) > 1:
        lines.append(Text(_LINE.format("\n  total", *_costs(_total(todo))), style="name"))
    verdict = f"\n{len(todo)} of {len(rows)} stages to do. " if todo else "\nAll stages are done. "
    note = "teacher, student: network evaluations of single samples."
    lines.append(Text(verdict, style="name").append(note, style="quiet"))
    return Group(*lines)


def _split(step: "Step") -> tuple[str, str]:
    """Return the title of a step's round, and its part; of other steps, the title and the cost."""
    if step.plan is not None and step.title != step.part:
        return step.plan.title, step.part
    return step.title, "sample" if step.stage in _SAMPLING else "train"


def _heading(title: str, row: "PlanRow") -> Text:
    done = row.state == "done"
    head = Text("✓ " if done else "  ", style="good")
    head.append(title, style="quiet" if done else "name")
    return head.append(f"  {row.reason}", style="quiet")


def _costs(row: "PlanRow") -> list[str]:
    def shown(number: int) -> str:
        return format_integer(number) if number else ""

    return [
        shown(row.updates),
        shown(row.tuples),
        format_bytes(row.bytes) if row.bytes else "",
        shown(row.teacher_evaluations),
        shown(row.student_evaluations),
    ]


def _total(rows: "Sequence[PlanRow]") -> "PlanRow":
    return replace(
        rows[0],
        updates=sum(row.updates for row in rows),
        tuples=sum(row.tuples for row in rows),
        bytes=sum(row.bytes for row in rows),
        teacher_evaluations=sum(row.teacher_evaluations for row in rows),
        student_evaluations=sum(row.student_evaluations for row in rows),
    )


def memory_table(footprint: "Footprint") -> RenderableType:
    """Return the sizes of the networks, and the memory of a worker in each ZeRO stage."""
    workers = footprint.workers
    each = "per worker" if workers == 1 else f"per worker ({workers} workers)"
    head = Text(f"Training memory {each}, {footprint.precision}", style="name")
    lines = [Text(""), head, *_networks(footprint)]
    lines += [_stage(footprint, stage) for stage in footprint.stages]
    lines.append(Text(f"  {_activations(footprint)}", style="quiet"))
    return Group(*lines)


def _networks(footprint: "Footprint") -> list[Text]:
    same = footprint.teacher == footprint.student
    teacher = "the same" if same else format_integer(footprint.teacher)
    text = f"  student {format_integer(footprint.student)} parameters, teacher {teacher}"
    lines = [Text(text, style="default")]
    if footprint.components is not None:
        count = format_integer(footprint.components)
        text = f"  text encoders and autoencoder {count}, not in training"
        lines.append(Text(text, style="quiet"))
    if footprint.online:
        held = "a share of the" if footprint.split_teacher else "the"
        text = f"  targets.mode online: each worker also holds {held} teacher, in float32"
        lines.append(Text(text, style="quiet"))
    return lines


def _stage(footprint: "Footprint", stage: "ZeroStage") -> Text:
    size = footprint.stages[stage]
    chosen = stage == footprint.zero_stage
    shown = "not in bfloat16" if size is None else format_bytes(size)
    line = Text(f"  ZeRO {stage}  {shown:>9}", style="name" if chosen else "default")
    return line.append("  this profile" if chosen else "", style="good")


def _activations(footprint: "Footprint") -> str:
    if footprint.checkpointing:
        return "Plus activations, reduced by engine.gradient_checkpointing."
    return "Plus activations; engine.gradient_checkpointing: true reduces them."
