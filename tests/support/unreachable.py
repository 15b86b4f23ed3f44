"""A process group of real Ray workers that cannot form."""

import os
from typing import Any

from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend


class UnreachableConfig(TorchConfig):
    """Configuration of a process group whose gloo finds no network interface."""

    @property
    def backend_cls(self) -> type[Any]:
        return _UnreachableBackend


class _UnreachableBackend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(name_a_missing_interface)
        super().on_start(worker_group, backend_config)


def name_a_missing_interface() -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "missing"
