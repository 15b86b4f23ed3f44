"""Figures of samples: all columns start from the same noise, so rows compare networks."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.evaluation.figures.curves import FAINT, INK, STUDENT, escape_dollars, save_figure
from pipeline.sampling.conditions import Conditions
from pipeline.sampling.sampler import Images, LabelArray, check_finite
from pipeline.wording import format_count

_MOST_CLASSES = 12

_GAP = 0.1  # between images, as a share of an image's height


@dataclass(frozen=True)
class Column:
    """Samples of one network as a column of a grid.

    Attributes:
        title: title of the column.
        evaluations: network evaluations per sample; 0 for real images.
        images: samples, in the order of labels common to all columns.
        student: whether the network is a student; colours the title.
    """

    title: str
    evaluations: int
    images: Images
    student: bool


def unsupported_shape_reason(shape: tuple[int, ...]) -> str | None:
    """Return why samples of shape (axis, ..., channels) cannot be drawn; None if they can.

    Drawn are images of one or three channels, and points of the plane.
    """
    *axes, channels = shape
    is_image = len(axes) == 2 and max(axes) > 1 and channels in (1, 3)
    if is_image or shape == (1, 1, 2):
        return None
    return f"no sample grid: shape {'x'.join(map(str, shape))} is not an image"


def draw_samples(
    title: str,
    columns: Sequence[Column],
    labels: LabelArray,
    class_names: Sequence[str],
    path: Path,
) -> None:
    """Draw a grid of images with classes as rows, or a scatter plot of 2D points."""
    if columns[0].images.shape[1:] == (1, 1, 2):
        _draw_scatter(title, columns, labels, class_names, path)
    else:
        _draw_grid(title, columns, labels, class_names, path)


def sample_rows(labels: LabelArray, per_class: int) -> list[list[int]]:
    """Select the first `per_class` rows of up to twelve evenly spaced classes."""
    present = np.unique(labels)
    chosen = present[
        np.linspace(0, len(present) - 1, min(len(present), _MOST_CLASSES)).round().astype(int)
    ]
    return [np.flatnonzero(labels == label)[:per_class].tolist() for label in chosen]


def tile(images: Images, rows: Sequence[Sequence[int]]) -> Float[np.ndarray, "_ _ 3"]:
    """Tile `images[rows]` on a white canvas, values in [0, 1].

    Images are enlarged by nearest neighbour to about 64 pixels a side.

    Raises:
        DivergenceError: a value of `images` is not finite.
    """
    check_finite(images, "images of a figure")
    height, width, channels = images.shape[1:]
    zoom = max(1, round(64 / max(height, width)))
    gap = max(1, round(_GAP * zoom * height))
    tall, wide = height * zoom + gap, width * zoom + gap
    canvas = np.ones((len(rows) * tall - gap, max(map(len, rows)) * wide - gap, 3))
    for i, row in enumerate(rows):
        for j, index in enumerate(row):
            picture = np.clip((images[index].astype(np.float64) + 1) / 2, 0, 1)
            picture = picture.repeat(zoom, 0).repeat(zoom, 1).repeat(3 // channels, 2)
            top, left = i * tall, j * wide
            canvas[top : top + height * zoom, left : left + width * zoom] = picture
    return canvas


def _draw_grid(
    title: str,
    columns: Sequence[Column],
    labels: LabelArray,
    class_names: Sequence[str],
    path: Path,
) -> None:
    per_class = 3 if max(columns[0].images.shape[1:3]) <= 16 else 2
    rows = sample_rows(labels, per_class)
    tiles = [tile(column.images, rows) for column in columns]
    tall, wide = tiles[0].shape[:2]
    names = [class_names[labels[row[0]]] for row in rows]
    each, left = 1.55, max(0.42, 0.2 + 0.085 * max(map(len, names)))  # inches
    width = each * len(columns) * 1.06 + 0.08 + left
    figure = Figure(figsize=(width, each * tall / wide + 1.15))
    axes = figure.subplots(1, len(columns), squeeze=False)[0]
    for ax, column, picture in zip(axes, columns, tiles, strict=True):
        _imshow(ax, picture)
        _head(ax, column)
    axes[0].set_yticks(
        [(i + 0.5) * tall / len(rows) for i in range(len(rows))],
        [escape_dollars(name) for name in names],
        fontsize=10,
        color=INK,
    )
    axes[0].tick_params(length=0)
    height = figure.get_figheight()
    figure.subplots_adjust(
        left=left / width, right=0.995, bottom=0.06 / height, wspace=0.06,
        top=1 - 1.0 / height,
    )  # fmt: skip
    figure.suptitle(title, x=left / width, y=1 - 0.12 / height, ha="left", va="top",
                    fontsize=12, fontweight="bold", color=INK)  # fmt: skip
    save_figure(figure, path)


def _draw_scatter(
    title: str,
    columns: Sequence[Column],
    labels: LabelArray,
    class_names: Sequence[str],
    path: Path,
) -> None:
    figure = Figure(figsize=(2.4 * len(columns), 3.6), layout="constrained")
    axes = figure.subplots(1, len(columns), squeeze=False, sharex=True, sharey=True)[0]
    palette = ("#2a6fb0", "#c8373f", "#3a8f5c", "#b8860b", "#6d4aa2", "#22262e")
    for ax, column in zip(axes, columns, strict=True):
        check_finite(column.images, f"samples of {column.title}")
        points = column.images.reshape(len(labels), 2)
        for label in np.unique(labels):
            of_class = points[labels == label]
            color = palette[label % len(palette)]
            name = escape_dollars(class_names[label])
            ax.scatter(*of_class.T, s=7, alpha=0.6, lw=0, color=color, label=name)
        ax.set_box_aspect(1)
        ax.tick_params(colors=FAINT, labelsize=8)
        ax.spines[:].set_color(FAINT)
        _head(ax, column)
    axes[0].legend(frameon=False, fontsize=8, handletextpad=0, title="class", title_fontsize=8)
    figure.suptitle(title, fontsize=12, fontweight="bold", color=INK)
    save_figure(figure, path)


def _head(ax: Axes, column: Column, fontsize: float = 9.5) -> None:
    cost = f"\n{format_count(column.evaluations, 'evaluation')}" if column.evaluations else ""
    color = STUDENT if column.student else INK
    ax.set_title(f"{column.title}{cost}", fontsize=fontsize, color=color, linespacing=1.35)


def _imshow(ax: Axes, picture: Float[np.ndarray, "_ _ 3"]) -> None:
    ax.imshow(picture, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


_MOST_PROMPTS = 10

_SIDE, _WORDS, _HEADS = 0.92, 2.5, 0.95  # inches: sample side, prompt width, title height


def prompt_picture(w: float) -> str:
    """Return the file name of the prompt grid at a guidance weight."""
    return f"prompts-w{w:g}.png"


def draw_prompts(title: str, columns: Sequence[Column], conditions: Conditions, path: Path) -> None:
    """Draw a grid of up to ten evenly spaced prompts (rows) by networks (columns)."""
    prompts = conditions.prompts or ()
    count = min(len(prompts), _MOST_PROMPTS)
    # middles of equal parts, as the first prompts of the classes have similar captions
    rows = ((np.arange(count) + 0.5) * len(prompts) / count).astype(int).tolist()
    wide, tall = _WORDS + _SIDE * len(columns), _HEADS + _SIDE * count
    figure = Figure(figsize=(wide, tall))
    axes = figure.subplots(count, len(columns), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for ax, column in zip(line, columns, strict=True):
            _imshow(ax, tile(column.images, [[row]]))
        words = escape_dollars(textwrap.fill(prompts[row], 30))
        line[0].set_ylabel(
            words, rotation=0, ha="right", va="center", fontsize=9, color=INK, labelpad=8
        )
    for ax, column in zip(axes[0], columns, strict=True):
        _head(ax, column, fontsize=7.5)
    figure.subplots_adjust(
        left=_WORDS / wide, right=1 - 0.08 / wide, top=1 - _HEADS / tall, bottom=0.06 / tall,
        wspace=0.08, hspace=0.08,
    )  # fmt: skip
    figure.suptitle(title, x=0.1 / wide, y=1 - 0.1 / tall, ha="left", va="top", fontsize=11,
                    fontweight="bold", color=INK)  # fmt: skip
    figure.text(0.1 / wide, 1 - 0.38 / tall, "prompt", fontsize=8, color=FAINT, va="top")
    save_figure(figure, path)


_ACROSS = 5  # pairs per line, for a nearly square figure


def draw_pairs(title: str, rows: Sequence[tuple[str, Images]], path: Path) -> bool:
    """Draw one or two named sets of samples as pairs; return whether they can be drawn.

    In a line of pairs, the images of the first set are above those of the second. 2D points are
    drawn in one plane, with a line from each point to its pair.
    """
    if unsupported_shape_reason(rows[0][1].shape[1:]):
        return False
    figure = Figure(figsize=(4.2, 5), layout="constrained")
    ax = figure.subplots()
    names = [name for name, _ in rows]
    if rows[0][1].shape[1:] == (1, 1, 2):
        for name, images in rows:
            check_finite(images, f"samples of {name}")
        points = [images.reshape(-1, 2) for _, images in rows]
        for pair in zip(*points, strict=True):
            ax.plot(*np.transpose(pair), color=FAINT, lw=0.8)
        colors = (FAINT, STUDENT)[-len(rows) :]
        for name, each, color in zip(names, points, colors, strict=True):
            ax.scatter(each[:, 0], each[:, 1], s=16, color=color, label=name)
        ax.set_box_aspect(1)
        figure.legend(loc="outside lower left", frameon=False, fontsize=9)
    else:
        images, count = np.concatenate([each for _, each in rows]), len(rows[0][1])
        lines = [range(at, min(at + _ACROSS, count)) for at in range(0, count, _ACROSS)]
        indices = [[at * count + i for i in line] for line in lines for at in range(len(rows))]
        ax.imshow(tile(images, indices), interpolation="nearest")
        ax.set_axis_off()
        places = ("top", "bottom") if len(rows) == 2 else ("all",)
        title += "".join(f"\n{at}: {name}" for at, name in zip(places, names, strict=True))
    figure.suptitle(title, x=0.03, ha="left", fontsize=11, color=INK)
    save_figure(figure, path)
    return True
