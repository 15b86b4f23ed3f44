"""What a run holds beside the numbers of its training: curves, pictures, and what it was made from.

Everything may be told again, after a resume or because MLflow was away; it is there once. What was
made anew is told beside what was there, and is what MLflow shows.
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
"""Name of a metric, its value, its step."""


@dataclass(frozen=True)
class Source:
    """Data that a run was made from.

    Attributes:
        name: what a person calls it.
        digest: of its content.
        place: where it lies.
        context: what it was to the run, `training` for instance.
        profile: numbers about it.
    """

    name: str
    digest: str
    place: Path
    context: str
    profile: Mapping[str, object] = field(default_factory=dict)


def log_curves(store: MlflowStore, run_id: str, curves: Iterable[Point]) -> None:
    """Record (name, value, step) of metrics; what the run says already is left out.

    MLflow keeps every value that it was told. One that was measured anew and differs is told as
    well, also if it is an older one again: the last that was told at a step is what holds.

    Raises:
        InfraError: MLflow does not answer.
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


def log_picture(store: MlflowStore, run_id: str, picture: Path, key: str, step: int) -> None:
    """Show a PNG in the run's charts; the slider of its chart moves through the steps of a key.

    Of several at a step the chart shows the last that was told. One that is the same is left out.

    Raises:
        InfraError: MLflow does not answer.
    """
    from PIL import Image

    name = re.sub(r"[^0-9A-Za-z_\-./ ]", "_", key)
    place = f"images/{name.replace('/', '~')}+step+{step}+"  # as MLflow calls its files
    with store.client() as client, Image.open(picture) as opened:
        image = opened.convert("RGB")
        told = [file.path for file in client.list_artifacts(run_id, "images")]
        same_place = [path for path in told if path.startswith(place) and path.endswith(".png")]
        # the time follows the step in these names, so the greatest is the last
        if same_place and _shows(client, run_id, max(same_place), image):
            return
        client.log_image(run_id, image, key=name, step=step, synchronous=True)


def _shows(client: Any, run_id: str, path: str, image: "PIL.Image.Image") -> bool:
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        copy = client.download_artifacts(run_id, path, folder)
        try:
            with Image.open(copy) as told:
                return told.size == image.size and told.convert("RGB").tobytes() == image.tobytes()
        except OSError:  # no whole picture, of somebody who was killed
            return False


def log_sources(store: MlflowStore, run_id: str, sources: Sequence[Source]) -> None:
    """Say what a run was made from; MLflow lists it as the run's data sets.

    Raises:
        InfraError: MLflow does not answer.
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
    """Set tags of a run, in one call.

    Raises:
        InfraError: MLflow does not answer.
    """
    from mlflow.entities import RunTag

    with store.client() as client:
        client.log_batch(
            run_id, tags=[RunTag(ascii_name(name), text) for name, text in texts(tags).items()]
        )
