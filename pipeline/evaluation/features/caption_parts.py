"""Prompt accuracy of captioned digits, by part of the prompt."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from pipeline.data.sources.demo.captioned_digits import detect_colours, read_attributes
from pipeline.sampling.sampler import Images


def match_caption_parts(
    images: Images, digits: Int64[np.ndarray, "n"], prompts: Sequence[str]
) -> dict[str, Bool[np.ndarray, "n"]]:
    """Return which samples match each part of their prompt, and all parts.

    Args:
        images: captioned digits, `[n, h, w, 3]` in [-1, 1].
        digits: predicted digit of each image.
        prompts: prompt of each image.
    """
    expected = [read_attributes(prompt) for prompt in prompts]
    inks, papers = detect_colours(images)
    matches = {
        "digit": np.array([each.digit for each in expected]) == digits,
        "ink": np.array([each.ink for each in expected]) == np.asarray(inks),
        "paper": np.array([each.paper for each in expected]) == np.asarray(papers),
    }
    return {**matches, "all": np.logical_and.reduce(list(matches.values()))}
