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
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field

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
    "metrics.logged": "a line of metrics is written",
    "tar.member": "a sample or record is in a tar that has no index",
    "tar.closed": "the tar is whole and has no index",
    "shards.written": "every shard of the data is there, nothing says what they hold",
    "encode.null": "the null condition is there, the captions after it are not",
    "encode.moved": "a part of encoded data has left the scratch folder",
    "encode.committed": "encoded data count; the scratch folder is still there",
    "samples.part": "a worker has drawn a part of a set of samples",
    "samples.committed": "every set of samples counts; the parts are still there",
    "train.handed_in": "the student is written; the driver does not know",
    "distill.committed": "the student counts; its checkpoints are still there",
    "gate.judged": "a verdict counts; nothing has followed from it",
    "gate.answered": "what a person said counts; nothing has followed from it",
    "gate.placed": "an accepted student is in its round's place; the candidate is still there",
    "promote.dropped": "the student is accepted and old targets are gone; it is no version yet",
    "model.created": "the registered model exists and has no version",
    "promote.registered": "the student is a version without a name",
    "promote.named": "it has its own alias; `teacher` is still another",
    "promote.aliased": "it has all its aliases; nothing records the promotion",
    "export.filled": "a pipeline directory is whole under its temporary name, not checked",
    "export.synced": "it is checked and synced",
    "export.renamed": "it is in its place; the folder is not synced",
    "recipe.kept": "the old recipe is kept aside, the new one is not written",
}
"""Every failpoint, and what is true there."""


@dataclass
class _Charge:
    action: str
    at: int
    reached: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def reach(self, name: str) -> None:
        # the next of a counter is one operation of the interpreter: threads cannot share one
        if next(self.reached) != self.at:
            return
        os.write(2, f"failpoint {name}: {self.action} in process {os.getpid()}\n".encode())
        if self.action == "kill9":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.action == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
            return
        raise OSError(errno.EIO, f"failpoint {name}")


_ACTIONS = ("kill9", "eio", "stop")


def failpoint(name: str) -> None:
    """Do here what the environment asks for at the point called `name`; nothing as a rule."""
    if _charges and name in _charges:
        _charges[name].reach(name)


def arm(text: str) -> None:
    """Replace what failpoints do in this process.

    Args:
        text: see the module; empty for nothing.

    Raises:
        ConfigError: a point or an action is unknown, or the text is not of that form.
    """
    _charges.clear()
    _charges.update(_parse(part.strip()) for part in text.split(",") if part.strip())


def _parse(part: str) -> tuple[str, _Charge]:
    name, _, deed = part.partition("=")
    action, _, times = deed.partition("@")
    if name not in POINTS:
        raise ConfigError(
            f"{VARIABLE}: there is no failpoint {name!r}; see POINTS in pipeline/failpoints.py"
        )
    if action not in _ACTIONS:
        raise ConfigError(
            f"{VARIABLE}: {name} cannot do {action!r}; it can {' or '.join(_ACTIONS)}"
        )
    at = times or "1"
    if not (at.isascii() and at.isdigit() and int(at) > 0):
        raise ConfigError(f"{VARIABLE}: {part}: after @ comes a number from 1 upwards")
    return name, _Charge(action, int(at))


_charges: dict[str, _Charge] = {}
arm(os.environ.get(VARIABLE, ""))
