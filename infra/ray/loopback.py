"""Restrict Ray Train's process group to this machine: workers listen on 127.0.0.1 only.

torch's rendezvous store listens on all addresses of a machine without authentication, and torch has
no argument for another address that Ray would pass on.
"""

import os
import socket
import sys
from typing import Any

from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

_ADDRESS = "127.0.0.1"


class LoopbackConfig(TorchConfig):  # type: ignore[misc] # ray has no types
    """Configuration of a process group whose workers are all on this machine."""

    @property
    def backend_cls(self) -> type[Any]:
        """The backend class that sets up the process group."""
        return _LoopbackBackend


class _LoopbackBackend(_TorchBackend):  # type: ignore[misc] # ray has no types
    """Ray's own set-up, with workers restricted to loopback."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Restrict the workers to loopback, then set up the process group."""
        worker_group.execute(restrict_to_loopback)
        super().on_start(worker_group, backend_config)


def restrict_to_loopback() -> None:
    """Make torch's store and gloo listen on 127.0.0.1 only, for the rest of this process."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    os.environ["NCCL_SOCKET_IFNAME"] = "lo"
    # via sys.modules, because the package also has a function of this name; torch 2.13.0 creates
    # every store in this module
    rendezvous: Any = sys.modules["torch.distributed.rendezvous"]
    rendezvous.TCPStore = _open_store


def _open_store(**options: Any) -> Any:
    import torch.distributed

    if options["is_master"]:
        listener = socket.create_server((_ADDRESS, options["port"]))
        options["master_listen_fd"] = listener.detach()
    distributed: Any = torch.distributed  # TCPStore is missing in its stubs
    return distributed.TCPStore(**options)
