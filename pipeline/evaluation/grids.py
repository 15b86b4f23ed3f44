"""Pictures of samples: the same noise in every column, so that a row shows what changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.evaluation.figures import FAINT, INK, STUDENT, as_it_is, save_figure
from pipeline.evaluation.sampling import Images, LabelArray

_MOST_CLASSES = 12
_GAP = 0.1  # of an image, between images


@dataclass(frozen=True)
class Column:
    """One network's samples in a grid.

    Attributes:
        title: what made them.
        evaluations: network evaluations per sample; 0 for what no network made.
        images: its samples, in the order of the labels all columns share.
        student: whether it is a student's, which colours the title.
    """

    title: str
    evaluations: int
    images: Images
    student: bool


def why_no_picture(shape: tuple[int, ...]) -> str | None:
    """Why samples of shape (height, width, channels) cannot be shown; None if they can."""
    height, width, channels = shape
    if (height > 1 or width > 1) and channels in (1, 3):
        return None
    if (height, width, channels) == (1, 1, 2):
        return None
    return f"no picture of samples: {height}x{width} with {channels} channels is not an image"


def draw_samples(
    title: str,
    columns: Sequence[Column],
    labels: LabelArray,
    class_names: Sequence[str],
    path: Path,
) -> None:
    """Draw a grid of images (rows are classes), or scatter points of the plane."""
    if columns[0].images.shape[1:] == (1, 1, 2):
        _draw_scatter(title, columns, labels, class_names, path)
    else:
        _draw_grid(title, columns, labels, class_names, path)


def sample_rows(labels: LabelArray, per_class: int) -> list[list[int]]:
    """The first `per_class` rows of each class, at most twelve classes, evenly chosen."""
    present = np.unique(labels)
    chosen = present[
        np.linspace(0, len(present) - 1, min(len(present), _MOST_CLASSES)).round().astype(int)
    ]
    return [np.flatnonzero(labels == label)[:per_class].tolist() for label in chosen]


def tile(images: Images, rows: Sequence[Sequence[int]]) -> Float[np.ndarray, "_ _ 3"]:
    """One picture of `images[rows]`, values in [0, 1], white where there is nothing.

    Every pixel is blown up to a square of pixels (nearest neighbour), to about 64 pixels a side.
    """
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
        ax.imshow(picture, interpolation="nearest")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        _head(ax, column)
    axes[0].set_yticks(
        [(i + 0.5) * tall / len(rows) for i in range(len(rows))],
        [as_it_is(name) for name in names],
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
        points = column.images.reshape(len(labels), 2)
        for label in np.unique(labels):
            of_class = points[labels == label]
            color = palette[label % len(palette)]
            name = as_it_is(class_names[label])
            ax.scatter(*of_class.T, s=7, alpha=0.6, lw=0, color=color, label=name)
        ax.set_box_aspect(1)
        ax.tick_params(colors=FAINT, labelsize=8)
        ax.spines[:].set_color(FAINT)
        _head(ax, column)
    axes[0].legend(frameon=False, fontsize=8, handletextpad=0, title="class", title_fontsize=8)
    figure.suptitle(title, fontsize=12, fontweight="bold", color=INK)
    save_figure(figure, path)


def _head(ax: Axes, column: Column) -> None:
    unit = "evaluation" if column.evaluations == 1 else "evaluations"
    cost = f"\n{column.evaluations} {unit}" if column.evaluations else ""
    ax.set_title(
        f"{column.title}{cost}",
        fontsize=9.5,
        color=STUDENT if column.student else INK,
        linespacing=1.35,
    )
