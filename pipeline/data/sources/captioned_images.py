"""Captioned images in files or tars, decoded when read, without classes."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipeline.config import CaptionedFolderData, CaptionedTarsData
from pipeline.data.sources.captions import Caption
from pipeline.data.sources.findings import Findings, find_copies
from pipeline.data.sources.images import (
    Cropped,
    File,
    crop_centre,
    decode_upright,
    refuse_transparent,
)
from pipeline.data.sources.loaded_source import LoadedSource, unlabelled_split
from pipeline.data.sources.quarantine import Quarantine
from pipeline.errors import DataError


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """One image and its caption.

    Attributes:
        name: name for error messages.
        text: the caption.
        sha256: digest of the image file.
        has_alpha: whether its header has an alpha channel.
        path: the image file, or the file that contains it.
        part: (offset, length) of the image in that file, in bytes; None for the whole file.
    """

    name: str
    text: str
    sha256: str
    has_alpha: bool
    path: Path
    part: tuple[int, int] | None = None

    def open(self) -> File:
        """Open the image file.

        Raises:
            DataError: the file that contains it cannot be read.
        """
        if self.part is None:
            return self.path
        try:
            with self.path.open("rb") as file:
                file.seek(self.part[0])
                return io.BytesIO(file.read(self.part[1]))
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be read ({error.strerror}); restore it and run again"
            ) from None


def open_captioned(
    config: CaptionedTarsData | CaptionedFolderData,
    images: Sequence[CaptionedImage],
    quarantine: Quarantine,
    seed: int,
) -> LoadedSource:
    """Build a source of captioned images, scaled to cover the recipe's square and cropped.

    Raises:
        DataError: there are too few images, or `data.alpha: refuse` and some are transparent.
    """
    if config.alpha == "refuse":
        refuse_transparent((image.open(), image.name) for image in images if image.has_alpha)
    contents = [image.sha256 for image in images]
    findings = Findings(
        kind="image",
        total=len(images),
        name=lambda index: images[index].name.removeprefix(config.path).lstrip("/"),
        background=config.alpha,
        with_alpha=[row for row, image in enumerate(images) if image.has_alpha],
        copies=find_copies(contents, None)[0],
    )

    @lru_cache(maxsize=1)  # pixels and caption of one image are read in sequence
    def cropped(index: int) -> Cropped:
        image = images[index]
        upright, was_transparent = decode_upright(image.open(), image.name, "RGB", config.alpha)
        findings.note_decoded(index, transparent=was_transparent)
        return crop_centre(upright, config.size)

    def caption(index: int) -> Caption:
        crop = cropped(index)
        return Caption(text=images[index].text, original_size=crop.original_size, crop=crop.corner)

    return LoadedSource(
        name=config.source,
        class_names=(),
        latent_shape=(3, config.size, config.size),
        encoding="png",
        labels=None,
        read=lambda index: cropped(index).pixels,
        splits=unlabelled_split(len(images), config.holdout, seed, config.path, contents),
        caption=caption,
        texts=[image.text for image in images],
        quarantine=quarantine,
        findings=findings,
    )
