"""Which sampler draws from which bundle: a student takes the steps it was distilled for."""

from typing import Literal

from pipeline.bundle import Manifest
from pipeline.errors import BundleError

Sampler = Literal["ddim", "stochastic", "dpm++", "unipc"]


def own_sampler(manifest: Manifest) -> Sampler:
    """How a bundle is sampled if nothing else is asked for: as it was distilled to be."""
    is_one_step = manifest.steps == (1,)  # then there is no step that noise could follow
    return "stochastic" if manifest.sampler == "stochastic" and not is_one_step else "ddim"


def check_sampler(manifest: Manifest, sampler: Sampler) -> None:
    """Refuse a sampler whose steps a student was not distilled for.

    A teacher and a stage-1 student are good at any time: the stochastic sampler's steps are theirs
    as well.

    Raises:
        BundleError: with the reason and the sampler to use.
    """
    if manifest.role == "teacher" or sampler == own_sampler(manifest):
        return
    if sampler not in ("ddim", "stochastic"):
        raise BundleError(
            f"a student's step is one DDIM step on its own grid, so {sampler} does not apply to "
            f"it; use --sampler {own_sampler(manifest)}"
        )
    if manifest.steps in (None, (1,)):
        return
    made, asked = ("twice", "once") if sampler == "ddim" else ("once", "twice")
    raise BundleError(
        f"this student was distilled for steps {made} as long as its grid's, and {sampler} takes "
        f"them {asked} as long; use --sampler {own_sampler(manifest)}"
    )
