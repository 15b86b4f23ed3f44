"""The recipe's `evaluation.extractors`: more networks that read images, by where weights lie."""

from typing import Literal

from pipeline.documents import Document

ExtractorKind = Literal["inception", "dinov2", "clip"]


class ExtractorConfig(Document):
    """A network that reads images, beside the data set's own classifier.

    Each has tables of its own in the report; only Inception-v3 with the published weights is FID.

    Attributes:
        kind: `inception` is a file, `dinov2` and `clip` are directories as transformers saves them.
        path: where the weights lie; nothing is fetched.
    """

    kind: ExtractorKind
    path: str
