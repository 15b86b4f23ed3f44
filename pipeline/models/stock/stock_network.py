"""What the networks that diffusers has a class for share: their folder is that class's own."""

import json
from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.models.family import ModelFamily


class StockFamily(ModelFamily):
    """A family whose networks are a stock diffusers class, saved and loaded as it does it."""

    @property
    @abstractmethod
    def stock(self) -> type[Any]:
        """The diffusers class."""

    @property
    @abstractmethod
    def told_by(self) -> str | None:
        """The key of its configuration that gives it an input for w; None if there is none."""

    def settle(self, module: nn.Module) -> nn.Module:
        """Turn off what makes a fresh or loaded network random in training; by default nothing."""
        return module

    def likeness(self, teacher: nn.Module, **changes: Any) -> tuple[nn.Module, list[str]]:
        """A network of the teacher's own configuration, but for `changes`, with its weights.

        Returns:
            The network, which shares no memory with the teacher, and the names of the parameters
            that the teacher does not have; these are drawn anew.

        Raises:
            TypeError: the teacher is no network of this family.
        """
        self._check(teacher)
        # an override inside the config would be dropped: it is listed there as a default value
        student: nn.Module = self.stock.from_config(teacher.config, **changes)
        changed = student.load_state_dict(teacher.state_dict(), strict=False)
        if changed.unexpected_keys:
            raise TypeError(f"the student has no place for {', '.join(changed.unexpected_keys)}")
        return self.settle(student), changed.missing_keys

    def save(self, module: nn.Module, folder: Path) -> None:
        """A stock diffusers model directory."""
        self._check(module).save_pretrained(folder, safe_serialization=True)
        # diffusers notes the path a model was loaded from; a bundle's bytes say what it is only
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    def load(self, folder: Path, *, knows_w: bool) -> nn.Module:
        """A stock diffusers model directory: safetensors only, in float32 whatever it is stored in.

        Raises:
            ValueError: it is told w and should not be, or the reverse; or a tensor is missing.
        """
        module, info = self.stock.from_pretrained(
            folder,
            torch_dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        # diffusers would draw these at random and warn
        if info["missing_keys"]:
            raise ValueError(f"its weights lack {', '.join(sorted(info['missing_keys'])[:3])}")
        if self._is_told_w(module) != knows_w:
            raise ValueError(f"its network {'is not' if knows_w else 'is'} told w")
        return self.settle(module).eval()

    def _check(self, module: nn.Module) -> Any:
        if not isinstance(module, self.stock):
            raise TypeError(f"expected a {self.stock.__name__}, got {type(module).__name__}")
        return module

    def _is_told_w(self, module: Any) -> bool:
        # a size, None, or a flag
        return self.told_by is not None and bool(module.config[self.told_by])


def dtype_of(module: nn.Module) -> torch.dtype:
    """What a network computes in."""
    return next(module.parameters()).dtype
