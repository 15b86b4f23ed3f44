"""`stepfold plan`: stages, costs, and memory in human units within 80 columns."""

import io
from pathlib import Path

import pytest

from flows.cli.console import open_console
from flows.cli.plan import memory_table
from stages.plan.sizes import Footprint
from tests.support.terminal import GAUSSIAN, invoke, snapshot

SDXL = Footprint(
    teacher=2_567_463_684,
    student=2_567_545_604,
    components=901_000_000,
    workers=8,
    precision="bfloat16",
    zero_stage=2,
    online=False,
    split_teacher=False,
    checkpointing=False,
    stages={0: None, 1: 15_121_000_000, 2: 11_628_000_000, 3: 9_135_000_000},
)


def shown(footprint: Footprint) -> list[str]:
    file = io.StringIO()
    open_console(file=file, width=80, color_system=None).print(memory_table(footprint))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_memory_lists_network_sizes_and_every_zero_stage() -> None:
    assert shown(SDXL) == [
        "",
        "Training memory per worker (8 workers), bfloat16",
        "  student 2 567 545 604 parameters, teacher 2 567 463 684",
        "  text encoders and autoencoder 901 000 000, not in training",
        "  ZeRO 0  not in bfloat16",
        "  ZeRO 1      15 GB",
        "  ZeRO 2      12 GB  this profile",
        "  ZeRO 3     9.1 GB",
        "  Plus activations; engine.gradient_checkpointing: true reduces them.",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"workers": 1}, "Training memory per worker, bfloat16"),
        ({"teacher": SDXL.student}, "  student 2 567 545 604 parameters, teacher the same"),
        ({"online": True}, "  targets.mode online: each worker also holds the teacher, in float32"),
        (
            {"online": True, "split_teacher": True},
            "  targets.mode online: each worker also holds a share of the teacher, in float32",
        ),
        (
            {"checkpointing": True},
            "  Plus activations, reduced by engine.gradient_checkpointing.",
        ),
    ],
)
def test_memory_depends_on_the_engine_and_the_targets(
    changes: dict[str, object], line: str
) -> None:
    assert line in shown(SDXL.model_copy(update=changes))


def test_the_plan_lists_stages_and_memory_and_creates_nothing(workplace: Path) -> None:
    code, output = invoke("plan", str(GAUSSIAN), "--set", "engine.zero_stage=3")
    assert code == 0
    assert "student 225 parameters, teacher 0" in output
    assert "5.0 kB this profile" in output
    assert "round 2: 2 -> 1 steps" in output
    assert "1 800" in output  # updates of three rounds
    assert "9 of 9 stages to do" in output
    assert snapshot(workplace) == {}
