"""Whether samples show what their prompts say, for captions that can be read back."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from pipeline.data.sources.demo.colours import look
from pipeline.data.sources.demo.digit_wording import read_attributes
from pipeline.sampling.sampler import Images


def look_for(
    images: Images, digits: Int64[np.ndarray, "n"], prompts: Sequence[str]
) -> dict[str, Bool[np.ndarray, "n"]]:
    """For each part of the prompts, and for all parts, which samples show it.

    Args:
        images: of captioned digits, `[n, h, w, 3]` in [-1, 1].
        digits: what a classifier reads in them.
        prompts: what was asked for.
    """
    said = [read_attributes(prompt) for prompt in prompts]
    inks, papers = look(images)
    found = {
        "digit": np.array([each.digit for each in said]) == digits,
        "ink": np.array([each.ink for each in said]) == np.asarray(inks),
        "paper": np.array([each.paper for each in said]) == np.asarray(papers),
    }
    return {**found, "all": np.logical_and.reduce(list(found.values()))}
