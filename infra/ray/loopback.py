"""Ray Train's process group on this machine alone: what its workers listen on is 127.0.0.1.

torch's store, where ranks find each other, listens on every address of a machine, and whoever
reaches it may write to it; torch has no argument for another address that Ray would hand on.
"""

import os
import socket
import sys
from typing import Any

from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

_ADDRESS = "127.0.0.1"


class LoopbackConfig(TorchConfig):  # type: ignore[misc] # ray has no types
    """A process group of workers that are all on this machine."""

    @property
    def backend_cls(self) -> type[Any]:
        """What sets it up."""
        return _LoopbackBackend


class _LoopbackBackend(_TorchBackend):  # type: ignore[misc] # ray has no types
    """Ray's own set-up, in workers that stay on loopback."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Prepare the workers, then let them find each other."""
        worker_group.execute(stay_on_loopback)
        super().on_start(worker_group, backend_config)


def stay_on_loopback() -> None:
    """Let torch's store and gloo listen on 127.0.0.1 only, in this process from now on."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    os.environ["NCCL_SOCKET_IFNAME"] = "lo"
    # the package has a function of the same name; torch 2.13.0 makes every store in this module
    rendezvous: Any = sys.modules["torch.distributed.rendezvous"]
    rendezvous.TCPStore = _open_store


def _open_store(**options: Any) -> Any:
    import torch.distributed

    if options["is_master"]:
        listener = socket.create_server((_ADDRESS, options["port"]))
        options["master_listen_fd"] = listener.detach()
    distributed: Any = torch.distributed  # whose stubs leave the store out
    return distributed.TCPStore(**options)
