"""Nothing is logged of a message, or of where it goes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_TALKATIVE = ("httpx", "httpcore", "apprise")
"""They log addresses, and the address of a webhook or of a mail server holds a secret."""


@contextmanager
def silenced() -> Iterator[None]:
    """Have those who carry messages log nothing."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
