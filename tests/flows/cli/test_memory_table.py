"""What `plan` says of memory: short, in human units, within 80 columns."""

import io

import pytest

from flows.cli.console import open_console
from flows.cli.plan import memory_table
from stages.plan.sizes import Footprint
from tests.support.terminal import GAUSSIAN, invoke

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


def test_the_block_says_how_large_networks_are_and_what_each_stage_needs() -> None:
    assert shown(SDXL) == [
        "",
        "Memory of each of 8 workers in training, bfloat16",
        "  network 2 567 545 604 parameters, teacher 2 567 463 684",
        "  text encoders and autoencoder 901 000 000, in no such worker",
        "  ZeRO 0  not in bfloat16",
        "  ZeRO 1      15 GB",
        "  ZeRO 2      12 GB  this profile",
        "  ZeRO 3     9.1 GB",
        "  Activations come on top; engine.gradient_checkpointing: true lowers them.",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"workers": 1}, "Memory of 1 worker in training, bfloat16"),
        ({"teacher": SDXL.student}, "  network 2 567 545 604 parameters, teacher the same"),
        ({"online": True}, "  targets.mode online: each worker holds its teacher too, in float32"),
        (
            {"online": True, "split_teacher": True},
            "  targets.mode online: each worker holds a share of its teacher too, in float32",
        ),
        (
            {"checkpointing": True},
            "  Activations come on top, few of them with engine.gradient_checkpointing.",
        ),
    ],
)
def test_the_block_says_what_is_particular(changes: dict[str, object], line: str) -> None:
    assert line in shown(SDXL.model_copy(update=changes))


def test_the_plan_ends_with_it() -> None:
    code, output = invoke("plan", str(GAUSSIAN), "--set", "engine.zero_stage=3")
    assert code == 0
    assert "network 225 parameters, teacher 0" in output
    assert "5.0 kB this profile" in output
