"""Every error the product raises on purpose.

    StepfoldError
    ├── ConfigError       the recipe, the profile or the command is wrong: fix it, nothing was done
    ├── DataError         a data set or shard is missing, damaged or not what was declared
    │   └── SampleError   one sample of a source cannot be used: it may be set aside
    ├── BundleError       a teacher or student bundle is missing, damaged or used outside its range
    ├── DivergenceError   the numbers went bad: a loss that is not finite, weights that are not
    ├── GateError         a student is not good enough to teach: look at it, say what is to follow
    ├── BusyError         another run holds the run directory
    ├── CapacityError     a worker's memory is too small for what the recipe asks
    └── InfraError        a worker, service or disk failed; trying again may help

A class exists per *reaction*: the command line exits 2 for ConfigError, DataError, BundleError and
BusyError, 1 for the rest, and flows retry InfraError only. A message says what, got, and do, and no
secrets, wherever it comes to stand.
"""

from pipeline.redaction import redact


class StepfoldError(Exception):
    """Base of all errors raised on purpose; `str(error)` is one paragraph meant for the user."""

    def __init__(self, message: str = "") -> None:
        super().__init__(redact(message))


class ConfigError(StepfoldError):
    """The recipe, the profile or the command line asks for something that cannot be."""


class DataError(StepfoldError):
    """A data set or shard is missing, damaged or not what its index says."""


class SampleError(DataError):
    """One sample of a source cannot be used.

    Args:
        sample: what it is called; the message begins with it.
        reason: the rest of the message.
    """

    def __init__(self, sample: str, reason: str = "") -> None:
        super().__init__(f"{sample}{reason}")
        self.sample = sample
        self.reason = reason.lstrip(":, ")


class BundleError(StepfoldError):
    """A bundle is missing, damaged, or asked for something it was not made for."""


class DivergenceError(StepfoldError):
    """Training or a student produced numbers that are not finite."""


class GateError(StepfoldError):
    """A round's student failed the recipe's gate, and nothing is left to try."""


class BusyError(StepfoldError):
    """Another process is at work in the same run directory."""


class CapacityError(StepfoldError):
    """A worker ran out of memory; it would again, so less has to be asked of it."""


class InfraError(StepfoldError):
    """Something outside our code failed; running again may help."""
