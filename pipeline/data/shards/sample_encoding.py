"""Encoding of samples in shards: 8-bit images as png, other samples as npy without pickles."""

import io

import numpy as np
from PIL import Image

from pipeline.data.sources.loaded_source import Encoding, Sample

DTYPES: dict[Encoding, type[np.generic]] = {"png": np.uint8, "npy": np.float32}


def encode(sample: Sample, encoding: Encoding) -> bytes:
    """Encode a sample `[c, h, w]`; png supports one or three channels of uint8."""
    if sample.dtype != DTYPES[encoding]:
        raise TypeError(f"{encoding} samples are {DTYPES[encoding].__name__}, got {sample.dtype}")
    buffer = io.BytesIO()
    if encoding == "npy":
        np.save(buffer, np.ascontiguousarray(sample), allow_pickle=False)
    else:
        pixels = sample.transpose(1, 2, 0)
        Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def decode(content: bytes, encoding: Encoding, shape: tuple[int, int, int]) -> Sample:
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
