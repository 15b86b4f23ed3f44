"""The recipe's `data` section: which labelled samples a run is about."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from pipeline.documents import Document


class DigitsData(Document):
    """scikit-learn's 1,797 scans of handwritten digits, 8x8, one channel, ten classes."""

    source: Literal["digits"]
    holdout: Annotated[float, Field(gt=0, lt=1)] = 1 / 3
    shard_size: PositiveInt = 300


class ImageFolderData(Document):
    """A folder whose sub-folders are the classes, holding png, jpg or webp images.

    `size` is the side of the square images the network sees. `resize: refuse` accepts only images
    that already are that size; `crop` scales the short side and crops the centre.
    """

    source: Literal["image_folder"]
    path: str
    size: PositiveInt
    channels: Literal[1, 3] = 3
    resize: Literal["refuse", "crop"] = "refuse"
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.1
    shard_size: PositiveInt = 1000


class GaussianData(Document):
    """Samples of the class mixture that the Gaussian teacher knows exactly."""

    source: Literal["gaussian"]
    num_samples: PositiveInt = 2048
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.25
    shard_size: PositiveInt = 512


Data = Annotated[DigitsData | ImageFolderData | GaussianData, Field(discriminator="source")]
