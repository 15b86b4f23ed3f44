"""Convert values, names and texts to the forms that MLflow accepts."""

import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote


def points(values: Mapping[str, float], step: int) -> list[Any]:
    """Convert metric values at a step to MLflow's metrics, with the current time."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(ascii_name(name), value, now, step) for name, value in values.items()]


def ascii_name(name: str) -> str:
    """Replace characters that MLflow does not allow in names."""
    return re.sub(r"[^0-9A-Za-z_\-./ :]", "_", name)


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Convert values to texts, as required for tags."""
    return {name: str(value) for name, value in values.items()}


def quoted(text: str) -> str:
    """Quote a text for a filter; filters cannot escape quotes, so it may hold one kind only."""
    mark = '"' if "'" in text else "'"
    return f"{mark}{text}{mark}"


def searchable(text: str) -> str:
    """Convert a text to a tag value that filters can match; percent-encoded if it has both quotes.

    The encoded form has a prefix that no path begins with, so values stay distinct.
    """
    return f"quoted:{quote(text)}" if "'" in text and '"' in text else text
