"""Redact secrets in errors, logs, events and messages stored by Prefect.

Secrets are passwords in URLs and the values of environment variables whose names end in TOKEN, KEY,
SECRET or PASSWORD. Stepfold's own errors are redacted on creation, log records when written.
"""

import logging
import os
import re
from typing import Any

_HIDDEN = "***"
_SECRET_NAME = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD)$", re.IGNORECASE)
_PASSWORD = re.compile(r"(?<=//)[^/@\s]*@")
_URL_PASSWORD = re.compile(r"//[^/@:\s]*:([^/@\s]+)@")
_MIN_LENGTH = 6  # shorter values occur in ordinary words


def redact(text: str) -> str:
    """Replace passwords in URLs and secrets of the environment by asterisks."""
    secrets = {value for name, value in os.environ.items() if _SECRET_NAME.search(name)}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _MIN_LENGTH:
            text = text.replace(secret, _HIDDEN)
    return _PASSWORD.sub(f"{_HIDDEN}@", text)


def has_password(url: str) -> bool:
    """Whether a URL contains a password."""
    return _URL_PASSWORD.search(url) is not None


def redact_logs() -> None:
    """Redact all later log records of this process, including tracebacks."""
    make = logging.getLogRecordFactory()
    if getattr(make, "redacts", False):
        return

    def make_redacted(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = make(*arguments, **options)
        _redact_record(record)
        return record

    make_redacted.redacts = True  # type: ignore[attr-defined] # a second call does nothing
    logging.setLogRecordFactory(make_redacted)


def _redact_record(record: logging.LogRecord) -> None:
    try:
        message = record.getMessage()
    except (TypeError, ValueError):  # wrong arguments, which the handler reports
        return
    clean = redact(message)
    if clean != message:
        record.msg, record.args = clean, ()
    if record.exc_info:
        # formatters reuse this text instead of formatting the traceback
        record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
