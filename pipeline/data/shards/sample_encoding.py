"""Samples in shards: 8-bit images as png, other samples as npy without pickles."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image
from pydantic import ValidationError

from pipeline.data.shards.dataset_info import DatasetInfo
from pipeline.data.shards.tar_index import first_problem
from pipeline.data.sources.captions import Caption
from pipeline.data.sources.loaded_source import Encoding, Sample
from pipeline.errors import DataError
from pipeline.shapes import LatentShape

REMAKE = "delete the data set and run again to rebuild it"

DTYPES: dict[Encoding, type[np.generic]] = {"png": np.uint8, "npy": np.float32}


def encode(sample: Sample, encoding: Encoding) -> bytes:
    """Encode a sample; png supports uint8 `[c, h, w]` of one or three channels."""
    if sample.dtype != DTYPES[encoding]:
        raise TypeError(f"{encoding} samples are {DTYPES[encoding].__name__}, got {sample.dtype}")
    buffer = io.BytesIO()
    if encoding == "npy":
        np.save(buffer, np.ascontiguousarray(sample), allow_pickle=False)
    else:
        pixels = sample.transpose(1, 2, 0)
        Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def decode(content: bytes, encoding: Encoding, shape: LatentShape) -> Sample:
    """Decode a sample encoded by `encode`.

    Raises:
        ValueError: the content is not a sample of this encoding and shape.
    """
    try:
        sample = _decode_png(content) if encoding == "png" else _decode_npy(content)
    except Exception as error:  # decoders raise many kinds of errors
        raise ValueError(f"not a readable {encoding} ({error})") from None
    if sample.shape != shape or sample.dtype != DTYPES[encoding]:
        raise ValueError(f"{sample.dtype} {sample.shape} instead of {shape}")
    return sample


def to_unit_range(samples: Sample) -> Sample:
    """Convert decoded samples to float32: uint8 0..255 to [-1, 1], floats unchanged."""
    if samples.dtype == np.uint8:
        return samples.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return samples.astype(np.float32, copy=False)


def _decode_png(content: bytes) -> Sample:
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        pixels = np.asarray(image)
    return np.atleast_3d(pixels).transpose(2, 0, 1)


def _decode_npy(content: bytes) -> Sample:
    sample: Sample = np.load(io.BytesIO(content), allow_pickle=False)
    return sample


@dataclass(frozen=True)
class StoredSample:
    """One sample of a shard; a member is decoded when it is read.

    Attributes:
        info: description of the data set.
        name: name for error messages.
        content: function from extension to the bytes of the member.
    """

    info: DatasetInfo
    name: str
    content: Callable[[str], bytes]

    def x(self) -> Sample:
        """Decode the sample `[c, *axes]`.

        Raises:
            DataError: it is damaged, or the data set has captions only.
        """
        encoding = self.info.encoding
        if encoding is None:
            raise DataError(
                f"data from {self.info.source} has captions without images; generate the images "
                "with the teacher"
            )
        with self._reading():
            return decode(self.content(encoding), encoding, self.info.latent_shape)

    def label(self) -> int:
        """Read the class.

        Raises:
            DataError: it is out of range.
        """
        with self._reading():
            label = int(self.content("cls"))
            if not 0 <= label < self.info.num_classes:
                raise ValueError(f"class {label} is not in 0 .. {self.info.num_classes - 1}")
            return label

    def caption(self) -> Caption:
        """Read the caption.

        Raises:
            DataError: it is damaged.
        """
        with self._reading():
            try:
                return Caption.model_validate_json(self.content("json"))
            except ValidationError as error:
                raise ValueError(f"invalid caption ({first_problem(error)})") from None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise DataError(f"{self.name}: {error}; {REMAKE}") from None


def decode_samples(info: DatasetInfo, samples: Sequence[StoredSample]) -> Sample:
    """Decode samples of one data set to a contiguous `[n, c, *axes]`.

    Raises:
        DataError: one is damaged, or the data set has captions only.
    """
    decoded = np.empty((len(samples), *info.latent_shape), DTYPES[info.encoding or "npy"])
    for place, sample in enumerate(samples):
        decoded[place] = sample.x()
    return decoded


def sample_key(position: int) -> str:
    """Return the key of a sample, its position in the split."""
    return f"{position:09d}"
