"""Named places where a test ends the process or fails the disk: one at every step of a commit.

`failpoint("publish.renamed")` does nothing unless the environment says otherwise when this module
is imported. No recipe, profile or option can say it:

    STEPFOLD_FAILPOINTS=publish.renamed=kill9@3,promote.registered=eio

Here the process is killed with SIGKILL the third time that it comes past the one, and the first
time that it comes past the other it gets the disk's own error; `stop` halts it with SIGSTOP, as if
it hung. Each process counts for itself.
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
    "durable.synced": "a new file is on the disk under its temporary name",
    "durable.replaced": "it has its name; its folder is not synced",
    "publish.written": "an artifact is written under its temporary name, nothing is synced",
    "publish.synced": "all of it is synced",
    "publish.removed": "what was in its place is gone",
    "publish.renamed": "it is in its place; the folder is not synced",
    "publish.unrecorded": "the folder is synced; there is no record",
    "forget.unrecorded": "the record of what is forgotten is gone, its files are there",
    "checkpoint.claimed": "a new attempt owns the round; no worker has started",
    "checkpoint.staged": "every rank has written its part",
    "checkpoint.committed": "a checkpoint counts; older ones are still there",
    "checkpoint.forgotten": "an older one is gone",
    "tar.closed": "the tar is whole and has no index",
    "encode.moved": "a part of encoded data has left the scratch folder",
    "samples.part": "a worker has drawn a part of a set of samples",
    "model.created": "the registered model exists and has no version",
    "promote.registered": "the student is a version without a name",
    "promote.named": "it has its own alias; `teacher` is still another",
    "export.filled": "a pipeline directory is whole under its temporary name, not checked",
    "export.renamed": "it is in its place; the folder is not synced",
}
"""Every failpoint, and what is true there."""


_FORM = re.compile(r"([a-z._]*)=(kill9|eio|stop)(?:@([1-9][0-9]*))?")

# by point: what happens, at the how many-th time, and the times so far
_armed: dict[str, tuple[str, int, Iterator[int]]] = {}


def failpoint(name: str) -> None:
    """Do here what the environment asks for at the point called `name`; nothing as a rule."""
    if name not in _armed:
        return
    action, time, reached = _armed[name]
    # the next of a counter is one operation of the interpreter: threads cannot share one
    if next(reached) != time:
        return
    os.write(2, f"failpoint {name}: {action} in process {os.getpid()}\n".encode())
    if action == "eio":
        raise OSError(errno.EIO, f"failpoint {name}")
    os.kill(os.getpid(), signal.SIGKILL if action == "kill9" else signal.SIGSTOP)


def arm(text: str) -> None:
    """Replace what failpoints do in this process.

    Args:
        text: see the module; empty for nothing.

    Raises:
        ConfigError: a point or an action is unknown, or the text is not of that form.
    """
    _armed.clear()
    for part in filter(None, map(str.strip, text.split(","))):
        found = _FORM.fullmatch(part)
        if found is None:
            raise ConfigError(
                f"{VARIABLE}: {part!r} is not POINT=ACTION or POINT=ACTION@TIME; an action is "
                "kill9, eio or stop, a time 1 or more"
            )
        name, action, time = found.groups(default="1")
        if name not in POINTS:
            raise ConfigError(
                f"{VARIABLE}: there is no failpoint {name!r}; see POINTS in pipeline/failpoints.py"
            )
        _armed[name] = (action, int(time), itertools.count(1))


arm(os.environ.get(VARIABLE, ""))
