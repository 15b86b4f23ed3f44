"""A picture of prompts: each prompt a row, its sample by teacher and students side by side."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pipeline.evaluation.asking import Asked
from pipeline.evaluation.figures import FAINT, INK, STUDENT, as_it_is, save_figure
from pipeline.evaluation.grids import Column, tile

_MOST_PROMPTS = 10
_SIDE, _WORDS, _HEADS = 0.92, 2.5, 0.95  # inches: of a sample, for a prompt, for the titles


def prompt_picture(w: float) -> str:
    """Name of the picture at a guidance weight."""
    return f"prompts-w{w:g}.png"


def draw_prompts(title: str, columns: Sequence[Column], asked: Asked, path: Path) -> None:
    """Draw prompts by networks; as many prompts as fit, evenly chosen, so of different classes."""
    prompts = asked.prompts or ()
    few = min(len(prompts), _MOST_PROMPTS)
    # the middles of equal parts: the first of each class would be the same caption's neighbours
    rows = ((np.arange(few) + 0.5) * len(prompts) / few).astype(int).tolist()
    wide, tall = _WORDS + _SIDE * len(columns), _HEADS + _SIDE * few
    figure = Figure(figsize=(wide, tall))
    axes = figure.subplots(few, len(columns), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for ax, column in zip(line, columns, strict=True):
            ax.imshow(tile(column.images, [[row]]), interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
        words = as_it_is(textwrap.fill(prompts[row], 30))
        line[0].set_ylabel(
            words, rotation=0, ha="right", va="center", fontsize=9, color=INK, labelpad=8
        )
    for ax, column in zip(axes[0], columns, strict=True):
        unit = "evaluation" if column.evaluations == 1 else "evaluations"
        cost = f"\n{column.evaluations} {unit}" if column.evaluations else ""
        color = STUDENT if column.student else INK
        ax.set_title(f"{column.title}{cost}", fontsize=7.5, color=color)
    figure.subplots_adjust(
        left=_WORDS / wide, right=1 - 0.08 / wide, top=1 - _HEADS / tall, bottom=0.06 / tall,
        wspace=0.08, hspace=0.08,
    )  # fmt: skip
    figure.suptitle(title, x=0.1 / wide, y=1 - 0.1 / tall, ha="left", va="top", fontsize=11,
                    fontweight="bold", color=INK)  # fmt: skip
    figure.text(0.1 / wide, 1 - 0.38 / tall, "the prompt", fontsize=8, color=FAINT, va="top")
    save_figure(figure, path)
