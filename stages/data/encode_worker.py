"""Ray worker of stage `encode`: encode images and captions, or sample latents with the teacher.

The noise of a row depends only on the seed, the split and the row, so a repeated part has the same
bytes on any worker.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.bundle import Manifest
from pipeline.data.latents import NULL, read_null, write_null
from pipeline.data.records import RecordShards, write_records
from pipeline.data.shards.dataset_info import DatasetInfo, ShardInfo, read_info
from pipeline.data.shards.reader import stream_shard
from pipeline.data.shards.sample_encoding import StoredSample, decode_samples, to_unit_range
from pipeline.diffusion.ddim import sample
from pipeline.errors import DataError, DivergenceError
from pipeline.models.assemble import denoiser_of, load_module
from pipeline.models.stock.stock_pipeline import STOCK, StockPipeline
from pipeline.randomness import RowRandom
from pipeline.tensors import Condition, Latent

_SPLITS = ("train", "heldout")
_NOISE_STREAM = 1
_MASK_STREAM = 0  # random stream of the inpainting masks
_PROMPTS = 64  # per forward pass
_MOST_IMAGES = 256
_PIXELS = 2**22  # per forward pass: 16 images of 512 x 512


def open_worker(spec: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that encodes one shard of samples or captions per call."""
    return EncodeWorker(spec).serve


class TeacherSampler:
    """The guided teacher, loaded to sample latents for prompts."""

    def __init__(self, spec: dict[str, Any], null: Condition, device: torch.device) -> None:
        """Load the teacher.

        Args:
            spec: see `stages.data.encode.teacher_sampling_spec`.
            null: the null condition, one row.
            device: device of the network.

        Raises:
            BundleError: its weights cannot be loaded.
        """
        self._manifest = Manifest.model_validate(spec["manifest"])
        module = load_module(Path(spec["directory"]), self._manifest).to(device)
        self._denoiser = denoiser_of(self._manifest, module, null)
        self._steps, self._w, self._seed = spec["steps"], spec["w"], spec["seed"]
        self._device = device

    @torch.inference_mode()
    def draw(self, split: str, first: int, condition: Condition) -> Latent:
        """Sample the latents of rows from `first` on, one per row of the condition, float32."""
        count = len(next(iter(condition.values())))
        path = (self._seed, _NOISE_STREAM, _SPLITS.index(split))
        noise = RowRandom(path, first, count).normal("z_1", *self._manifest.latent_shape)
        weight = torch.full((count,), self._w, dtype=torch.float64, device=self._device)
        return sample(
            noise.to(self._device),
            self._denoiser.schedule,
            self._steps,
            lambda z_t, level: self._denoiser(z_t, level, condition, weight),
        )


