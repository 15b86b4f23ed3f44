"""Which work is killed at which failpoint. `test_failpoints.py` compares it with the source."""

from dataclasses import dataclass
from typing import Any, Literal

ANYWHERE = ("durable.synced", "durable.replaced")
PUBLISHED = (
    "publish.written",
    "publish.synced",
    "publish.removed",
    "publish.renamed",
    "publish.unrecorded",
)

KILLED_IN_PROCESS = {
    "write": ANYWHERE,
    "publish": (*ANYWHERE, *PUBLISHED, "forget.unrecorded"),
    "take over": ANYWHERE,
    "shard": ("tar.closed", *PUBLISHED),
    "ask": ("tar.closed",),
    "train": (
        *ANYWHERE,
        *PUBLISHED,
        "forget.unrecorded",
        "checkpoint.claimed",
        "checkpoint.staged",
        "checkpoint.committed",
        "checkpoint.forgotten",
    ),
    "promote": ("model.created", "promote.registered", "promote.named", "forget.unrecorded"),
    "gate": (*ANYWHERE, *PUBLISHED),
    "sample": (*ANYWHERE, "samples.part"),
    "encode": ("tar.closed", "encode.moved"),
    "export": ("export.filled", "export.renamed"),
}
"""By workload of `workloads.py`; each kill is of a forked process and takes a moment."""

QUICK = ("write", "publish", "take over")
"""Workloads that take no time: these are killed in every way in every run of the tests."""


@dataclass(frozen=True)
class ChainKill:
    """A process of a whole chain, killed in a stage.

    Attributes:
        stage: see `STAGES`.
        point: the failpoint.
        time: which time the process reaches it. Workers are killed late, so that
            the ones that take their place do not come so far again.
        who: the driver, which ends the run, or a worker, which the driver replaces.
        extra: options of the chain.
    """

    stage: str
    point: str
    time: int = 1
    who: Literal["driver", "worker"] = "driver"
    extra: tuple[str, ...] = ()


STAGES = {
    "data": "data",
    "teacher": "teacher",
    "targets": "rounds/01-2-to-1/targets",
    "train": "rounds/01-2-to-1/train",
    "promote": "rounds/00-guidance/promote",
    "evaluate": "evaluate",
}
"""The identities of the steps of a chain that are killed in."""

NO_CHECKPOINTS = ("--set", "engine.checkpoint_every=100")


def _kills(stage: str, points: tuple[str, ...], *how: Any, **more: Any) -> list[ChainKill]:
    return [ChainKill(stage, point, *how, **more) for point in points]


KILLED_IN_A_CHAIN = [
    *_kills("data", (*ANYWHERE, *PUBLISHED, "tar.closed")),
    *_kills("teacher", (*ANYWHERE, *PUBLISHED)),
    *_kills("targets", (*ANYWHERE, *PUBLISHED, "tar.closed"), 4, "worker"),
    *_kills("train", ANYWHERE, 3),  # two before it: what the targets took, in two files
    ChainKill("train", "checkpoint.claimed"),
    *_kills("train", PUBLISHED, extra=NO_CHECKPOINTS),
    *_kills("train", ANYWHERE, 3, "worker"),
    *_kills("train", (*PUBLISHED, "checkpoint.staged", "checkpoint.committed"), 2, "worker"),
    *_kills("train", ("forget.unrecorded", "checkpoint.forgotten"), 1, "worker"),
    *_kills("promote", (*ANYWHERE, *PUBLISHED, "model.created", "promote.registered")),
    *_kills("promote", ("promote.named",)),
    ChainKill("evaluate", "samples.part", 4, "worker"),
    *_kills("evaluate", PUBLISHED, 3),  # a set of samples
    *_kills("evaluate", PUBLISHED, 8),  # the report
    *_kills("evaluate", ANYWHERE, 7),
]
"""Each takes a minute or so: a part of `make faults`."""
