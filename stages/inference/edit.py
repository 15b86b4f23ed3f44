"""Change a picture with a few-step student: redraw it from part of the way, or paint into it."""

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
from pipeline.sampling.editing import Wish, edit, inpaint, is_on_a_step, nearest_step
from pipeline.sampling.sampler import BundleSampler, Images
from stages.export.export import components_near
from stages.inference.output_file import check_output, grid, in_bytes, write_output

_WHITE = 127  # brighter than this is painted


@dataclass(frozen=True)
class Order:
    """What is to be done with a picture, and where the result goes.

    Attributes:
        bundle: a student, or a teacher.
        picture: a png, jpg or webp; scaled to cover what the network draws, its centre kept.
        output: `.png` gets the picture, or more than one in a row behind the one they were made
            of; `.npz` gets `images` float32 [n, h, w, c] in [-1, 1], `source` and what was asked.
        asked: its class, or the prompt.
        w: guidance weight, 0 is unguided.
        steps: of the sampler; what the student was made for if None.
        num: how many, each from other noise.
        seed: of the noise.
        components: what surrounds the network; those of the run it lies in if None.
    """

    bundle: Path
    picture: Path
    output: Path
    asked: int | str
    w: float
    steps: int | None = None
    num: int = 1
    seed: int = 0
    components: Path | None = None


@dataclass(frozen=True)
class Done:
    """What was done: steps taken out of how many, and whether the strength asked for was that."""

    taken: int
    steps: int
    is_exact: bool = True


def edit_picture(order: Order, strength: float) -> Done:
    """Noise a picture to the nearest time of the grid and take the remaining steps from there.

    Raises:
        ConfigError: a number or a file that cannot be.
        DataError: the picture cannot be read.
        BundleError: not a bundle, or one not made for this.
    """
    manifest, steps = _check(order)
    taken = nearest_step(strength, steps)
    opened = _open(order)
    source = read_picture(order.picture, opened)
    wish = _wish(order, manifest)
    drawn = edit(opened, source.repeat(order.num, 0), wish, steps=steps, taken=taken)
    write_pictures(order, source, drawn)
    return Done(taken, steps, is_on_a_step(strength, steps))


def inpaint_picture(order: Order, mask: Path) -> Done:
    """Paint into a picture where the mask is white.

    Raises:
        ConfigError: a number or a file that cannot be, or a mask of another size.
        DataError: picture or mask cannot be read.
        BundleError: not the bundle of an inpainting network.
    """
    manifest, steps = _check(order)
    opened = _open(order)
    with_picture, with_mask = (_size_of(path) for path in (order.picture, mask))
    if with_picture != with_mask:
        raise ConfigError(
            f"{mask} is {_by(with_mask)} and {order.picture} {_by(with_picture)}; give a mask of "
            "the picture's size, white where to paint"
        )
    source = read_picture(order.picture, opened)
    height, width = source.shape[1:3]
    white = _fitted(mask, "L", (width, height), Image.Resampling.NEAREST)[..., 0] > _WHITE
    masks = torch.from_numpy(np.broadcast_to(white, (order.num, 1, height, width)).copy()).float()
    drawn = inpaint(opened, source.repeat(order.num, 0), masks, _wish(order, manifest), steps=steps)
    write_pictures(order, source, drawn)
    return Done(steps, steps)


def read_picture(path: Path, opened: BundleSampler) -> Images:
    """A picture as float32 `[1, h, w, c]` in [-1, 1], of the size that a bundle draws.

    Raises:
        DataError: it cannot be read.
        BundleError: the bundle draws no pictures.
    """
    channels, height, width = opened.manifest.latent_shape
    if opened.stock is not None:
        scale = opened.stock.pixels_per_latent
        channels, height, width = 3, height * scale, width * scale
    if channels not in {1, 3} or height * width == 1:
        raise BundleError(
            f"this bundle draws samples of shape {opened.manifest.latent_shape}, which are no "
            "pictures; use one that draws pictures"
        )
    mode = "RGB" if channels == 3 else "L"
    pixels = _fitted(path, mode, (width, height), Image.Resampling.LANCZOS)
    return (pixels.astype(np.float32) / np.float32(127.5) - np.float32(1))[None]


def _check(order: Order) -> tuple[Manifest, int]:
    manifest = read_manifest(order.bundle)
    check_output(order.output, manifest)
    if order.num < 1:
        raise ConfigError(f"--num {order.num}: ask for at least one picture")
    steps = order.steps or (manifest.steps or (None,))[0]
    if steps is None:
        raise ConfigError("--steps: this bundle takes any number of steps; say how many")
    manifest.check_use(steps, order.w)
    if not order.picture.is_file():
        raise ConfigError(f"{order.picture} is no file; give a picture")
    return manifest, steps


def _open(order: Order) -> BundleSampler:
    components = order.components or components_near(order.bundle)
    return BundleSampler(order.bundle, components=components)


def _wish(order: Order, manifest: Manifest) -> Wish:
    if isinstance(order.asked, str) != manifest.network.reads_text:
        wanted = "--prompt TEXT" if manifest.network.reads_text else "--label CLASS"
        raise BundleError(f"this bundle has to be told what to draw by {wanted}")
    if isinstance(order.asked, str):
        return Wish((order.asked,) * order.num, order.w, order.seed)
    return Wish(np.full(order.num, order.asked, np.int64), order.w, order.seed)


def _size_of(path: Path) -> tuple[int, int]:
    if not path.is_file():
        raise ConfigError(f"{path} is no file; give a picture")
    return check_header(path, str(path))


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _fitted(
    path: Path, mode: Any, size: tuple[int, int], method: Image.Resampling
) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """An image as uint8 `[h, w, c]`, scaled to cover `size` (width, height), its centre kept."""
    check_header(path, str(path))
    image = decode_upright(path, str(path), mode)
    if image.size != size:
        image = ImageOps.fit(image, size, method)
    return np.atleast_3d(np.asarray(image))


def write_pictures(order: Order, source: Images, drawn: Images) -> None:
    """Put what was drawn where it is to go.

    Raises:
        ConfigError: it cannot be written.
    """
    if order.output.suffix == ".npz":
        key = "prompts" if isinstance(order.asked, str) else "labels"
        arrays: Mapping[str, Any] = {key: np.array([order.asked] * len(drawn)), "source": source}
        write_output(order.output, lambda file: np.savez(file, images=drawn, **arrays))
        return
    is_one = len(drawn) == 1
    pixels = in_bytes(drawn)[0] if is_one else grid(np.concatenate([source, drawn]), len(drawn) + 1)
    picture = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    write_output(order.output, lambda file: picture.save(file, format="PNG"))
