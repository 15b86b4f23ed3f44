"""The recipe's `data` section: which samples a run is about, with classes or sentences."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from pipeline.documents import Document

MaxBad = Annotated[float, Field(ge=0, lt=1)]
"""Share of a source's samples that may be set aside because they cannot be used."""


class DigitsData(Document):
    """scikit-learn's 1,797 scans of handwritten digits, 8x8, one channel, ten classes."""

    source: Literal["digits"]
    holdout: Annotated[float, Field(gt=0, lt=1)] = 1 / 3
    shard_size: PositiveInt = 300


class DigitCanvasesData(Document):
    """Coloured canvases on which two or three of scikit-learn's real digit scans stand as a number.

    The class is the number read, and all are equally many: each of the 10^digits there are, or
    those in `numbers`. A canvas that is held out shows scans that no training canvas shows.
    """

    source: Literal["digit_canvases"]
    digits: Literal[2, 3] = 2
    numbers: Annotated[tuple[NonNegativeInt, ...], Field(min_length=2)] | None = None
    size: Literal[16, 32] = 32
    per_class: PositiveInt = 100
    holdout_per_class: PositiveInt = 20
    shard_size: PositiveInt = 1000

    @property
    def holdout(self) -> float:
        """Share of all canvases that is held out."""
        return self.holdout_per_class / (self.per_class + self.holdout_per_class)

    @property
    def classes(self) -> tuple[int, ...]:
        """The number that each class is, in the order of the labels."""
        return self.numbers or tuple(range(10**self.digits))

    @model_validator(mode="after")
    def _numbers_have_these_digits(self) -> "DigitCanvasesData":
        strange = [number for number in self.classes if number >= 10**self.digits]
        if strange or len(set(self.classes)) != len(self.classes):
            raise ValueError(
                f"numbers: {strange or list(self.classes)} are not all different and of at most "
                f"{self.digits} digits; give each number once"
            )
        return self

    @model_validator(mode="after")
    def _digits_can_be_read(self) -> "DigitCanvasesData":
        if self.digits == 3 and self.size == 16:
            raise ValueError("three digits cannot be read at 16 pixels; use size: 32 or digits: 2")
        return self


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
    max_bad: MaxBad = 0.001
    shard_size: PositiveInt = 1000


class CaptionedDigitsData(Document):
    """One real digit scan in coloured ink on coloured paper, and a sentence that says so.

    The class is the digit. Wording varies; digit, ink and paper are always said. A canvas that is
    held out shows a scan that no training canvas shows.
    """

    source: Literal["captioned_digits"]
    size: Literal[16, 32] = 16
    count: PositiveInt = 6000
    holdout_count: PositiveInt = 600
    shard_size: PositiveInt = 1000

    @property
    def holdout(self) -> float:
        """Share of all samples that is held out."""
        return self.holdout_count / (self.count + self.holdout_count)


class CaptionedTarsData(Document):
    """Webdataset tars as img2dataset writes them: a jpg, png or webp beside a txt or json.

    `path` is a folder of tars. Images are scaled so that they cover `size` x `size` and cropped to
    it; what size they had and where they were cropped is kept.
    """

    source: Literal["captioned_tars"]
    path: str
    size: PositiveInt
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.02
    max_bad: MaxBad = 0.001
    shard_size: PositiveInt = 1000


class CaptionedFolderData(Document):
    """A folder of images and a table of captions: csv, jsonl or parquet.

    The table lies in the folder and has the columns `file_name` and `text`, as Hugging Face's
    `imagefolder` has them. Sizes as in `CaptionedTarsData`.
    """

    source: Literal["captioned_folder"]
    path: str
    captions: str = "metadata.jsonl"
    size: PositiveInt
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.02
    max_bad: MaxBad = 0.001
    shard_size: PositiveInt = 1000


class PromptsData(Document):
    """Sentences without images: what the teacher itself draws for them is what is learnt from.

    `path` is a text file with a sentence a line, or a csv, jsonl or parquet table with the column
    `text`. Each is drawn once, at the side `size`, in so many DDIM `steps` at guidance weight `w`;
    without guidance, w = 0, the samples are spread as the teacher's training data were.
    """

    source: Literal["prompts"]
    path: str
    size: PositiveInt
    steps: PositiveInt = 50
    w: NonNegativeFloat = 0
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.02
    max_bad: MaxBad = 0.001
    shard_size: PositiveInt = 1000


class GaussianData(Document):
    """Samples of the class mixture that the Gaussian teacher knows exactly."""

    source: Literal["gaussian"]
    num_samples: PositiveInt = 2048
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.25
    shard_size: PositiveInt = 512


CaptionedData = CaptionedDigitsData | CaptionedTarsData | CaptionedFolderData | PromptsData
"""Sources whose samples have a sentence each."""

UnclassedData = CaptionedTarsData | CaptionedFolderData | PromptsData
"""Sources whose samples have no class, so that no classifier of their own can be trained."""

FilesData = ImageFolderData | CaptionedTarsData | CaptionedFolderData | PromptsData
"""Sources that lie at a `path` of the user's."""

Data = Annotated[
    DigitsData | DigitCanvasesData | ImageFolderData | CaptionedData | GaussianData,
    Field(discriminator="source"),
]
