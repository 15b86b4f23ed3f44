"""Properties of samplers that a recipe uses, without torch."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, WithJsonSchema

from pipeline.errors import ConfigError
from pipeline.registry import Registry

BASELINES = ("ddim", "dpm++", "unipc")
"""The shipped samplers of the teacher, one evaluation per step."""


class SamplerProperties:
    """Properties of a sampler; the defaults are those of a deterministic one for teachers."""

    name: ClassVar[str]

    title: ClassVar[str]
    """Display name in reports."""

    evaluations_per_step: ClassVar[int] = 1
    """Evaluations of the network per step."""

    adds_noise: ClassVar[bool] = False
    """Whether noise is added between steps."""

    is_baseline: ClassVar[bool] = True
    """Whether the report can have it among the baselines, with the teacher."""


SAMPLER_PROPERTIES: Registry[SamplerProperties] = Registry(
    "pipeline.sampling", SamplerProperties, "sampler", entry_points="stepfold.samplers"
)


def evaluations_per_step(sampler: str) -> int:
    """Return the network evaluations per step of a sampler.

    Raises:
        ConfigError: no such sampler.
    """
    if sampler in BASELINES:
        return 1
    return SAMPLER_PROPERTIES.get(sampler).evaluations_per_step


def _check_baseline(sampler: str) -> str:
    try:
        if sampler in BASELINES or SAMPLER_PROPERTIES.get(sampler).is_baseline:
            return sampler
    except ConfigError as error:
        raise ValueError(str(error)) from None
    raise ValueError(f"sampler {sampler!r} is not a baseline; use {', '.join(BASELINES)}")


Baseline = Annotated[
    str,
    AfterValidator(_check_baseline),
    WithJsonSchema({"enum": [*BASELINES], "type": "string"}),
]
"""Name of a sampler of the teacher."""
