"""What a teacher draws for prompts, where that is all the data there are.

Row i of a split starts from the same noise whoever draws it, so a part that is drawn again has the
same bytes.
"""

from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.bundle import Manifest
from pipeline.data.latents import NULL, read_null, write_null
from pipeline.data.records import RecordShards, write_records
from pipeline.data.shards.reader import SampleShards
from pipeline.diffusion.solver import sample
from pipeline.errors import DataError, DivergenceError
from pipeline.models.assemble import denoiser_of, load_module
from pipeline.models.stock.stock_pipeline import STOCK, StockPipeline
from pipeline.randomness import RowRandom
from pipeline.tensors import Condition, Latent

_STREAM = 1

_SPLITS = ("train", "heldout")


class TeacherSamples:
    """The guided teacher, loaded to draw latents of prompts."""

    def __init__(self, how: dict[str, Any], null: Condition, device: torch.device) -> None:
        """Load it.

        Args:
            how: see `stages.data.encode.drawing`.
            null: the condition "nothing", one row.
            device: where it runs.

        Raises:
            BundleError: its weights cannot be loaded.
        """
        self._manifest = Manifest.model_validate(how["manifest"])
        module = load_module(Path(how["directory"]), self._manifest).to(device)
        self._denoiser = denoiser_of(self._manifest, module, null)
        self._steps, self._w, self._seed = how["steps"], how["w"], how["seed"]
        self._device = device

    @torch.inference_mode()
    def draw(self, split: str, first: int, condition: Condition) -> Latent:
        """The latents of rows from `first` on, one for each row of the condition, float32."""
        count = len(next(iter(condition.values())))
        path = (self._seed, _STREAM, _SPLITS.index(split))
        noise = RowRandom(path, first, count).normal("z_1", *self._manifest.latent_shape)
        weight = torch.full((count,), self._w, dtype=torch.float64, device=self._device)
        return sample(
            noise.to(self._device),
            self._denoiser.schedule,
            self._steps,
            lambda z_t, level: self._denoiser(z_t, level, condition, weight),
        )


_MASKS = 0  # stream of what is hidden of each sample

_PROMPTS = 64  # in one question

_MOST_IMAGES = 256

_PIXELS = 2**22  # of the images in one question: 16 of 512 x 512


def open_worker(spec: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that encodes one shard of samples or of captions a call."""
    return EncodeWorker(spec).serve


class EncodeWorker:
    """The data, and the parts that encode it, which are loaded when they are first needed."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._data = Path(spec["data"])
        self._scratch = Path(spec["scratch"])
        self._split = lru_cache(maxsize=1)(lambda split: SampleShards(self._data, split))

    def serve(self, job: dict[str, Any]) -> dict[str, Any]:
        """See that a part is there and whole; gives the shape of its latents, if it has any."""
        tar = self._scratch / job["part"]
        if not self._is_made(tar, job):
            tar.parent.mkdir(exist_ok=True)
            if _holds_null(job):
                write_null(self._scratch / NULL, self.stock.null())
            chunks = self._conditions(job) if job["kind"] == "captions" else self._latents(job)
            write_records(tar, chunks)
        x = RecordShards([tar]).columns.get("x")
        return {"latent_shape": list(x.shape) if x else None}

    @cached_property
    def stock(self) -> StockPipeline:
        """The pipeline without its network."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return STOCK.get(self._spec["pipeline"])(Path(self._spec["components"]), device)

    @cached_property
    def teacher(self) -> TeacherSamples:
        """Its network, to draw where there are no images."""
        return TeacherSamples(self._spec["drawing"], self.stock.null(), self.stock.device)

    def _is_made(self, tar: Path, job: dict[str, Any]) -> bool:
        try:
            if _holds_null(job):
                read_null(self._scratch / NULL)
            RecordShards([tar]).verify()
        except DataError:  # there is none yet, or only a beginning
            return False
        return True

    def _conditions(self, job: dict[str, Any]) -> Iterator[dict[str, Tensor]]:
        if _holds_null(job):
            yield _halved(self.stock.null(), "nothing")
        captions = [caption for caption in job["captions"] if caption is not None]
        for first in range(0, len(captions), _PROMPTS):
            part = captions[first : first + _PROMPTS]
            yield _halved(self.stock.encode(part), f"{part[0]!r} and what follows it")

    def _latents(self, job: dict[str, Any]) -> Iterator[dict[str, Tensor]]:
        is_drawn = job["kind"] == "prompts"
        _, height, width = self._split(job["split"]).info.latent_shape
        most = min(_MOST_IMAGES, max(1, _PIXELS // (height * width)))
        rows = np.arange(job["first"], job["first"] + job["count"])
        for chunk in np.array_split(rows, -(-len(rows) // most)):
            columns = self._drawn(job, chunk) if is_drawn else self._encoded(job, chunk)
            where = f"samples {chunk[0]} to {chunk[-1]} of {job['part']}"
            _check_finite(columns["x"], f"the latents of {where}")
            yield {name: column.cpu() for name, column in columns.items()}

    def _encoded(self, job: dict[str, Any], chunk: NDArray[np.int64]) -> dict[str, Tensor]:
        batch = self._split(job["split"]).read(chunk)
        beside = self.stock.beside(batch.x, RowRandom((_MASKS,), int(chunk[0]), len(chunk)))
        said = self._said(job, chunk) if job["rows"] else {"label": batch.condition["label"]}
        return {"x": self.stock.to_latents(batch.x), **beside, **said}

    def _drawn(self, job: dict[str, Any], chunk: NDArray[np.int64]) -> dict[str, Tensor]:
        told = self._split(job["split"]).captions(chunk)
        said = self._said(job, chunk)
        sizes = {name: column for name, column in said.items() if name != "caption"}
        condition = {**self.stock.encode([caption.text for caption in told]), **sizes}
        return {"x": self.teacher.draw(job["split"], int(chunk[0]), condition), **said}

    def _said(self, job: dict[str, Any], chunk: NDArray[np.int64]) -> Condition:
        """Which caption each sample has, and its sizes where the network is told."""
        samples = self._split(job["split"])
        told = samples.captions(chunk)
        sizes = self.stock.sizes(
            [caption.original_size for caption in told],
            [caption.crop for caption in told],
            samples.info.latent_shape[1],
        )
        caption = torch.tensor(job["rows"])[torch.from_numpy(chunk - job["first"])]
        return {"caption": caption, **sizes}


def _holds_null(job: dict[str, Any]) -> bool:
    return None in job.get("captions", ())


def _halved(condition: Condition, whose: str) -> dict[str, Tensor]:
    halves = {name: tensor.half().cpu() for name, tensor in condition.items()}
    for name, tensor in halves.items():
        _check_finite(tensor, f"{name} of {whose}, in half precision,")
    return halves


def _check_finite(values: Tensor, whose: str) -> None:
    if not bool(values.isfinite().all()):
        raise DivergenceError(
            f"{whose} are not finite; check the pipeline's parts, or take out the sample"
        )
