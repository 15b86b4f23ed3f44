"""Values, names and texts in the form that MLflow takes them."""

import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote


def points(values: Mapping[str, float], step: int) -> list[Any]:
    """Metric values at a step as MLflow takes them, with the time of now."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(ascii_name(name), value, now, step) for name, value in values.items()]


def ascii_name(name: str) -> str:
    """A name in the characters that MLflow takes for one."""
    return re.sub(r"[^0-9A-Za-z_\-./ :]", "_", name)


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """The same values as texts, which is all that tags are."""
    return {name: str(value) for name, value in values.items()}


def quoted(text: str) -> str:
    """A text inside a filter, which has no way to escape a quote: it may hold one kind of them."""
    mark = '"' if "'" in text else "'"
    return f"{mark}{text}{mark}"


def searchable(text: str) -> str:
    """A text as a tag that a filter finds: itself, unless it holds both kinds of quotes.

    No path begins like the other form, so no two texts become one.
    """
    return f"quoted:{quote(text)}" if "'" in text and '"' in text else text
