"""Which work is killed at which failpoint. `test_failpoints.py` holds it to the source."""

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
    "take over": (*ANYWHERE, "recipe.kept"),
    "shard": ("tar.member", "tar.closed", "shards.written", *PUBLISHED),
    "ask": ("tar.member", "tar.closed"),
    "train": (
        *ANYWHERE,
        *PUBLISHED,
        "forget.unrecorded",
        "checkpoint.claimed",
        "checkpoint.staged",
        "checkpoint.committed",
        "checkpoint.forgotten",
        "metrics.logged",
        "train.handed_in",
    ),
    "promote": (
        "model.created",
        "promote.registered",
        "promote.named",
        "promote.aliased",
        "forget.unrecorded",
        "promote.dropped",
    ),
    "sample": (*ANYWHERE, "samples.part"),
    "encode": ("encode.null", "tar.member", "tar.closed", "encode.moved", "encode.committed"),
    "export": ("export.filled", "export.synced", "export.renamed"),
}
"""By workload of `workloads.py`; each kill is of a forked process and takes a moment."""

QUICK = ("write", "publish", "take over")
"""Workloads that take no time: these are killed in every way in every run of the tests."""

KILLED_IN_A_CHAIN: dict[str, tuple[str, ...]] = {
    "evaluate": ("samples.committed",),
    "round 0: learn guidance, distil": ("distill.committed",),
}
