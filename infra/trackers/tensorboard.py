"""The TensorBoard tracker: a folder of event files for every chain and every training of a round.

TensorBoard has no registry of models and stores no files, so `register` and `log_files` do nothing.
Parameters, tags, inputs and the status of a run are in its `run.json`, and as a text in its events.
"""

import contextlib
import importlib.util
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from pipeline.durable import write_durably
from pipeline.errors import ConfigError, InfraError
from pipeline.tracking import InputData, Point, RunStatus, RunTracker, TrackerKind, UiServer

_STATE = "run.json"
_CHAIN = "chain"
_SUPERSEDED = "superseded"

_writers: dict[Path, Any] = {}  # one event file per run and process, as TensorBoard expects


class TensorBoardTracking(TrackerKind):
    """TensorBoard, in the folder of `tracking.uri`."""

    name: ClassVar[str] = "tensorboard"
    title: ClassVar[str] = "TensorBoard"

    def check(self) -> None:
        """See `check_installed`."""
        check_installed()

    def open(self) -> RunTracker:
        """Open the folder."""
        return TensorBoardTracker(self.config.address, self.run_root)

    def has_history(self) -> bool:
        """Whether the folder exists."""
        return log_folder(self.config.address, self.run_root).is_dir()

    def ui_server(self, port: int) -> UiServer:
        """See `ui_command`."""
        return UiServer(ui_command(self.config.address, self.run_root, port), "/")


