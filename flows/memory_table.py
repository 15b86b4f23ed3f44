"""What `plan` shows of memory: parameters, and what a training worker needs in each ZeRO stage."""

from rich.console import Group, RenderableType
from rich.text import Text

from flows.disk import readable
from infra.zero_memory import ZeroStage
from pipeline.wording import grouped
from stages.footprint import Footprint


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
