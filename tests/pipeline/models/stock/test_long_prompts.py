"""Prompts that a text encoder cuts: counted as the stock pipelines cut them."""

from pathlib import Path

import pytest
import torch

from pipeline.models.stock.long_prompts import long_prompts_note
from pipeline.models.stock.stock_pipeline import STOCK
from tests.support.tiny_pipelines import TOKENS, tiny_pipeline

NAMES = {
    "sd": ("StableDiffusionPipeline", TOKENS),
    "sdxl": ("StableDiffusionXLPipeline", TOKENS),
    "sd3": ("StableDiffusion3Pipeline", 256),
    "flux": ("FluxPipeline", 512),
}


@pytest.mark.parametrize("kind", NAMES)
def test_a_prompt_is_counted_from_the_first_token_that_the_pipeline_cuts(
    kind: str, tmp_path: Path
) -> None:
    name, most = NAMES[kind]
    place = tiny_pipeline(kind, tmp_path / kind)
    marks = 2 if most == TOKENS else 1  # start and end, or the end alone
    if marks == 1:
        marks += 1  # T5 puts a space before the first word
    fits = " ".join("x" * (most - marks)) if most == TOKENS else "x" * (most - marks)
    longer = fits + (" y" if most == TOKENS else "y")
    assert long_prompts_note(place, [fits, "short"], "prompt") is None
    note = long_prompts_note(place, [fits, longer, longer], "caption")
    assert note is not None
    assert note.startswith(f"1 of 2 distinct captions has more than the {most} tokens that")
    assert f", {most + 1} tokens); the rest is cut." in note
    stock = STOCK.get(name)(place)
    text = stock.encode([longer, longer + " z"])["text"]
    torch.testing.assert_close(text[0], text[1])
    kept = stock.encode([fits, fits[:-1] + "y"])["text"]
    assert (kept[0] != kept[1]).any()


def test_a_pipeline_of_classes_reads_no_prompt(tmp_path: Path) -> None:
    place = tiny_pipeline("dit", tmp_path / "dit")
    assert long_prompts_note(place, ["word " * 900], "prompt") is None
