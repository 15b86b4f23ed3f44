"""Keep secrets out of errors, logs, events and what Prefect stores.

Hidden are passwords in URLs, and the values of environment variables whose names end in TOKEN, KEY,
SECRET or PASSWORD. Errors raised on purpose are redacted as they are made, log records as they are
written.
"""

import logging
import os
import re
from typing import Any

_HIDDEN = "***"
_SECRET_NAME = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD)$", re.IGNORECASE)
_PASSWORD = re.compile(r"(?<=//)[^/@\s]*@")
_URL_PASSWORD = re.compile(r"//[^/@:\s]*:([^/@\s]+)@")
_SHORTEST = 6  # a shorter value occurs in ordinary words


def redact(text: str) -> str:
    """The text with passwords of URLs and secrets of the environment hidden."""
    secrets = {value for name, value in os.environ.items() if _SECRET_NAME.search(name)}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, _HIDDEN)
    return _PASSWORD.sub(f"{_HIDDEN}@", text)


def has_password(url: str) -> bool:
    """Whether an address holds a password."""
    return _URL_PASSWORD.search(url) is not None


def redact_logs() -> None:
    """Redact every log record of this process from now on, tracebacks included."""
    make = logging.getLogRecordFactory()
    if getattr(make, "redacts", False):
        return

    def make_redacted(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = make(*arguments, **options)
        _redact_record(record)
        return record

    make_redacted.redacts = True  # type: ignore[attr-defined] # so that twice is once
    logging.setLogRecordFactory(make_redacted)


def _redact_record(record: logging.LogRecord) -> None:
    try:
        said = record.getMessage()
    except (TypeError, ValueError):  # the handler reports it, as it would have
        return
    clean = redact(said)
    if clean != said:
        record.msg, record.args = clean, ()
    if record.exc_info:
        # formatters take the text that is there already
        record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
