"""Preview samples after a round: a few images, from the same noise for all networks.

Previews are for monitoring only: nothing depends on them and the round's artifacts do not include
them.
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


class PreviewSamples(Document):
    """Preview samples of one network.

    Attributes:
        bundle: bundle of the network; None for the round's own student.
        place: output file; existing files are not drawn again.
        steps: step count of the sampler.
    """

    bundle: str | None
    place: str
    steps: int


class Preview(Document):
    """The previews drawn at the end of a round.

    Attributes:
        drawings: one entry per network.
        num: samples per guidance weight.
        w: guidance weights.
        data: the sharded data set, whose captions are the prompts.
        components: directory of the autoencoder and text encoders, for networks of latents.
    """

    drawings: tuple[PreviewSamples, ...]
    num: int
    w: tuple[float, ...]
    data: str
    components: str | None = None


def draw_preview(preview: Preview, made: Path) -> None:
    """Draw missing preview samples; errors are logged and do not fail the round.

    `made` is the bundle of the round's student.
    """
    began = time.monotonic()
    try:
        missing = [each for each in preview.drawings if not Path(each.place).is_file()]
        for drawing in missing:
            _draw(preview, drawing, made)
    except Exception as error:  # a failed preview must not fail the round
        _log.warning("preview failed: %s", error)
    else:
        _log.info("preview: %d set(s) in %.1f s", len(missing), time.monotonic() - began)


def read_preview(place: Path) -> dict[float, "Images"]:
    """Load preview samples by guidance weight; {} if the file is missing or damaged."""
    try:
        with np.load(place, allow_pickle=False) as found:
            return {float(name): found[name] for name in found.files}
    except (OSError, ValueError, EOFError, KeyError):
        return {}


def _draw(preview: Preview, drawing: PreviewSamples, made: Path) -> None:
    # slow imports, which only a worker that draws previews needs
    from pipeline.sampling.conditions import choose_conditions, condition_images
    from pipeline.sampling.sampler import BundleSampler

    components = Path(preview.components) if preview.components else None
    bundle = Path(drawing.bundle) if drawing.bundle else made
    sampler = BundleSampler(bundle, components=components)
    data = Path(preview.data)
    conditions = choose_conditions(data, preview.num)
    inpaints = sampler.is_inpainting
    pictures = condition_images(data, conditions, 0, preview.num) if inpaints else None
    images = {
        str(w): sampler.sample(
            steps=drawing.steps,
            w=w,
            conditions=conditions.network_inputs,
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
        np.savez(file, **images)  # type: ignore[arg-type] # savez types any keyword as its option
    temporary.replace(place)