class TensorBoardTracker(RunTracker):
    """The tracker of a folder; the id of a run is its folder below it.

    Args:
        uri: the folder; None for `tensorboard-logs` in `run_root`.
        run_root: directory of the run directories.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, uri: str | None, run_root: Path) -> None:
        check_installed()
        self._root = log_folder(uri, run_root)
        self._scalars: dict[tuple[str, str], dict[int, float]] = {}

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
        """See `RunTracker`; another training has a folder of its own."""
        with self._translated():
            run = self._find(key, name, parent, training)
            old = self._state(run)
            status = "RUNNING" if is_running else old.get("status", "FINISHED")
            tags = {**({"parent": parent} if parent else {}), **tags}
            known = old.get("params", {})
            for param, value in params.items():
                if known.get(param, str(value)) != str(value):
                    tags[f"changed.{param}"] = value
            self._update(
                run,
                key=key,
                name=name,
                status=status,
                params={**{each: str(value) for each, value in params.items()}, **known},
                tags={**self._tags(run), **{tag: str(value) for tag, value in tags.items()}},
            )
            if training is not None:
                self._supersede(run)
        return run

    def log(self, run: str, points: Iterable[Point], *, are_new: bool = False) -> None:
        """See `RunTracker`; TensorBoard shows the newest value at a step."""
        with self._writing(run) as writer:
            for name, value, step in points:
                stored = _float32(value)
                if not are_new and self._known(run, name).get(step) == stored:
                    continue
                writer.add_scalar(name, value, step)
                if (run, name) in self._scalars:
                    self._scalars[run, name][step] = stored

    def last_step(self, run: str, name: str) -> int:
        """See `RunTracker`."""
        with self._translated():
            return max(self._known(run, name), default=-1)

    def log_image(self, run: str, path: Path, name: str, step: int) -> None:
        """See `RunTracker`."""
        import numpy as np
        from PIL import Image

        with self._writing(run) as writer:
            with Image.open(path) as opened:
                pixels = np.asarray(opened.convert("RGB"))
            logged = [each for each in self._events(run, "images", name) if each.step == step]
            if logged:
                with Image.open(io.BytesIO(logged[-1].encoded_image_string)) as newest:
                    if np.array_equal(np.asarray(newest.convert("RGB")), pixels):
                        return
            writer.add_image(name, pixels, step, dataformats="HWC")

    def log_inputs(self, run: str, inputs: Sequence[InputData]) -> None:
        """See `RunTracker`; equal names replace each other."""
        found = {
            each.name: {
                "digest": each.digest,
                "place": str(each.place),
                "context": each.context,
                "profile": dict(each.profile),
            }
            for each in inputs
        }
        with self._translated():
            self._update(run, inputs={**self._state(run).get("inputs", {}), **found})

    def log_tags(self, run: str, tags: Mapping[str, object]) -> None:
        """See `RunTracker`."""
        found = {name: str(value) for name, value in tags.items()}
        with self._translated():
            self._update(run, tags={**self._tags(run), **found})

    def describe(self, run: str, markdown: str) -> None:
        """Log the description as a text of the run."""
        with self._writing(run) as writer:
            writer.add_text("description", markdown)

    def _do_nothing(self, *_: object, **__: object) -> None:
        return

    log_files = register = set_alias = _do_nothing

    def finish(self, run: str, status: RunStatus, *, unless_ended: bool = False) -> None:
        """End a run, and show its parameters, tags and inputs as a text."""
        with self._translated():
            if unless_ended and self._state(run).get("status") == status:
                return
            self._update(run, status=status)
            text = json.dumps(self._state(run), indent=1, sort_keys=True)
            with self._writing(run) as writer:
                writer.add_text("run", f"```\n{text}\n```")
            _writers.pop(self._root / run).close()

    def end_stale_runs(self, key: str) -> int:
        """See `RunTracker`."""
        with self._translated():
            folder = self._folder(key)
            runs = self._runs_below(folder) if folder else []
            stale = [run for run in runs if self._state(run)["status"] == "RUNNING"]
            for run in stale:
                self._update(run, status="KILLED")
        return len(stale)

    def url(self, key: str, port: int) -> str:
        """Return the address of the scalars of a chain and its rounds, while they are served."""
        folder = self._folder(key)
        chosen = f"?runFilter={quote(folder, safe='')}" if folder else ""
        return f"http://127.0.0.1:{port}/{chosen}#timeseries"

    def _folder(self, key: str) -> str | None:
        """Return the folder of a chain or round; None if the chain was never started."""
        chain, _, inside = key.partition("/")
        for state in self._root.glob(f"*/{_CHAIN}/{_STATE}"):
            run = state.parent
            if self._state(str(run.relative_to(self._root))).get("key") == chain:
                return f"{run.parent.name}/{inside}".rstrip("/")
        return None

    def _find(self, key: str, name: str, parent: str | None, training: str | None) -> str:
        if parent is None:
            # the name of the run, which others may have too, and the beginning of its id
            return f"{self._folder(key) or f'{name}-{key[:8]}'}/{_CHAIN}"
        folder = f"{Path(parent).parent}/{key.partition('/')[2]}"
        if training is not None:
            return f"{folder}/{training[:8]}"
        runs = [run for run in self._runs_below(folder) if _SUPERSEDED not in self._tags(run)]
        return next(iter(runs), f"{folder}/training")

    def _supersede(self, run: str) -> None:
        """Mark the other trainings of a round as superseded by this one, and unmark this one."""
        for other in self._runs_below(str(Path(run).parent)):
            tags = self._tags(other)
            if other == run:
                tags.pop(_SUPERSEDED, None)
            else:
                tags[_SUPERSEDED] = run
                if self._state(other)["status"] == "RUNNING":
                    self._update(other, status="KILLED")
            self._update(other, tags=tags)

    def _runs_below(self, folder: str) -> list[str]:
        places = sorted((self._root / folder).rglob(_STATE))
        return [str(place.parent.relative_to(self._root)) for place in places]

    def _tags(self, run: str) -> dict[str, str]:
        return dict(self._state(run).get("tags", {}))

    def _state(self, run: str) -> dict[str, Any]:
        place = self._root / run / _STATE
        found: dict[str, Any] = json.loads(place.read_text()) if place.is_file() else {}
        return found

    def _update(self, run: str, **values: Any) -> None:
        state = {**self._state(run), **values}
        write_durably(self._root / run / _STATE, json.dumps(state, indent=1))

    def _known(self, run: str, name: str) -> dict[int, float]:
        """Return the newest value of a metric at each of its steps."""
        if (run, name) not in self._scalars:
            found = self._events(run, "scalars", name)
            self._scalars[run, name] = {each.step: each.value for each in found}
        return self._scalars[run, name]

    def _events(self, run: str, kind: str, name: str) -> list[Any]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        sizes = {"scalars": 0, "images": 0}  # 0: all
        events = EventAccumulator(str(self._root / run), size_guidance=sizes)
        events.Reload()
        if name not in events.Tags()[kind]:
            return []
        found: list[Any] = events.Scalars(name) if kind == "scalars" else events.Images(name)
        return found

    @contextlib.contextmanager
    def _writing(self, run: str) -> Iterator[Any]:
        """Provide the writer of a run, and write to disk at the end of the block."""
        from torch.utils.tensorboard import SummaryWriter

        folder = self._root / run
        with self._translated():
            try:
                writer = _writers.get(folder) or SummaryWriter(str(folder))
                _writers[folder] = writer
                yield writer
                writer.flush()
            except Exception:
                _writers.pop(folder, None)  # it may have written half of an event
                self._scalars.clear()
                raise

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            raise InfraError(
                f"TensorBoard's folder {self._root} cannot be written ({error}); run again when it "
                "can. Metrics are kept in the rounds' metrics.jsonl"
            ) from error


def check_installed() -> None:
    """Check that TensorBoard is installed.

    Raises:
        ConfigError: it is not.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(
            "tracking.kind: tensorboard, but TensorBoard is not installed; run "
            "`pip install 'stepfold[tensorboard]'`"
        )


def log_folder(uri: str | None, run_root: Path) -> Path:
    """Return the folder of all event files."""
    return Path(uri).absolute() if uri else run_root.resolve() / "tensorboard-logs"


def ui_command(uri: str | None, run_root: Path, port: int) -> list[str]:
    """Build the command that serves the event files on loopback only."""
    command = [sys.executable, "-P", "-m", "tensorboard.main", "--host", "127.0.0.1"]
    return [*command, "--port", str(port), "--logdir", str(log_folder(uri, run_root))]


def _float32(value: float) -> float:
    import numpy as np

    return float(np.float32(value))
