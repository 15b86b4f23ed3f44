"""Protocols of metrics. Numbers of different protocols are not comparable.

Every metric carries its protocol: the extractor with the sha256 of its weights, the reference, the
number of samples and their seed. Table columns are built from protocols, so that numbers of
different protocols cannot share a column.
"""

from collections.abc import Iterable

from pipeline.documents import Document, leaves
from pipeline.errors import DataError
from pipeline.ledger import fingerprint

PIXELS = "pixels in [-1, 1]"
VERSION = 2
"""Version of the metrics' formulas. 2: classes in the shares of the held-out images, kernel
distance by pairs of classes, intervals by half-samples."""

_WORDS = ("title", "meaning", "source", "reference.name")


class Reference(Document):
    """Reference that samples are compared with.

    Attributes:
        name: description of the reference.
        split: split of the data set; None if the reference is not real images.
        data_sha256: digest of the data set of the images or conditions, from its commit record.
        count: number of images.
        seed: seed of the noise of samples; None for real images.
        steps: sampling steps of teacher samples; None otherwise.
        teacher_sha256: digest of the teacher's network, equal across runs; None as for `steps`.
    """

    name: str
    split: str | None = None
    data_sha256: str | None = None
    count: int = 0
    seed: int | None = None
    steps: int | None = None
    teacher_sha256: str | None = None


class MetricProtocol(Document):
    """Protocol of one metric.

    Attributes:
        metric: key of the metric in the scores of a row.
        title: column heading.
        meaning: definition in a few words.
        extractor: name of the feature network, or of the pixel space.
        extractor_sha256: digest of its weights; None for pixel metrics.
        extractor_identity: digest of weights, preprocessing and tokenizer; None where the weights
            identify the extractor.
        components_sha256: digest of VAE and text encoders; None for pixel-space networks.
        reference: reference of the comparison.
        num_samples: number of samples, in the class shares of the held-out images.
        seed: seed of the samples' noise and of the bootstrap.
        resamples: half-samples, or resamples, of the 95 % interval; the reference is fixed.
        settings: constants of the metric.
        source: publication or library that defines the metric.
        shape: shape of an image (height, width, channels).
        version: version of the formula and of its interval; see `VERSION`.
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
    version: int = 1

    @property
    def identity(self) -> str:
        """Short digest of everything but descriptions; equal if and only if numbers compare."""
        content = self.model_dump(mode="json", exclude={"title", "meaning", "source"})
        content["reference"].pop("name")
        return fingerprint(content)[:12]


def check_comparable(protocols: Iterable[MetricProtocol]) -> None:
    """Check that all protocols are the same.

    Raises:
        DataError: protocols differ; the message names the differing keys.
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
        differences = "; ".join(f"{key}: {one.get(key)} vs. {two.get(key)}" for key in differing)
        raise DataError(
            f"{first.title}: protocols differ, so the numbers are not comparable ({differences}); "
            "evaluate both with the same data, samples and extractor"
        )
