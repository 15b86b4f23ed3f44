"""MLflow runs by key, and for rounds by the fingerprint of their training; MLflow's text forms."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

KEY = "stepfold.key"
TRAINING = "stepfold.training"
SUPERSEDED = "superseded"
"""Tag of a run whose round was retrained; its value is the run id of the newer run."""

_MOST_RUNS = 1000


def runs_of(client: Any, experiment_id: str, key: str) -> list[Any]:
    """List the runs with a key, newest first, superseded ones last."""
    found = client.search_runs(
        [experiment_id],
        f"tags.`{KEY}` = {quoted(searchable(key))}",
        max_results=_MOST_RUNS,
        order_by=["attributes.start_time DESC"],
    )
    return sorted(found, key=lambda run: SUPERSEDED in run.data.tags)


def choose_run(runs: Sequence[Any], training: str | None) -> Any | None:
    """Return the run of a key to continue; None if a new one is needed.

    Args:
        runs: see `runs_of`.
        training: fingerprint of the training: equal when it continues, another when it starts
            from scratch; None selects the newest run of any training.
    """
    if training is None:
        return next(iter(runs), None)
    return next((run for run in runs if run.data.tags.get(TRAINING) == training), None)


def supersede(client: Any, runs: Sequence[Any], run_id: str) -> None:
    """Mark the other runs of a key as superseded by this one, and unmark this one.

    Superseded runs keep their status, except that RUNNING becomes KILLED.
    """
    for run in runs:
        is_marked, other = SUPERSEDED in run.data.tags, run.info.run_id
        if other == run_id:
            if is_marked:
                client.delete_tag(run_id, SUPERSEDED)
        elif not is_marked:
            if run.info.status == "RUNNING":
                client.set_terminated(other, "KILLED")
            # runs with equal names cannot be distinguished in a chart's legend
            name = str(run.info.run_name).removesuffix(f", {SUPERSEDED}")
            client.update_run(other, name=f"{name}, {SUPERSEDED}")
            client.set_tag(other, SUPERSEDED, run_id)


def has_key(found: str, key: str) -> bool:
    """Whether the key tag of a run is this key or a key below it."""
    wanted = searchable(key)
    return found == wanted or found.startswith(f"{wanted}/")


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
