"""The MLflow tracker: one run per chain, a child run per round, models by digest, and its UI.

All calls use `MlflowClient` with explicit run ids. The fluent API keeps an active run per thread
and ends it when a block ends, which would finish runs still in progress. Writes are idempotent, so
a resumed run can repeat them.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, unquote, urlsplit

from infra.process.environment import set_environment_defaults
from infra.trackers.mlflow.runs import (
    KEY,
    TRAINING,
    ascii_name,
    choose_run,
    has_key,
    quoted,
    runs_of,
    searchable,
    supersede,
    texts,
)
from pipeline.durable import link_tree
from pipeline.errors import ConfigError, InfraError
from pipeline.failpoints import failpoint
from pipeline.redaction import redact
from pipeline.tracking import InputData, Point, RunStatus, RunTracker, TrackerKind, UiServer

if TYPE_CHECKING:
    import PIL.Image

_log = logging.getLogger(__name__)

CHAIN_TAG = "stepfold.chain"
"""Tag of a chain and of its rounds; its value is the run id of the chain."""

_DIGEST = "stepfold.digest"
_SLOW_S = 2.0
_PAUSE_S = 5.0  # no calls for this long after a slow call that failed
_MOST_RUNS = 1000
_POINTS_PER_CALL = 1000
_MAX_PARAM = 6000  # MLflow truncates longer values silently
_MAX_DIGEST = 36  # characters that MLflow allows


class MlflowTracking(TrackerKind):
    """MLflow: the server or database of `tracking.uri`, else an SQLite file."""

    name: ClassVar[str] = "mlflow"
    title: ClassVar[str] = "MLflow"

    def open(self) -> RunTracker:
        """Connect to the store."""
        return MlflowTracker(self.config.address, self.run_root, self.config.experiment)

    def has_history(self) -> bool:
        """Whether the profile names a store, or the SQLite file exists."""
        return self.config.uri is not None or (self.run_root / "mlflow.db").is_file()

    def address(self, port: int) -> str:
        """See `ui_address`."""
        return ui_address(self.config.address, port)

    def ui_server(self, port: int) -> UiServer:
        """See `ui_command`."""
        command, environment = ui_command(self.config.address, self.run_root, port)
        return UiServer(command, "/health", environment)


class MlflowTracker(RunTracker):
    """The tracker of one MLflow server or database.

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

    def start(
        self,
        key: str,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
        *,
        parent: str | None = None,
        training: str | None = None,
        is_running: bool = True,
    ) -> str:
        """See `RunTracker`; `params["round"]` sets the order of rounds."""
        if parent is None:
            run_id = self._open(key, name, params, {**tags, "kind": "chain", "round": "chain"})
            with self._translated():
                self._client.set_tag(run_id, CHAIN_TAG, run_id)
            return run_id
        order = {"round": f"{int(params['round']):02d}"} if "round" in params else {}
        links = {"mlflow.parentRunId": parent, CHAIN_TAG: parent}
        tags = {"kind": "round", **order, **tags, **links}
        return self._open(key, name, params, tags, training, is_running=is_running)

    def finish(self, run: str, status: RunStatus, *, unless_ended: bool = False) -> None:
        """See `RunTracker`."""
        with self._translated():
            if unless_ended and self._client.get_run(run).info.status == status:
                return
            self._client.set_terminated(run, status)

    def log(self, run: str, points: Iterable[Point], *, are_new: bool = False) -> None:
        """See `RunTracker`.

        MLflow keeps all logged values and the newest at a step is valid. A changed value is logged
        again, also if it equals an older one.
        """
        from mlflow.entities import Metric

        wanted = {(name, step): value for name, value, step in points}
        names = set() if are_new else {name for name, _ in wanted}
        known = {name: self._newest(run, name) for name in names}
        now = int(time.time() * 1000)
        new = [
            Metric(ascii_name(name), value, now, step)
            for (name, step), value in wanted.items()
            if are_new or known[name].get(step) != value
        ]
        for first in range(0, len(new), _POINTS_PER_CALL):
            with self._translated():
                self._client.log_batch(run, metrics=new[first : first + _POINTS_PER_CALL])

    def last_step(self, run: str, name: str) -> int:
        """See `RunTracker`."""
        return max(self._newest(run, name), default=-1)

    def _newest(self, run: str, name: str) -> dict[int, float]:
        """Return the newest value of a metric at each of its steps."""
        with self._translated():
            found = self._client.get_metric_history(run, ascii_name(name))
        return {each.step: each.value for each in sorted(found, key=lambda it: it.timestamp)}

    def log_image(self, run: str, path: Path, name: str, step: int) -> None:
        """Log a PNG to the charts, which have a slider over the steps of a name."""
        from PIL import Image

        key = re.sub(r"[^0-9A-Za-z_\-./ ]", "_", name)
        place = f"images/{key.replace('/', '~')}+step+{step}+"  # MLflow's file name
        with self._translated(), Image.open(path) as opened:
            image = opened.convert("RGB")
            logged = [file.path for file in self._client.list_artifacts(run, "images")]
            same_place = [it for it in logged if it.startswith(place) and it.endswith(".png")]
            # the time follows the step in these names, so the maximum is the newest
            if same_place and self._is_equal(run, max(same_place), image):
                return
            self._client.log_image(run, image, key=key, step=step, synchronous=True)

    def _is_equal(self, run: str, path: str, image: "PIL.Image.Image") -> bool:
        from PIL import Image

        with tempfile.TemporaryDirectory() as folder:
            copy = self._client.download_artifacts(run, path, folder)
            try:
                with Image.open(copy) as old:
                    same_size = old.size == image.size
                    return same_size and old.convert("RGB").tobytes() == image.tobytes()
            except OSError:  # an incomplete image, left by a killed process
                return False

    def log_files(self, run: str, paths: Sequence[Path], folder: str) -> None:
        """See `RunTracker`."""
        with self._translated():
            for path in paths:
                self._client.log_artifact(run, str(path), folder)

    def log_inputs(self, run: str, inputs: Sequence[InputData]) -> None:
        """See `RunTracker`."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        found = [
            DatasetInput(
                Dataset(
                    name=each.name,
                    digest=each.digest[:_MAX_DIGEST],
                    source_type="local",
                    source=json.dumps({"uri": str(each.place)}),
                    profile=json.dumps(dict(each.profile)),
                ),
                [InputTag("mlflow.data.context", each.context)],
            )
            for each in inputs
        ]
        with self._translated():
            self._client.log_inputs(run, datasets=found)

    def log_tags(self, run: str, tags: Mapping[str, object]) -> None:
        """Set tags of a run in one call."""
        from mlflow.entities import RunTag

        found = [RunTag(ascii_name(name), text) for name, text in texts(tags).items()]
        with self._translated():
            self._client.log_batch(run, tags=found)

    def describe(self, run: str, markdown: str) -> None:
        """Set the description at the top of a run's page."""
        # MLflow's page does not render a table directly below a heading without a blank line
        spaced = re.sub(r"(?m)^(#{1,6} .*)\n(?=[^\n])", r"\1\n\n", markdown)
        with self._translated():
            self._client.set_tag(run, "mlflow.note.content", spaced)

    def register(
        self, run: str, model: str, bundle: Path, digest: str, tags: Mapping[str, Any]
    ) -> str:
        """Return the model version with these weights; create it if it does not exist.

        A version refers to the artifacts of `run`, because another student may take the path of
        the bundle. On this file system they are hard links, which need no space; a server or an
        object store gets a copy.
        """
        with self._translated():
            if not self._client.search_registered_models(f"name = {quoted(model)}"):
                self._client.create_registered_model(model)
                failpoint("model.created")
            matching = f"name = {quoted(model)} and tags.`{_DIGEST}` = {quoted(digest)}"
            found = self._client.search_model_versions(matching)
            if found:
                return str(found[0].version)
            version = self._client.create_model_version(
                model,
                source=self._source(bundle, digest, run),
                run_id=run,
                tags={**texts(tags), _DIGEST: digest},
                await_creation_for=0,
            )
            return str(version.version)

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """See `RunTracker`."""
        with self._translated():
            self._client.set_registered_model_alias(model, alias, version)

    def find(self, key: str) -> str | None:
        """Return the run id of the chain or round with this key; None if absent."""
        with self._translated():
            found = choose_run(runs_of(self._client, self.experiment_id, key), None)
        return str(found.info.run_id) if found else None

    def end_stale_runs(self, key: str) -> int:
        """See `RunTracker`."""
        with self._translated():
            found = self._client.search_runs(
                [self.experiment_id], "attributes.status = 'RUNNING'", max_results=_MOST_RUNS
            )
            ours = [run for run in found if has_key(run.data.tags.get(KEY, ""), key)]
            for run in ours:
                self._client.set_terminated(run.info.run_id, "KILLED")
        return len(ours)

    def url(self, key: str, port: int) -> str:
        """Return the address of a chain's charts; of the UI alone if the run does not exist.

        Without an explicit order, MLflow's run list hides child runs and ignores the filter.
        """
        chain_id = self.find(key)
        host = ui_address(self.uri, port)
        if chain_id is None:
            return host
        run_filter = f'tags.`{CHAIN_TAG}` = "{chain_id}"'
        return (
            f"{host}/#/experiments/{self.experiment_id}/runs?searchFilter="
            f"{quote(run_filter, safe='')}&orderByKey={quote('tags.`round`', safe='')}"
            "&orderByAsc=true&compareRunsMode=CHART&workflowType=machine_learning"
        )

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
        training: str | None = None,
        *,
        is_running: bool = True,
    ) -> str:
        tag_texts = texts({**tags, TRAINING: training} if training else tags)
        with self._translated():
            runs = runs_of(self._client, self.experiment_id, key)
            found = choose_run(runs, training)
            if found:
                run_id = str(found.info.run_id)
                status = "RUNNING" if is_running else None
                self._client.update_run(run_id, status=status, name=name)
                self._describe_run(run_id, params, tag_texts, (found.data.params, found.data.tags))
            else:
                all_tags = {**tag_texts, KEY: searchable(key)}
                run = self._client.create_run(self.experiment_id, tags=all_tags, run_name=name)
                run_id = str(run.info.run_id)
                self._describe_run(run_id, params, {}, ({}, {}))
                if not is_running:
                    self._client.set_terminated(run_id, "FINISHED")
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
        return f"{text[: _MAX_PARAM - 100]}... (complete in params/{ascii_name(name)}.txt)"

    def _source(self, bundle: Path, digest: str, run_id: str) -> str:
        folder = f"bundles/{digest[:16]}"
        root = self._client.get_run(run_id).info.artifact_uri
        place = _local_path(root)
        if place is None:
            self._client.log_artifacts(run_id, str(bundle), folder)
        else:
            shutil.rmtree(place / folder, ignore_errors=True)  # left by a killed registration
            link_tree(bundle, place / folder)
        return f"{root}/{folder}"

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


def _local_path(uri: str) -> Path | None:
    """Return the path of an artifact address; None for a server or an object store."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if parts.scheme else Path(uri)


def default_uri(run_root: Path) -> str:
    """Return the URI of the SQLite store beside the run directories."""
    return f"sqlite:///{run_root.resolve()}/mlflow.db"


def ui_address(uri: str | None, port: int) -> str:
    """Return the address of a server, without a password; of `stepfold ui` for a database."""
    is_server = uri is not None and uri.startswith("http")
    return redact(str(uri)).rstrip("/") if is_server else f"http://127.0.0.1:{port}"


def ui_command(uri: str | None, run_root: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Build the command that serves a store's UI on loopback only, and its environment.

    The address is in the environment: it may hold a password, and every user can read the
    arguments of a process. Jobs are off because their runners double the start time.
    """
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    if uri is None:
        command += ["--default-artifact-root", str(run_root / "mlflow-artifacts")]
    environment = {
        "MLFLOW_BACKEND_STORE_URI": uri or default_uri(run_root),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return command, environment
