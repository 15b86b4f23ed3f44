"""The product's exception classes.

    StepfoldError
    ├── ConfigError       the recipe, profile or command line is invalid; nothing was run
    ├── DataError         a data set or shard is missing, damaged or not as declared
    │   └── SampleError   one sample of a source is unusable and may be quarantined
    ├── BundleError       a teacher or student bundle is missing, damaged or used outside its range
    ├── DivergenceError   training diverged: a loss or a weight is not finite
    ├── GateError         a student failed the quality gate; inspect it and decide how to continue
    ├── BusyError         another run holds the run directory
    ├── CapacityError     a worker's memory is too small for the recipe
    └── InfraError        a worker, service or disk failed; a retry may help

There is one class per *reaction*: the command line exits with 2 for ConfigError, DataError,
BundleError and BusyError and with 1 for the rest, and flows retry InfraError only. A message has
the problem, the value found and the remedy. Secrets are redacted from every message.
"""

from pipeline.redaction import redact


class StepfoldError(Exception):
    """Base class of the product's errors; `str(error)` is one paragraph for the user."""

    def __init__(self, message: str = "") -> None:
        super().__init__(redact(message))


class ConfigError(StepfoldError):
    """The recipe, the profile or the command line is invalid."""


class DataError(StepfoldError):
    """A data set or shard is missing, damaged or does not match its index."""


class SampleError(DataError):
    """One sample of a source is unusable.

    Args:
        sample: name of the sample; the message begins with it.
        reason: the rest of the message.
    """

    def __init__(self, sample: str, reason: str = "") -> None:
        super().__init__(f"{sample}{reason}")
        self.sample = sample
        self.reason = reason.lstrip(":, ")


class BundleError(StepfoldError):
    """A bundle is missing, damaged or used outside its valid range."""


class DivergenceError(StepfoldError):
    """Training or a student produced values that are not finite."""


class GateError(StepfoldError):
    """A round's student failed the quality gate and no remedy is left."""


class BusyError(StepfoldError):
    """Another process is using the same run directory."""


class CapacityError(StepfoldError):
    """A worker ran out of memory; a retry would fail again, so the work must be made smaller."""


class InfraError(StepfoldError):
    """Something outside our code failed; a retry may help."""
