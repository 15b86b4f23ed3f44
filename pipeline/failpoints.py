"""Failpoints: named steps of commits at which tests kill or stop the process, or fail the disk.

`failpoint("publish.renamed")` does nothing by default. Failpoints are armed only by an environment
variable that is read on import, not by a recipe, a profile or an option:

    STEPFOLD_FAILPOINTS=publish.renamed=kill9@3,promote.registered=eio

Here the process is killed by SIGKILL when it reaches the first point for the third time, and gets a
disk error (EIO) when it reaches the second for the first time. The action `stop` halts the process
by SIGSTOP, as if it hung. Every process counts separately.
"""

import errno
import itertools
import os
import re
import signal
from collections.abc import Iterator

from pipeline.errors import ConfigError

VARIABLE = "STEPFOLD_FAILPOINTS"

POINTS = {
    "durable.synced": "a file is synced under its temporary name",
    "durable.replaced": "the file is renamed; its folder is not synced",
    "publish.written": "an artifact is written under its temporary name; nothing is synced",
    "publish.synced": "the artifact is synced under its temporary name",
    "publish.removed": "the previous artifact at its path is removed",
    "publish.renamed": "the artifact is renamed; its folder is not synced",
    "publish.unrecorded": "the folder is synced; the record is not written",
    "forget.unrecorded": "the record of an artifact is removed; its files still exist",
    "checkpoint.claimed": "a new attempt owns the round; no worker has started",
    "checkpoint.staged": "every rank has written its part of a checkpoint",
    "checkpoint.committed": "the checkpoint is committed; older ones still exist",
    "checkpoint.forgotten": "an older checkpoint is removed",
    "tar.closed": "the tar is complete; its index is not written",
    "encode.moved": "a part of the encoded data is moved out of the scratch folder",
    "samples.part": "a worker has drawn a part of a sample set",
    "model.created": "the registered model exists without a version",
    "promote.registered": "the student is registered as a version without an alias",
    "promote.named": "the version has its own alias; the alias `teacher` is not moved",
    "export.filled": "a pipeline directory is complete under its temporary name; not checked",
    "export.renamed": "the pipeline directory is renamed; its folder is not synced",
}
"""State at every failpoint."""


_FORM = re.compile(r"([a-z._]*)=(kill9|eio|stop)(?:@([1-9][0-9]*))?")

# by point: the action, the number of the call that triggers it, and the counter of calls
_armed: dict[str, tuple[str, int, Iterator[int]]] = {}


def failpoint(name: str) -> None:
    """Run the armed action of the point `name`; does nothing if it is not armed."""
    if name not in _armed:
        return
    action, time, reached = _armed[name]
    # next() on a counter is atomic, so no two threads get the same number
    if next(reached) != time:
        return
    os.write(2, f"failpoint {name}: {action} in process {os.getpid()}\n".encode())
    if action == "eio":
        raise OSError(errno.EIO, f"failpoint {name}")
    os.kill(os.getpid(), signal.SIGKILL if action == "kill9" else signal.SIGSTOP)


def arm(text: str) -> None:
    """Replace the armed failpoints of this process.

    Args:
        text: value of the environment variable; empty to disarm all.

    Raises:
        ConfigError: the text is malformed, or a point or an action is unknown.
    """
    _armed.clear()
    for part in filter(None, map(str.strip, text.split(","))):
        found = _FORM.fullmatch(part)
        if found is None:
            raise ConfigError(
                f"{VARIABLE}: {part!r} is not valid; use POINT=ACTION or POINT=ACTION@NUMBER, with "
                "the action kill9, eio or stop and a number of at least 1"
            )
        name, action, time = found.groups(default="1")
        if name not in POINTS:
            raise ConfigError(
                f"{VARIABLE}: unknown failpoint {name!r}; see POINTS in pipeline/failpoints.py"
            )
        _armed[name] = (action, int(time), itertools.count(1))


arm(os.environ.get(VARIABLE, ""))
