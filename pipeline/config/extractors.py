"""The `evaluation.extractors` key of a recipe: feature extractors, from weights on disk."""

from typing import Literal

from pipeline.documents import Document

ExtractorKind = Literal["inception", "dinov2", "clip"]


class ExtractorConfig(Document):
    """A feature extractor in addition to the classifier of the data set.

    The report has tables for each extractor. Only Inception-v3 with the published weights gives
    FID.
    """

    kind: ExtractorKind
    """Network: `inception`, `dinov2` or `clip`."""

    path: str
    """Weights: a file for `inception`, a transformers model directory for `dinov2` and `clip`.
    Nothing is downloaded."""