class EncodeWorker:
    """The data and the components that encode it, which are loaded on first use."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._data = Path(spec["data"])
        self._scratch = Path(spec["scratch"])

    def serve(self, job: dict[str, Any]) -> dict[str, Any]:
        """Write a part unless it is complete; return the shape of its latents, if it has any."""
        tar = self._scratch / job["part"]
        if not self._is_complete(tar, job):
            tar.parent.mkdir(exist_ok=True)
            if _has_null(job):
                write_null(self._scratch / NULL, self.stock.null())
            chunks = self._conditions(job) if job["kind"] == "captions" else self._latents(job)
            write_records(tar, chunks)
        x = RecordShards([tar]).columns.get("x")
        return {"latent_shape": list(x.shape) if x else None}

    @cached_property
    def info(self) -> DatasetInfo:
        """Description of the data."""
        return read_info(self._data)

    @cached_property
    def stock(self) -> StockPipeline:
        """The stock pipeline without its network."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return STOCK.get(self._spec["pipeline"])(Path(self._spec["components"]), device)

    @cached_property
    def teacher(self) -> TeacherSampler:
        """The teacher that samples data without images."""
        return TeacherSampler(self._spec["teacher_sampling"], self.stock.null(), self.stock.device)

    def _is_complete(self, tar: Path, job: dict[str, Any]) -> bool:
        try:
            if _has_null(job):
                read_null(self._scratch / NULL)
            RecordShards([tar]).verify()
        except DataError:  # missing or incomplete
            return False
        return True

    def _conditions(self, job: dict[str, Any]) -> Iterator[dict[str, Tensor]]:
        if _has_null(job):
            yield _halved(self.stock.null(), "the null condition")
        captions = [caption for caption in job["captions"] if caption is not None]
        for first in range(0, len(captions), _PROMPTS):
            part = captions[first : first + _PROMPTS]
            yield _halved(self.stock.encode(part), f"{part[0]!r} and the captions after it")

    def _latents(self, job: dict[str, Any]) -> Iterator[dict[str, Tensor]]:
        _, height, width = self.info.latent_shape
        most = min(_MOST_IMAGES, max(1, _PIXELS // (height * width * job["copies"])))
        shard = ShardInfo(name=job["part"], first=job["first"], count=job["count"])
        samples = stream_shard(self._data, shard)
        rows = np.arange(shard.first, shard.first + shard.count)
        for chunk in np.array_split(rows, -(-len(rows) // most)):
            part, first = list(islice(samples, len(chunk))), int(chunk[0])
            make = self._sampled if job["kind"] == "prompts" else self._encoded
            columns = make(job, first, part)
            where = f"samples {first} to {chunk[-1]} of {job['part']}"
            _check_finite(columns["x"], f"the latents of {where}")
            yield {name: column.cpu() for name, column in columns.items()}

    def _encoded(
        self, job: dict[str, Any], first: int, part: list[StoredSample]
    ) -> dict[str, Tensor]:
        copies = job["copies"]
        x = torch.from_numpy(to_unit_range(decode_samples(self.info, part)))
        masks = RowRandom((_MASK_STREAM,), first * copies, len(part) * copies)
        extra = self.stock.extra_inputs(x.repeat_interleave(copies, dim=0), masks)
        if job["rows"]:
            rows = self._captions(job, first, part)
        else:
            rows = {"label": torch.tensor([sample.label() for sample in part])}
        columns = {"x": self.stock.to_latents(x), **rows}
        repeated = {name: each.repeat_interleave(copies, dim=0) for name, each in columns.items()}
        return {"x": repeated.pop("x"), **extra, **repeated}

    def _sampled(
        self, job: dict[str, Any], first: int, part: list[StoredSample]
    ) -> dict[str, Tensor]:
        rows = self._captions(job, first, part)
        sizes = {name: column for name, column in rows.items() if name != "caption"}
        texts = self.stock.encode([sample.caption().text for sample in part])
        return {"x": self.teacher.draw(job["split"], first, {**texts, **sizes}), **rows}

    def _captions(self, job: dict[str, Any], first: int, part: list[StoredSample]) -> Condition:
        """Return the caption row of each sample, and its sizes if the network reads them."""
        captions = [sample.caption() for sample in part]
        sizes = self.stock.sizes(
            [caption.original_size for caption in captions],
            [caption.crop for caption in captions],
            self.info.latent_shape[1],
        )
        start = first - job["first"]
        return {"caption": torch.tensor(job["rows"][start : start + len(part)]), **sizes}


def _has_null(job: dict[str, Any]) -> bool:
    return None in job.get("captions", ())


def _halved(condition: Condition, source: str) -> dict[str, Tensor]:
    halves = {name: tensor.half().cpu() for name, tensor in condition.items()}
    for name, tensor in halves.items():
        _check_finite(tensor, f"{name} of {source}, in half precision,")
    return halves


def _check_finite(values: Tensor, name: str) -> None:
    if not bool(values.isfinite().all()):
        raise DivergenceError(
            f"{name} are not finite; check the pipeline's components, or remove the sample"
        )
