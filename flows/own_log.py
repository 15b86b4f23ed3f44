"""What our own modules have to say goes into the log of a run, beside what Prefect says."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_PACKAGES = ("flows", "stages", "infra", "pipeline")
_FORM = "%(asctime)s.%(msecs)03d | %(levelname)-7s | %(name)s - %(message)s"  # as Prefect's lines


@contextmanager
def written() -> Iterator[None]:
    """Write what ours say from INFO on to standard error, once."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORM, "%H:%M:%S"))
    loggers = [logging.getLogger(name) for name in _PACKAGES]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.propagate = False  # Prefect's root handler would write every line again
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
