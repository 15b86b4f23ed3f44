"""The end of a log, and what is added to it."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import ConfigError


def tail(path: Path, count: int, *, follow: bool) -> Iterator[str]:
    """The last lines of a text file; goes on for ever with `follow`.

    Raises:
        ConfigError: there is no such file.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path} does not exist; the run has not begun, or ran without a terminal"
        )
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from (line.rstrip("\n") for line in deque(file, maxlen=count))
        while follow:
            line = file.readline()
            if line:
                yield line.rstrip("\n")
            else:
                time.sleep(0.5)
