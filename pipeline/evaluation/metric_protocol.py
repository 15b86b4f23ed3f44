"""How each number of a report was made. Numbers of two protocols are not comparable.

Every metric carries its protocol: what reads the images, by the sha256 of its weights, what it is
compared with, how many samples and from which noise. Tables take their columns from protocols, so
that numbers of two of them cannot share one.
"""

from collections.abc import Iterable

from pipeline.documents import Document, leaves
from pipeline.errors import DataError
from pipeline.ledger import fingerprint

PIXELS = "pixels in [-1, 1]"
_WORDS = ("title", "meaning", "source", "reference.name")


class Reference(Document):
    """What samples are compared with.

    Attributes:
        name: in words.
        split: of the data set; None for samples and for nothing at all.
        data_sha256: of the data set that the images, or what is asked for, are of, as its commit
            record has it.
        count: how many there are.
        seed: of the noise of samples; None for real images.
        steps: of the teacher whose samples they are; None for others.
        teacher_sha256: of that teacher's network, whoever has it; None as `steps` is.
    """

    name: str
    split: str | None = None
    data_sha256: str | None = None
    count: int = 0
    seed: int | None = None
    steps: int | None = None
    teacher_sha256: str | None = None


class MetricProtocol(Document):
    """How one number was made.

    Attributes:
        metric: the key of the number in a row.
        title: the head of its column.
        meaning: what it says, in a few words.
        extractor: what reads the images.
        extractor_sha256: of its weights; None where pixels are compared.
        extractor_identity: of its weights and of how it is given images and prompts; None where
            the weights say all.
        components_sha256: of what makes pixels of latents and reads prompts for the networks; None
            for networks of pixels.
        reference: what samples are compared with.
        num_samples: samples measured, classes balanced.
        seed: of their noise, and of the bootstrap.
        resamples: of the 95 % bootstrap interval; the reference is held fixed.
        settings: constants of the metric.
        source: where it is defined.
        shape: of an image (height, width, channels).
    """

    metric: str
    title: str
    meaning: str
    extractor: str
    extractor_sha256: str | None
    extractor_identity: str | None = None
    components_sha256: str | None = None
    reference: Reference
    num_samples: int
    seed: int
    resamples: int
    settings: dict[str, float] = {}
    source: str
    shape: tuple[int, ...]

    @property
    def identity(self) -> str:
        """A short name of all of it but the words; equal where numbers may be compared."""
        content = self.model_dump(mode="json", exclude={"title", "meaning", "source"})
        content["reference"].pop("name")
        return fingerprint(content)[:12]


def check_comparable(protocols: Iterable[MetricProtocol]) -> None:
    """Refuse to put numbers of different protocols side by side.

    Raises:
        DataError: naming what differs.
    """
    first, *others = protocols
    for other in others:
        if other.identity == first.identity:
            continue
        one, two = (dict(leaves(each.model_dump(mode="json"))) for each in (first, other))
        differing = [
            key
            for key in dict.fromkeys([*one, *two])
            if one.get(key) != two.get(key) and key not in _WORDS
        ]
        said = "; ".join(f"{key} {one.get(key)} against {two.get(key)}" for key in differing)
        raise DataError(
            f"{first.title}: numbers of different protocols do not compare ({said}); evaluate both "
            "with the same data, samples and extractor"
        )
