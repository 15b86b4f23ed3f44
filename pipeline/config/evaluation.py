"""The `evaluation.extractors` key of a recipe: feature extractors, from weights on disk."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from pipeline.config.samplers import BASELINES, Baseline
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


class EvaluationConfig(Document):
    """The final evaluation of teacher, students and baselines."""

    num_samples: PositiveInt = 500
    """Samples per network, step count and guidance weight."""

    w: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2, 4)
    """Guidance weights; all within `guidance.w`."""

    baseline_steps: tuple[PositiveInt, ...] = (1, 2, 4, 8)
    """Step counts of the teacher with each of `samplers`, as baselines."""

    samplers: tuple[Baseline, ...] = BASELINES
    """Samplers of the baselines."""

    extractors: tuple[ExtractorConfig, ...] = ()
    """Feature extractors in addition to the classifier of the data set. Default: none."""

    edits: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    """Strengths of SDEdit, in (0, 1]: held-out images are noised to this time and denoised as
    another class by teacher and deterministic students. Needs `encoding`. Default: none."""

    seed: int = Field(default=1234, ge=0, lt=2**31)
    """Seed of the evaluation samples."""

    @property
    def ends_and_middle(self) -> tuple[float, ...]:
        """Return the smallest, middle and largest guidance weight, each once."""
        known = sorted(set(self.w))
        return tuple(dict.fromkeys((known[0], known[len(known) // 2], known[-1])))
