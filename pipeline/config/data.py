"""The `data` section of a recipe: the data set, with classes or captions."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from pipeline.config.teacher import NetworkConfig
from pipeline.documents import Document, OpenUnion
from pipeline.registry import Registry
from pipeline.shapes import LatentShape

Holdout = Annotated[
    float,
    Field(
        gt=0,
        lt=1,
        description="Fraction of samples that are kept out of training, for evaluation.",
    ),
]

MaxBad = Annotated[
    float,
    Field(
        ge=0,
        lt=1,
        description="Largest fraction of unreadable samples to skip, in [0, 1). Above it the run "
        "stops. Unless it is 0, 5 samples may always be skipped, or one in 20 of fewer than 100.",
    ),
]

ShardSize = Annotated[PositiveInt, Field(description="Samples per shard file.")]

AlphaFill = Literal["white", "black", "grey", "refuse"]
"""Fill of transparent pixels, or their refusal."""

TrainingSize = Annotated[
    PositiveInt, Field(description="Width and height of the training images in pixels.")
]


class DataConfig(Document):
    """Properties of a data source that a recipe uses; the defaults fit RGB images with classes.

    A source declares its own as a subclass, with its name as the only value of `source`. It has
    keys or properties `holdout` and `shard_size`, and either `size` or a `sample_shape`. A source
    that reads files or a folder of the user names it with the key `path`.
    """

    encoding: ClassVar[Literal["png", "npy"] | None] = "png"
    """Storage format of samples: `png` for images, `npy` for float32, None for captions only."""

    has_classes: ClassVar[bool] = True
    """Whether samples have classes, on which an evaluation classifier is trained."""

    has_captions: ClassVar[bool] = False
    """Whether samples have captions."""

    source: str
    """Data set."""

    masks_per_image: PositiveInt = 4
    """Random masks of each training image, for an inpainting teacher. Each is a training sample."""

    if TYPE_CHECKING:

        @property
        def holdout(self) -> float:
            """Fraction of samples that are kept out of training, for evaluation."""

        @property
        def shard_size(self) -> int:
            """Samples per shard file."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Check that the source has the keys that every source needs.

        Raises:
            TypeError: one is missing.
        """
        super().__pydantic_init_subclass__(**kwargs)
        missing = [
            key for key in ("holdout", "shard_size") if key not in {*cls.model_fields, *dir(cls)}
        ]
        has_shape = cls.sample_shape is not DataConfig.sample_shape or "size" in cls.model_fields
        if "source" in vars(cls)["__annotations__"] and (missing or not has_shape):
            raise TypeError(
                f"{cls.__name__} lacks {', '.join([*missing, *([] if has_shape else ['size'])])}"
            )

    def sample_shape(self, network: NetworkConfig) -> LatentShape:  # noqa: ARG002 (for overriding methods)
        """Return (channels, axis, ...) of a sample, by default of an RGB image of `size`."""
        size: int = getattr(self, "size")  # noqa: B009 (a key of the subclass)
        return (3, size, size)

    @property
    def place(self) -> str | None:
        """Path of the user's files, if the source reads any."""
        return getattr(self, "path", None)


class DigitsData(DataConfig):
    """scikit-learn's 1,797 handwritten digits: 8x8 pixels, one channel, ten classes."""

    source: Literal["digits"]
    """Data set: `digits`."""

    holdout: Holdout = 1 / 3
    shard_size: ShardSize = 300

    def sample_shape(self, network: NetworkConfig) -> LatentShape:  # noqa: ARG002
        """Return the shape of an 8x8 image of one channel."""
        return (1, 8, 8)


class DigitCanvasesData(DataConfig):
    """Synthetic colour images of two- or three-digit numbers, composed of scikit-learn's digits.

    The class is the number; all classes have equally many images. Training and held-out images are
    composed of different scans.
    """

    source: Literal["digit_canvases"]
    """Data set: `digit_canvases`."""

    digits: Literal[2, 3] = 2
    """Digits per number."""

    numbers: Annotated[tuple[NonNegativeInt, ...], Field(min_length=2)] | None = None
    """Numbers to use as classes. Default: all, 0 to 10^digits - 1."""

    size: Literal[16, 32] = 32
    """Width and height of an image in pixels."""

    per_class: PositiveInt = 100
    """Training images per class."""

    holdout_per_class: PositiveInt = 20
    """Held-out images per class, for evaluation."""

    shard_size: ShardSize = 1000

    @property
    def holdout(self) -> float:
        """Return the fraction of held-out images."""
        return self.holdout_per_class / (self.per_class + self.holdout_per_class)

    @property
    def classes(self) -> tuple[int, ...]:
        """Return the number that each class shows, in the order of the labels."""
        return self.numbers or tuple(range(10**self.digits))

    @model_validator(mode="after")
    def _numbers_have_these_digits(self) -> "DigitCanvasesData":
        limit = 10**self.digits
        too_large = [number for number in self.classes if number >= limit]
        if too_large:
            raise ValueError(f"numbers: {too_large} have more than {self.digits} digits")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"numbers: {list(self.classes)} has duplicates; list each number once")
        return self

    @model_validator(mode="after")
    def _digits_can_be_read(self) -> "DigitCanvasesData":
        if self.digits == 3 and self.size == 16:
            raise ValueError("three digits are illegible at 16 pixels; use size: 32 or digits: 2")
        return self


