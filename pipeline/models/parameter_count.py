"""Count a network's parameters without loading or allocating its weights.

Networks are built on torch's meta device, where tensors have shapes but no storage. This counts
trainable parameters; a file also holds position tables and possibly unused tensors.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from pipeline.bundle import Manifest
from pipeline.errors import BundleError
from pipeline.models.assemble import family_of
from pipeline.models.stock.stock_network import StockFamily


def count_networks(
    manifest: Manifest, folder: Path | None, w_range: tuple[float, float]
) -> tuple[int, int]:
    """Count the parameters of a teacher and of its student.

    Args:
        manifest: manifest of the teacher.
        folder: folder of its `config.json`; None for a network that is trained from scratch.
        w_range: (min, max) of the student's w.

    Raises:
        BundleError: the folder does not describe a network of this class.
    """
    family = family_of(manifest)
    if not isinstance(family, StockFamily):  # closed form: its tables are small
        teacher = family.build()
        return count(teacher), count(family.student_of(teacher, w_range))
    with torch.device("meta"):
        teacher = family.build() if folder is None else _outline(family.stock, folder)
        return count(teacher), count(family.student_of(teacher, w_range))


def count(module: nn.Module) -> int:
    """Count the parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_stored(files: list[Path]) -> int:
    """Count the values in safetensors files from their headers alone.

    Raises:
        BundleError: a file is damaged.
    """
    total = 0
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                names = tensors.keys()
                shapes = [tensors.get_slice(name).get_shape() for name in names]
        except (OSError, SafetensorError) as error:
            raise BundleError(f"{file} is not safetensors ({error}); copy it again") from None
        total += sum(torch.Size(shape).numel() for shape in shapes)
    return total


def _outline(stock: type[Any], folder: Path) -> nn.Module:
    try:
        config = stock.load_config(folder, local_files_only=True)
        module: nn.Module = stock.from_config(config)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BundleError(
            f"{folder / 'config.json'} does not describe a {stock.__name__} "
            f"({' '.join(str(error).split())[:200]}); copy it again"
        ) from error
    return module
