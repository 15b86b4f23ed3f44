"""A look at a network right after its round: few samples, from the same noise as all others.

It is for people who watch, measures nothing that anything depends on, and leaves no trace in what
the round made.
"""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.documents import Document

if TYPE_CHECKING:
    from pipeline.sampling.sampler import Images

_SEED = 0
_BATCH = 64

_log = logging.getLogger(__name__)


class Drawing(Document):
    """Samples of one network.

    Attributes:
        bundle: the network; None for what the round itself makes.
        place: the file that they go to; if it is there they are not drawn again.
        steps: of the sampler.
    """

    bundle: str | None
    place: str
    steps: int


class Preview(Document):
    """What is drawn at the end of a round.

    Attributes:
        drawings: the networks.
        num: samples at each guidance weight.
        w: the guidance weights.
        data: the data set, whose captions are prompts.
        components: what surrounds networks of latents.
    """

    drawings: tuple[Drawing, ...]
    num: int
    w: tuple[float, ...]
    data: str
    components: str | None = None


def draw_preview(preview: Preview, made: Path) -> None:
    """Draw what is not there yet; whatever goes wrong is said in the log and costs nothing else.

    Args:
        preview: what to draw.
        made: the bundle that the round has made.
    """
    began = time.monotonic()
    try:
        missing = [each for each in preview.drawings if not Path(each.place).is_file()]
        for drawing in missing:
            _draw(preview, drawing, made)
    except Exception as error:  # a picture is worth no round
        _log.warning("no pictures of this round: %s", error)
    else:
        _log.info("pictures: %d set(s) in %.1f s", len(missing), time.monotonic() - began)


def read_drawing(place: Path) -> dict[float, "Images"]:
    """Samples by guidance weight; {} if there are none, or they are damaged."""
    try:
        with np.load(place, allow_pickle=False) as found:
            return {float(name): found[name] for name in found.files}
    except (OSError, ValueError, EOFError, KeyError):
        return {}


def _draw(preview: Preview, drawing: Drawing, made: Path) -> None:
    # what is imported for it alone; a worker that draws nothing does not pay
    from pipeline.sampling.conditions import asked_of, asked_pictures
    from pipeline.sampling.sampler import BundleSampler

    components = Path(preview.components) if preview.components else None
    bundle = Path(drawing.bundle) if drawing.bundle else made
    sampler = BundleSampler(bundle, components=components)
    data = Path(preview.data)
    asked = asked_of(data, preview.num)
    hides = sampler.paints_into_pictures
    pictures = asked_pictures(data, asked, 0, preview.num) if hides else None
    images = {
        str(w): sampler.sample(
            steps=drawing.steps,
            w=w,
            asked=asked.by_network,
            seed=_SEED,
            batch_size=_BATCH,
            pictures=pictures,
        )
        for w in preview.w
    }
    place = Path(drawing.place)
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.tmp")
    with temporary.open("wb") as file:
        np.savez(file, **images)  # type: ignore[arg-type] # names are free, one option is not
    temporary.replace(place)
