"""Base family of networks with a stock diffusers class, saved as that class's model directory."""

import json
from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.models.family import ModelFamily


class StockFamily(ModelFamily):
    """A family whose networks are a stock diffusers class and use its file format."""

    @property
    @abstractmethod
    def stock(self) -> type[Any]:
        """The diffusers class."""

    @property
    def w_config_key(self) -> str | None:
        """The configuration key that enables an input for w; None if the class has none."""
        return None

    def student_of(
        self,
        teacher: nn.Module,
        w_range: tuple[float, float],  # noqa: ARG002 (w is baked in by training)
    ) -> nn.Module:
        """Copy the teacher; families with an input for w add it here."""
        return self.copy_with_changes(teacher)[0]

    def disable_dropout(self, module: nn.Module) -> nn.Module:
        """Disable dropout of a new or loaded network in training; its configuration is kept.

        A student regresses on targets of a teacher without dropout.
        """
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        return module

    def copy_with_changes(self, teacher: nn.Module, **changes: Any) -> tuple[nn.Module, list[str]]:
        """Copy a network with changes to its configuration.

        Returns:
            The copy, which shares no memory with the teacher, and the names of the parameters that
            the teacher does not have; these are initialised randomly.

        Raises:
            TypeError: the teacher does not belong to this family.
        """
        self._check(teacher)
        # a change inside the config would be ignored: the config lists the key as a default value
        student: nn.Module = self.stock.from_config(teacher.config, **changes)
        changed = student.load_state_dict(teacher.state_dict(), strict=False)
        if changed.unexpected_keys:
            raise TypeError(f"the student lacks parameters {', '.join(changed.unexpected_keys)}")
        return self.disable_dropout(student), changed.missing_keys

    def save(self, module: nn.Module, folder: Path) -> None:
        """Write a stock diffusers model directory."""
        self._check(module).save_pretrained(folder, safe_serialization=True)
        # diffusers records the path a model was loaded from; the bundle must not depend on it
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    def load(self, folder: Path, *, is_w_conditioned: bool) -> nn.Module:
        """Load a stock diffusers model directory: safetensors only, converted to float32.

        Raises:
            ValueError: w-conditioning is not as expected, or a tensor is missing.
        """
        module, info = self.stock.from_pretrained(
            folder,
            torch_dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        # diffusers only warns and initialises these randomly
        if info["missing_keys"]:
            missing = ", ".join(sorted(info["missing_keys"])[:3])
            raise ValueError(f"its weights lack {missing}")
        if self._is_w_conditioned(module) != is_w_conditioned:
            raise ValueError(f"its network {'is not' if is_w_conditioned else 'is'} w-conditioned")
        return self.disable_dropout(module).eval()

    def _check(self, module: nn.Module) -> Any:
        if not isinstance(module, self.stock):
            raise TypeError(f"expected a {self.stock.__name__}, got {type(module).__name__}")
        return module

    def _is_w_conditioned(self, module: Any) -> bool:
        # the value is a size, None, or a flag
        return self.w_config_key is not None and bool(module.config[self.w_config_key])


def dtype_of(module: nn.Module) -> torch.dtype:
    """Return the dtype of a network's parameters."""
    return next(module.parameters()).dtype