class ImageFolderData(DataConfig):
    """A folder with one sub-folder per class that contains png, jpg or webp images."""

    source: Literal["image_folder"]
    """Data set: `image_folder`."""

    path: str
    """Folder whose sub-folders are the classes."""

    size: TrainingSize

    channels: Literal[1, 3] = 3
    """Image channels: 1 for grey, 3 for RGB."""

    resize: Literal["refuse", "crop"] = "refuse"
    """Images of another size: `refuse` them, or scale the short side to `size` and `crop` the
    centre."""

    alpha: AlphaFill = "white"
    """Transparent pixels: fill them with `white`, `black` or `grey` before scaling, or `refuse`
    images that have any."""

    holdout: Holdout = 0.1
    max_bad: MaxBad = 0.001
    shard_size: ShardSize = 1000

    def sample_shape(self, network: NetworkConfig) -> LatentShape:  # noqa: ARG002
        """Return the shape of an image of these channels."""
        return (self.channels, self.size, self.size)


class CaptionedDigitsData(DataConfig):
    """Synthetic colour images of one digit, each with a caption that names digit and colours.

    The class is the digit. The wording of the captions varies. Training and held-out images are
    composed of different scans.
    """

    has_captions: ClassVar[bool] = True

    source: Literal["captioned_digits"]
    """Data set: `captioned_digits`."""

    size: Literal[16, 32] = 16
    """Width and height of an image in pixels."""

    count: PositiveInt = 6000
    """Number of training images."""

    holdout_count: PositiveInt = 600
    """Number of held-out images, for evaluation."""

    shard_size: ShardSize = 1000

    @property
    def holdout(self) -> float:
        """Return the fraction of held-out images."""
        return self.holdout_count / (self.count + self.holdout_count)


class CaptionedTarsData(DataConfig):
    """WebDataset tars as img2dataset writes them: an image with a txt or json caption.

    Images are scaled to cover `size` x `size` and cropped to it. Original sizes and crop offsets
    are stored with the samples.
    """

    has_classes: ClassVar[bool] = False
    has_captions: ClassVar[bool] = True

    source: Literal["captioned_tars"]
    """Data set: `captioned_tars`."""

    path: str
    """Folder of tar files."""

    size: TrainingSize

    alpha: AlphaFill = "white"
    """Transparent pixels: fill them with `white`, `black` or `grey` before scaling, or `refuse`
    images that have any."""

    holdout: Holdout = 0.02
    max_bad: MaxBad = 0.001
    shard_size: ShardSize = 1000


class CaptionedFolderData(DataConfig):
    """A folder of images with a caption table, as in Hugging Face's `imagefolder`.

    Images are scaled and cropped as those of `captioned_tars`.
    """

    has_classes: ClassVar[bool] = False
    has_captions: ClassVar[bool] = True

    source: Literal["captioned_folder"]
    """Data set: `captioned_folder`."""

    path: str
    """Folder of images."""

    captions: str = "metadata.jsonl"
    """Caption table in that folder: csv, jsonl or parquet with the columns `file_name`, `text`."""

    size: TrainingSize

    alpha: AlphaFill = "white"
    """Transparent pixels: fill them with `white`, `black` or `grey` before scaling, or `refuse`
    images that have any."""

    holdout: Holdout = 0.02
    max_bad: MaxBad = 0.001
    shard_size: ShardSize = 1000


class PromptsData(DataConfig):
    """Prompts without images; the teacher generates one training image per prompt."""

    encoding: ClassVar[Literal["png", "npy"] | None] = None
    has_classes: ClassVar[bool] = False
    has_captions: ClassVar[bool] = True

    source: Literal["prompts"]
    """Data set: `prompts`."""

    path: str
    """Text file with one prompt per line, or csv, jsonl or parquet table with the column `text`."""

    size: PositiveInt
    """Width and height of the generated images in pixels."""

    steps: PositiveInt = 50
    """DDIM steps per generated image."""

    w: NonNegativeFloat = 0
    """Guidance weight of the generated images. The default 0, no guidance, reproduces the
    distribution of the teacher's training data best."""

    holdout: Holdout = 0.02
    max_bad: Annotated[float, Field(ge=0, lt=1)] = 0.001
    """Largest fraction of unusable prompts to skip, in [0, 1). Above it the run stops. Unless it is
    0, 5 prompts may always be skipped, or one in 20 of fewer than 100."""

    shard_size: ShardSize = 1000


class GaussianData(DataConfig):
    """Samples of the class mixture for which the Gaussian teacher is exact."""

    encoding: ClassVar[Literal["png", "npy"] | None] = "npy"

    source: Literal["gaussian"]
    """Data set: `gaussian`."""

    num_samples: PositiveInt = 2048
    """Number of samples, held-out ones included."""

    holdout: Holdout = 0.25
    shard_size: ShardSize = 512

    def sample_shape(self, network: NetworkConfig) -> LatentShape:
        """Return the shape of a point, whose coordinates are channels."""
        size = len(network.class_law.means[0]) if network.class_law else 1
        return (size, 1, 1)


SOURCE_CONFIGS: Registry[DataConfig] = Registry(
    "pipeline.data.sources",
    DataConfig,
    "data source",
    known=(
        DigitsData,
        DigitCanvasesData,
        ImageFolderData,
        CaptionedDigitsData,
        CaptionedTarsData,
        CaptionedFolderData,
        PromptsData,
        GaussianData,
    ),
    entry_points="stepfold.sources",
    tag="source",
)

Data = Annotated[DataConfig, OpenUnion("source", SOURCE_CONFIGS.known, SOURCE_CONFIGS.get)]
