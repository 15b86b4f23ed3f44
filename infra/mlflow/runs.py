"""Which MLflow run is meant: found by its key, and a round's by what is trained in it as well."""

from collections.abc import Sequence
from typing import Any

from infra.mlflow.values import quoted, searchable

KEY = "stepfold.key"
TRAINING = "stepfold.training"
SUPERSEDED = "superseded"
"""Tag of a run whose round was trained anew; its value is the run id of what came after it."""

_MOST_RUNS = 1000


def runs_of(client: Any, experiment_id: str, key: str) -> list[Any]:
    """The runs with a key, newest first, superseded ones last."""
    found = client.search_runs(
        [experiment_id],
        f"tags.`{KEY}` = {quoted(searchable(key))}",
        max_results=_MOST_RUNS,
        order_by=["attributes.start_time DESC"],
    )
    return sorted(found, key=lambda run: SUPERSEDED in run.data.tags)


def choose(runs: Sequence[Any], training: str | None) -> Any | None:
    """The run to go on with among those of a key; None if there has to be a new one.

    Args:
        runs: see `runs_of`.
        training: fingerprint of what is trained, the same when training goes on and another when it
            begins anew; None takes the newest, whatever it is of.
    """
    if training is None:
        return next(iter(runs), None)
    return next((run for run in runs if run.data.tags.get(TRAINING) == training), None)


def supersede(client: Any, runs: Sequence[Any], run_id: str) -> None:
    """Mark the other runs of a key as superseded by this one, and this one as not.

    They keep their status, but for one that still says RUNNING: nobody is at work on it.
    """
    for run in runs:
        is_marked, other = SUPERSEDED in run.data.tags, run.info.run_id
        if other == run_id:
            if is_marked:
                client.delete_tag(run_id, SUPERSEDED)
        elif not is_marked:
            if run.info.status == "RUNNING":
                client.set_terminated(other, "KILLED")
            # two of one name could not be told apart in a chart's legend
            name = str(run.info.run_name).removesuffix(f", {SUPERSEDED}")
            client.update_run(other, name=f"{name}, {SUPERSEDED}")
            client.set_tag(other, SUPERSEDED, run_id)


def is_of(found: str, key: str) -> bool:
    """Whether the key tag of a run is this key, or one below it."""
    wanted = searchable(key)
    return found == wanted or found.startswith(f"{wanted}/")
