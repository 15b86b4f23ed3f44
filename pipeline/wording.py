"""Format numbers, lists and paths for the terminal and the report page."""

import math
from collections.abc import Sequence
from pathlib import Path


def format_duration(seconds: float | int) -> str:
    """Format seconds: 4.2 s, 1:07, 2:03:10."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_integer(number: int) -> str:
    """Format an integer in groups of three digits, separated by thin spaces: 12 345."""
    return f"{number:,}".replace(",", " ")


def format_count(count: int, noun: str) -> str:
    """Format a count with its noun: 1 step, 4 steps."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_list(words: Sequence[str]) -> str:
    """Join words to a list in a sentence: "1, 3 and 7"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def format_bytes(size: float | int) -> str:
    """Format a number of bytes: 410 GB, 1.2 MB."""
    units = ["B", "kB", "MB", "GB", "TB", "PB"]
    power = min(len(units) - 1, int(math.log(size, 1000))) if size >= 1 else 0
    value = size / 1000**power
    return f"{value:.1f} {units[power]}" if power and value < 10 else f"{value:.0f} {units[power]}"


def format_path(path: Path) -> str:
    """Format a path, relative to the working directory if it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
