"""Edit an image with a few-step student: noise and resample it, or inpaint under a mask."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from pipeline.bundle import Manifest, read_manifest
from pipeline.data.sources.images import check_header, decode_upright
from pipeline.errors import BundleError, ConfigError
from pipeline.sampling.editing import EditTarget, edit, inpaint, is_on_grid, nearest_step
from pipeline.sampling.sampler import BundleSampler, Images
from stages.export.export import components_near
from stages.inference.output_file import check_output, image_grid, to_uint8, write_output

_WHITE = 127  # brighter than this is painted


@dataclass(frozen=True)
class EditRequest:
    """An image to edit, the network, and the output file.

    Attributes:
        bundle: a student, or a teacher.
        picture: a png, jpg or webp; scaled to cover the network's image size, and cropped
            centrally.
        output: `.png` gets the image, or several in a row after the input; `.npz` gets `images`
            float32 [n, h, w, c] in [-1, 1], `source` and the conditions.
        condition: target class, or prompt.
        w: guidance weight, 0 is unguided.
        steps: sampling steps; None for the student's own number.
        num: number of results, each from other noise.
        seed: noise seed.
        components: the network's stock pipeline without the network; None for that of its run.
    """

    bundle: Path
    picture: Path
    output: Path
    condition: int | str
    w: float
    steps: int | None = None
    num: int = 1
    seed: int = 0
    components: Path | None = None


@dataclass(frozen=True)
class EditResult:
    """Steps taken of the grid's steps, and changes to the request.

    Attributes:
        taken: steps taken.
        steps: steps of the grid.
        is_exact: whether the strength lies on the grid.
        was_transparent: whether transparent pixels of the image were filled with white.
    """

    taken: int
    steps: int
    is_exact: bool = True
    was_transparent: bool = False


@dataclass(frozen=True)
class SourcePicture:
    """An image to edit, float32 `[1, h, w, c]` in [-1, 1], and whether it was transparent."""

    pixels: Images
    was_transparent: bool


def edit_picture(request: EditRequest, strength: float) -> EditResult:
    """Noise an image to the nearest time of the grid, and sample the remaining steps from there.

    Raises:
        ConfigError: invalid number or file.
        DataError: the image cannot be read.
        BundleError: not a bundle, or one that does not support editing.
    """
    manifest, steps = _check(request)
    taken = nearest_step(strength, steps)
    sampler = _open_sampler(request)
    picture = read_picture(request.picture, sampler)
    source, target = picture.pixels, _edit_target(request, manifest)
    images = edit(sampler, source.repeat(request.num, 0), target, steps=steps, taken=taken)
    write_pictures(request, source, images)
    return EditResult(taken, steps, is_on_grid(strength, steps), picture.was_transparent)


def inpaint_picture(request: EditRequest, mask: Path) -> EditResult:
    """Inpaint an image where the mask is white.

    Raises:
        ConfigError: invalid number or file, or a mask of another size or with transparent pixels.
        DataError: image or mask cannot be read.
        BundleError: not the bundle of an inpainting network.
    """
    manifest, steps = _check(request)
    sampler = _open_sampler(request)
    picture_size, mask_size = (_size_of(path) for path in (request.picture, mask))
    if picture_size != mask_size:
        raise ConfigError(
            f"{mask}: mask size {_size_text(mask_size)} differs from image size "
            f"{_size_text(picture_size)}; give a mask of the image's size, white where to paint"
        )
    picture = read_picture(request.picture, sampler)
    source = picture.pixels
    height, width = source.shape[1:3]
    levels, has_holes = _load_fitted(mask, "L", (width, height), Image.Resampling.NEAREST)
    if has_holes:
        raise ConfigError(
            f"{mask}: the mask has transparent pixels, which are neither white nor black; save it "
            "without alpha channel, white where to paint"
        )
    white = levels[..., 0] > _WHITE
    masks = torch.from_numpy(np.broadcast_to(white, (request.num, 1, height, width)).copy()).float()
    images = inpaint(
        sampler, source.repeat(request.num, 0), masks, _edit_target(request, manifest), steps=steps
    )
    write_pictures(request, source, images)
    return EditResult(steps, steps, was_transparent=picture.was_transparent)


def read_picture(path: Path, sampler: BundleSampler) -> SourcePicture:
    """Read an image at the image size of a bundle; transparent pixels are filled with white.

    Raises:
        DataError: the image cannot be read.
        BundleError: the samples of the bundle are not images.
    """
    if not sampler.manifest.has_images:
        raise BundleError(
            f"{path}: this bundle has samples of shape {sampler.manifest.latent_shape}, which are "
            "not images; use a bundle of an image model"
        )
    channels, height, width = sampler.manifest.latent_shape
    if sampler.stock is not None:
        scale = sampler.stock.pixels_per_latent
        channels, height, width = 3, height * scale, width * scale
    mode = "RGB" if channels == 3 else "L"
    levels, was_transparent = _load_fitted(path, mode, (width, height), Image.Resampling.LANCZOS)
    pixels: Images = (levels.astype(np.float32) / np.float32(127.5) - np.float32(1))[None]
    return SourcePicture(pixels, was_transparent)


def _check(request: EditRequest) -> tuple[Manifest, int]:
    manifest = read_manifest(request.bundle)
    check_output(request.output, manifest)
    if request.num < 1:
        raise ConfigError(f"--num {request.num}: must be at least 1")
    steps = request.steps or manifest.own_steps
    if steps is None:
        raise ConfigError("--steps: required, because this bundle has no fixed number of steps")
    manifest.check_use(steps, request.w)
    if not request.picture.is_file():
        raise ConfigError(f"{request.picture}: file not found; give an image")
    return manifest, steps


def _open_sampler(request: EditRequest) -> BundleSampler:
    components = request.components or components_near(request.bundle)
    return BundleSampler(request.bundle, components=components)


def _edit_target(request: EditRequest, manifest: Manifest) -> EditTarget:
    if isinstance(request.condition, str) != manifest.network.reads_text:
        option = "--prompt TEXT" if manifest.network.reads_text else "--label CLASS"
        raise BundleError(f"this bundle needs another type of condition; give {option}")
    if isinstance(request.condition, str):
        return EditTarget((request.condition,) * request.num, request.w, request.seed)
    return EditTarget(np.full(request.num, request.condition, np.int64), request.w, request.seed)


def _size_of(path: Path) -> tuple[int, int]:
    if not path.is_file():
        raise ConfigError(f"{path}: file not found; give an image")
    header = check_header(path, str(path))
    return header.width, header.height


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _load_fitted(
    path: Path, mode: Any, size: tuple[int, int], method: Image.Resampling
) -> "tuple[np.ndarray[Any, np.dtype[np.uint8]], bool]":
    """Read an image as uint8 `[h, w, c]`, scaled to cover `size` (width, height) and cropped.

    Returns:
        The pixels, and whether some were transparent and are filled with white.
    """
    check_header(path, str(path))
    image, was_transparent = decode_upright(path, str(path), mode)
    if image.size != size:
        image = ImageOps.fit(image, size, method)
    return np.atleast_3d(np.asarray(image)), was_transparent


def write_pictures(request: EditRequest, source: Images, images: Images) -> None:
    """Write the results to the output file.

    Raises:
        ConfigError: the file cannot be written.
    """
    if request.output.suffix == ".npz":
        key = "prompts" if isinstance(request.condition, str) else "labels"
        arrays: Mapping[str, Any] = {
            key: np.array([request.condition] * len(images)),
            "source": source,
        }
        write_output(request.output, lambda file: np.savez(file, images=images, **arrays))
        return
    is_single_image = len(images) == 1
    pixels = (
        to_uint8(images)[0]
        if is_single_image
        else image_grid(np.concatenate([source, images]), len(images) + 1)
    )
    picture = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    write_output(request.output, lambda file: picture.save(file, format="PNG"))
