"""Content of an MLflow run besides training metrics: curves, images, input data sets and tags.

All functions are idempotent, so they can be repeated after a resume or an outage of MLflow. Values
that changed are added to the existing ones, and MLflow shows the newest.
"""

import json
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.mlflow.store import MlflowStore
from infra.mlflow.values import ascii_name, points, texts

if TYPE_CHECKING:
    import PIL.Image

_POINTS_PER_CALL = 1000
_MAX_DIGEST = 36  # characters that MLflow allows


Point = tuple[str, float, int]
"""(metric name, value, step)."""


@dataclass(frozen=True)
class InputData:
    """An input data set of a run.

    Attributes:
        name: display name.
        digest: digest of its content.
        place: path of the data.
        context: role in the run, for example `training`.
        profile: statistics of the data.
    """

    name: str
    digest: str
    place: Path
    context: str
    profile: Mapping[str, object] = field(default_factory=dict)


def log_curves(store: MlflowStore, run_id: str, curves: Iterable[Point]) -> None:
    """Log (name, value, step) of metrics, except values that the run already has.

    MLflow keeps all logged values and the newest at a step is valid. A changed value is logged
    again, also if it equals an older one.

    Raises:
        InfraError: MLflow is unreachable.
    """
    wanted = {(name, step): value for name, value, step in curves}
    known = {name: store.newest(run_id, name) for name in {name for name, _ in wanted}}
    new = [
        point
        for (name, step), value in wanted.items()
        if known[name].get(step) != value
        for point in points({name: value}, step)
    ]
    for first in range(0, len(new), _POINTS_PER_CALL):
        store.log_points(run_id, new[first : first + _POINTS_PER_CALL])


def log_image(store: MlflowStore, run_id: str, picture: Path, key: str, step: int) -> None:
    """Log a PNG to the run's charts, which have a slider over the steps of a key.

    The chart shows the newest image at a step. An image equal to the newest is not logged again.

    Raises:
        InfraError: MLflow is unreachable.
    """
    from PIL import Image

    name = re.sub(r"[^0-9A-Za-z_\-./ ]", "_", key)
    place = f"images/{name.replace('/', '~')}+step+{step}+"  # MLflow's file name
    with store.client() as client, Image.open(picture) as opened:
        image = opened.convert("RGB")
        logged = [file.path for file in client.list_artifacts(run_id, "images")]
        same_place = [path for path in logged if path.startswith(place) and path.endswith(".png")]
        # the time follows the step in these names, so the maximum is the newest
        if same_place and _is_equal(client, run_id, max(same_place), image):
            return
        client.log_image(run_id, image, key=name, step=step, synchronous=True)


def _is_equal(client: Any, run_id: str, path: str, image: "PIL.Image.Image") -> bool:
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        copy = client.download_artifacts(run_id, path, folder)
        try:
            with Image.open(copy) as old:
                return old.size == image.size and old.convert("RGB").tobytes() == image.tobytes()
        except OSError:  # an incomplete image, left by a killed process
            return False


def log_inputs(store: MlflowStore, run_id: str, sources: Sequence[InputData]) -> None:
    """Log the input data sets of a run.

    Raises:
        InfraError: MLflow is unreachable.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            Dataset(
                name=source.name,
                digest=source.digest[:_MAX_DIGEST],
                source_type="local",
                source=json.dumps({"uri": str(source.place)}),
                profile=json.dumps(dict(source.profile)),
            ),
            [InputTag("mlflow.data.context", source.context)],
        )
        for source in sources
    ]
    with store.client() as client:
        client.log_inputs(run_id, datasets=inputs)


def log_tags(store: MlflowStore, run_id: str, tags: Mapping[str, object]) -> None:
    """Set tags of a run in one call.

    Raises:
        InfraError: MLflow is unreachable.
    """
    from mlflow.entities import RunTag

    with store.client() as client:
        client.log_batch(
            run_id, tags=[RunTag(ascii_name(name), text) for name, text in texts(tags).items()]
        )
