"""The MLflow store: one run per chain, a child run per round, models by digest.

All calls use `MlflowClient` with explicit run ids. The fluent API keeps an active run per thread
and ends it when a block ends, which would finish runs still in progress. Writes are idempotent, so
a resumed run can repeat them.
"""

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from infra.mlflow.pages import CHAIN_TAG, default_uri
from infra.mlflow.runs import KEY, TRAINING, choose_run, has_key, runs_of, supersede
from infra.mlflow.values import ascii_name, points, quoted, searchable, texts
from infra.process.environment import set_environment_defaults
from pipeline.errors import ConfigError, InfraError
from pipeline.failpoints import failpoint

_log = logging.getLogger(__name__)

_DIGEST = "stepfold.digest"
_SLOW_S = 2.0
_PAUSE_S = 5.0  # no calls for this long after a slow call that failed
_MOST_RUNS = 1000
_MAX_PARAM = 6000  # MLflow truncates longer values silently

Status = Literal["FINISHED", "FAILED", "KILLED"]


class MlflowStore:
    """Write runs, files and models to one MLflow server or database.

    Opening a new SQLite store takes 1 to 2 s to create its tables.

    Args:
        uri: URI of the server or database; None for SQLite in `run_root`, private to the user.
        run_root: directory of the run directories.
        experiment: name of the experiment; created if it does not exist.

    Raises:
        ConfigError: the database driver is not installed.
        InfraError: MLflow is unreachable. Every method may raise it; no call waits longer than
            about 20 s.
    """

    def __init__(self, uri: str | None, run_root: Path, experiment: str) -> None:
        set_environment_defaults()
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        from mlflow import MlflowClient

        for noisy in ("alembic", "mlflow"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        root = run_root.resolve()
        self.uri = uri or default_uri(root)
        self.artifacts = None if uri else root / "mlflow-artifacts"
        if self.artifacts:
            _make_private(root / "mlflow.db", self.artifacts)
        self._silent_until = 0.0
        with self._translated():
            self._client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            self.experiment_id = self._experiment(experiment)

    def chain(self, key: str, name: str, params: Mapping[str, Any], tags: Mapping[str, Any]) -> str:
        """Open the run of a chain: continue the one with this key, or create one."""
        run_id = self._open(key, name, params, {**tags, "kind": "chain", "round": "chain"})
        with self._translated():
            self._client.set_tag(run_id, CHAIN_TAG, run_id)
        return run_id

    def round(
        self,
        parent_id: str,
        key: str,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
        *,
        is_at_work: bool = True,
        training: str | None = None,
    ) -> str:
        """Open the run of a round: continue it or create one; `params["round"]` sets the order.

        With `is_at_work` False, the status of an existing run is kept and a new run is FINISHED.
        Each `training` has its own run; the newest supersedes the others of its key.
        """
        order = {"round": f"{int(params['round']):02d}"} if "round" in params else {}
        parent = {"mlflow.parentRunId": parent_id, CHAIN_TAG: parent_id}
        tags = {"kind": "round", **order, **tags, **parent}
        status: Literal["RUNNING", "FINISHED"] = "RUNNING" if is_at_work else "FINISHED"
        return self._open(key, name, params, tags, status, training)

    def finish(self, run_id: str, status: Status, *, unless_ended: bool = False) -> None:
        """End a run now; with `unless_ended`, a run with this status keeps its end time."""
        with self._translated():
            if unless_ended and self._client.get_run(run_id).info.status == status:
                return
            self._client.set_terminated(run_id, status)

    def metrics(self, run_id: str, values: Mapping[str, float], step: int) -> None:
        """Log values at a step, except those equal to the run's newest value there."""
        with self._translated():
            new = {
                name: value
                for name, value in values.items()
                if self.newest(run_id, name).get(step) != value
            }
            self.log_points(run_id, points(new, step))

    def newest(self, run_id: str, name: str) -> dict[int, float]:
        """Return the newest value of a metric at each of its steps."""
        with self._translated():
            found = self._client.get_metric_history(run_id, ascii_name(name))
        return {each.step: each.value for each in sorted(found, key=lambda it: it.timestamp)}

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        """Provide MLflow's client for a block, with errors translated as in all methods."""
        with self._translated():
            yield self._client

    def log_points(self, run_id: str, batch: Sequence[Any]) -> None:
        """Log up to 1000 `points`."""
        with self._translated():
            self._client.log_batch(run_id, metrics=batch)

    def files(self, run_id: str, paths: Sequence[Path], folder: str) -> None:
        """Copy files to the run's artifacts."""
        with self._translated():
            for path in paths:
                self._client.log_artifact(run_id, str(path), folder)

    def text(self, run_id: str, text: str, name: str) -> None:
        """Store a text in the run's artifacts as file `name`."""
        with self._translated():
            self._client.log_text(run_id, text, name)

    def describe(self, run_id: str, markdown: str) -> None:
        """Set the description at the top of a run's page."""
        # MLflow's page does not render a table directly below a heading without a blank line
        spaced = re.sub(r"(?m)^(#{1,6} .*)\n(?=[^\n])", r"\1\n\n", markdown)
        with self._translated():
            self._client.set_tag(run_id, "mlflow.note.content", spaced)

    def register(
        self, model_name: str, bundle: Path, digest: str, run_id: str, tags: Mapping[str, Any]
    ) -> str:
        """Return the model version with these weights; create it if it does not exist.

        In a local store a version refers to the bundle's path. A server gets a copy.
        """
        with self._translated():
            if not self._client.search_registered_models(f"name = {quoted(model_name)}"):
                self._client.create_registered_model(model_name)
                failpoint("model.created")
            matching = f"name = {quoted(model_name)} and tags.`{_DIGEST}` = {quoted(digest)}"
            found = self._client.search_model_versions(matching)
            if found:
                return str(found[0].version)
            version = self._client.create_model_version(
                model_name,
                source=self._source(bundle, digest, run_id),
                run_id=run_id,
                tags={**texts(tags), _DIGEST: digest},
                await_creation_for=0,
            )
            return str(version.version)

    def alias(self, model_name: str, alias: str, version: str) -> None:
        """Set an alias, such as `teacher`, to a version."""
        with self._translated():
            self._client.set_registered_model_alias(model_name, alias, version)

    def find(self, key: str) -> str | None:
        """Return the run id of the chain or round with this key; None if absent."""
        with self._translated():
            found = choose_run(runs_of(self._client, self.experiment_id, key), None)
        return str(found.info.run_id) if found else None

    def end_stale_runs(self, key: str) -> int:
        """Set RUNNING runs of the chain with this key and of its rounds to KILLED.

        Call only if no process is working on the chain.

        Returns:
            The number of runs changed.
        """
        with self._translated():
            found = self._client.search_runs(
                [self.experiment_id], "attributes.status = 'RUNNING'", max_results=_MOST_RUNS
            )
            ours = [run for run in found if has_key(run.data.tags.get(KEY, ""), key)]
            for run in ours:
                self._client.set_terminated(run.info.run_id, "KILLED")
        return len(ours)

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = str(self.artifacts) if self.artifacts else None
        return str(self._client.create_experiment(name, artifact_location=location))

    def _open(
        self,
        key: str,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
        status: Literal["RUNNING", "FINISHED"] = "RUNNING",
        training: str | None = None,
    ) -> str:
        tag_texts = texts({**tags, TRAINING: training} if training else tags)
        with self._translated():
            runs = runs_of(self._client, self.experiment_id, key)
            found = choose_run(runs, training)
            if found:
                run_id = str(found.info.run_id)
                at_work = status if status == "RUNNING" else None
                self._client.update_run(run_id, status=at_work, name=name)
                self._describe_run(run_id, params, tag_texts, (found.data.params, found.data.tags))
            else:
                all_tags = {**tag_texts, KEY: searchable(key)}
                run = self._client.create_run(self.experiment_id, tags=all_tags, run_name=name)
                run_id = str(run.info.run_id)
                self._describe_run(run_id, params, {}, ({}, {}))
                if status != "RUNNING":
                    self._client.set_terminated(run_id, status)
            if training:
                supersede(self._client, runs, run_id)
            return run_id

    def _describe_run(
        self,
        run_id: str,
        params: Mapping[str, Any],
        tags: dict[str, str],
        known: tuple[Mapping[str, str], Mapping[str, str]],
    ) -> None:
        """Log missing parameters and changed tags in one call."""
        from mlflow.entities import Param, RunTag

        known_params, known_tags = known
        new: list[Any] = []
        for name, value in params.items():
            text = self._short_enough(run_id, name, str(value))
            if name not in known_params:
                new.append(Param(ascii_name(name), text))
            elif known_params[name] != text:  # parameters are immutable, tags are not
                tags[f"changed.{ascii_name(name)}"] = text
        changed = [RunTag(n, text) for n, text in tags.items() if known_tags.get(n) != text]
        if new or changed:
            self._client.log_batch(run_id, params=new, tags=changed)

    def _short_enough(self, run_id: str, name: str, text: str) -> str:
        if len(text) <= _MAX_PARAM:
            return text
        _log.warning("MLflow: parameter %s has %d characters; stored as a file", name, len(text))
        self._client.log_text(run_id, text, f"params/{ascii_name(name)}.txt")
        return f"{text[: _MAX_PARAM - 100]}... (whole in params/{ascii_name(name)}.txt)"

    def _source(self, bundle: Path, digest: str, run_id: str) -> str:
        if not self.uri.startswith("http"):
            return str(bundle.resolve())
        folder = f"bundles/{digest[:16]}"  # servers reject sources outside the run's artifacts
        self._client.log_artifacts(run_id, str(bundle), folder)
        run = self._client.get_run(run_id)
        return f"{run.info.artifact_uri}/{folder}"

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        if time.monotonic() < self._silent_until:
            raise InfraError(
                f"MLflow at {self.uri} was unreachable less than {_PAUSE_S:g} s ago; retry later"
            )
        started = time.monotonic()
        try:
            yield
        except (MlflowException, OSError) as error:
            if time.monotonic() - started > _SLOW_S:
                self._silent_until = time.monotonic() + _PAUSE_S
            first = str(error).strip().splitlines()[0]
            message = (
                f"MLflow at {self.uri} is unreachable ({first}); run again when it is available. "
                "Metrics are kept in the rounds' metrics.jsonl"
            )
            # not chained: the cause may also contain the password
            raise InfraError(message) from None
        except ImportError as error:  # a database driver
            raise ConfigError(
                f"tracking.uri: this database needs a package that is not installed ({error}); "
                "install it"
            ) from None


def _make_private(database: Path, artifacts: Path) -> None:
    artifacts.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(database, os.O_CREAT | os.O_RDWR, 0o600))
