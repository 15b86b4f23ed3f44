"""Numbers and lists as people say them, on a terminal and on a page."""

import math
from collections.abc import Sequence
from pathlib import Path


def duration(seconds: float | int) -> str:
    """Seconds as people say them: 4.2 s, 1:07, 2:03:10."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def grouped(number: int) -> str:
    """An integer in groups of three, with thin gaps: 12 345."""
    return f"{number:,}".replace(",", " ")


def counted(count: int, noun: str) -> str:
    """A number of things: 1 step, 4 steps."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def joined(words: Sequence[str]) -> str:
    """Words as a sentence has them: "1, 3 and 7"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def readable(size: float) -> str:
    """A number of bytes as people write it: 410 GB, 1.2 MB."""
    units = ["B", "kB", "MB", "GB", "TB", "PB"]
    power = min(len(units) - 1, int(math.log(size, 1000))) if size >= 1 else 0
    value = size / 1000**power
    return f"{value:.1f} {units[power]}" if power and value < 10 else f"{value:.0f} {units[power]}"


def near(path: Path) -> str:
    """A path as short as it can be said from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
