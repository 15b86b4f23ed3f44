"""Keep secrets out of everything that is said: errors, logs, events, what Prefect stores.

Secrets come from the environment, where their names tell; a password in an address is one wherever
it stands. Errors raised on purpose are redacted as they are made, log records as they are written.
"""

import logging
import os
import re
from collections.abc import Iterator
from typing import Any

_HIDDEN = "***"
_SECRET_NAME = re.compile(
    r"PASSWORD|PASSWD|PGPASS|SECRET|TOKEN|CREDENTIAL|ACCESS_KEY|API_KEY|AUTH_STRING", re.IGNORECASE
)
_PASSWORD = re.compile(r"(?<=//)[^/@\s]*@")
_URL_PASSWORD = re.compile(r"//[^/@:\s]*:([^/@\s]+)@")
_SHORTEST = 6  # what is shorter would be found in ordinary words


def redact(text: str) -> str:
    """The text without the passwords of addresses and without secrets of the environment."""
    for secret in _secrets():
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


def _secrets() -> Iterator[str]:
    """Values of the environment that must not be said, the longest first."""
    found = set()
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name):
            found.add(value)
        found.update(_URL_PASSWORD.findall(value))
    usual = (secret for secret in found if len(secret) >= _SHORTEST and not _is_place(secret))
    return iter(sorted(usual, key=len, reverse=True))


def _is_place(value: str) -> bool:
    return value.startswith(("/", "~", "./"))  # such as RAY_AUTH_TOKEN_PATH
