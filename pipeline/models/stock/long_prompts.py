"""Prompts with more tokens than a stock pipeline's text encoder reads; the rest of them is cut."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.models.stock.stock_pipeline import STOCK
from pipeline.wording import format_count, format_integer

_AT_ONCE = 1024
_SHOWN = 60  # characters of the first prompt


def long_prompts_note(components: Path, prompts: Iterable[str], noun: str) -> str | None:
    """Return a sentence on the distinct prompts that are cut; None if none is.

    Only the tokenizer is loaded. Of several text encoders, the one that reads most counts.

    Args:
        components: directory of a stock pipeline, with or without its network.
        prompts: prompts or captions; repeated ones count once.
        noun: what the sentence calls one of them.
    """
    index = json.loads((components / "model_index.json").read_text(encoding="utf-8"))
    stock = STOCK.get(index["_class_name"])
    folder = stock.tokenizer
    if index.get(folder) is None:
        return None
    tokenizer = _load_tokenizer(components / folder, index[folder][1])
    most = stock.max_tokens or int(tokenizer.model_max_length)
    distinct = list(dict.fromkeys(prompts))
    # a token has at least one byte, beside the marks of start and end: most prompts are not counted
    candidates = [prompt for prompt in distinct if len(prompt.encode()) + 2 > most]
    cut: dict[str, int] = {}
    for first in range(0, len(candidates), _AT_ONCE):
        part = candidates[first : first + _AT_ONCE]
        rows = tokenizer(part, truncation=False, padding=False, verbose=False)["input_ids"]
        cut |= {prompt: len(row) for prompt, row in zip(part, rows, strict=True) if len(row) > most}
    if not cut:
        return None
    prompt, tokens = next(iter(cut.items()))
    shown = prompt if len(prompt) <= _SHOWN else f"{prompt[:_SHOWN]}..."
    have = "has" if len(cut) == 1 else "have"
    return (
        f"{format_integer(len(cut))} of {format_count(len(distinct), f'distinct {noun}')} {have} "
        f"more than the {most} tokens that the text encoder reads (first: {shown!r}, {tokens} "
        "tokens); the rest is cut."
    )


def _load_tokenizer(folder: Path, kind: str) -> Any:
    import transformers

    return getattr(transformers, kind).from_pretrained(folder, local_files_only=True)
