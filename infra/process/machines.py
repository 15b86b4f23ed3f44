"""Which machines a run was worked on, with what: recorded as it begins, for whoever asks later."""

import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.config.profile import ComputeConfig
from pipeline.documents import Document
from pipeline.durable import write_durably

_FILE = "machines.json"
_PACKAGES = ("stepfold", "torch", "diffusers", "deepspeed", "ray", "mlflow", "prefect")
_ACCELERATOR = "accelerator_type:"  # Ray's name for what the GPUs of a node are


class Node(Document):
    """A machine of a Ray cluster: what workers may take of it; `gpu` is what its GPUs are."""

    cpus: int
    gpus: int = 0
    gpu: str = ""

    @property
    def words(self) -> str:
        """Such as "16 CPUs, 2 x H100"."""
        return f"{self.cpus} CPUs" + (f", {self.gpus} x {self.gpu or 'GPU'}" if self.gpus else "")


class Machine(Document):
    """Where a run was worked on.

    Attributes:
        system: its operating system and processor.
        cores: that the driver may use.
        python: version.
        packages: versions by name.
        is_local: whether Ray ran on this machine alone; else the driver did, and workers elsewhere.
        nodes: what Ray had.
    """

    system: str
    cores: int
    python: str
    packages: dict[str, str]
    is_local: bool
    nodes: tuple[Node, ...]

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """For people: (what, which)."""
        gpus = [f"{node.gpus} x {node.gpu or 'GPU'}" for node in self.nodes if node.gpus]
        told = [("machine" if self.is_local else "driver", f"{self.cores} cores, {self.system}")]
        if self.is_local:
            told.append(("GPUs of workers", ", ".join(gpus) or "none"))
        else:
            counts = Counter(node.words for node in self.nodes)
            words = ", ".join(f"{count} x ({each})" for each, count in counts.items())
            told.append(("Ray cluster", words))
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return (*told, ("Python", self.python), ("packages", packages))


class _Machines(Document):
    """The file: each once, in the order they first came."""

    machines: tuple[Machine, ...]


def this_machine(compute: ComputeConfig) -> Machine:
    """Where this process runs, and what its workers may use."""
    if compute.launcher == "inline":
        return machine_with([_own_node(compute)], is_local=True)
    import ray

    return machine_with(ray.nodes(), is_local=compute.is_local)


def _own_node(compute: ComputeConfig) -> dict[str, Any]:
    """What the worker in this process may use, as `ray.nodes()` would tell it."""
    resources: dict[str, float] = {"CPU": compute.cpus_per_worker, "GPU": compute.gpus_per_worker}
    if compute.gpus_per_worker:
        import torch

        resources[_ACCELERATOR + torch.cuda.get_device_name()] = 1
    return {"Alive": True, "Resources": resources}


def machine_with(nodes: Sequence[Mapping[str, Any]], *, is_local: bool) -> Machine:
    """Where this process runs; `nodes` are told as `ray.nodes()` tells them."""
    return Machine(
        system=f"{platform.machine()}, {platform.system()} {platform.release()}",
        cores=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
        packages={name: found for name in _PACKAGES if (found := _version(name))},
        is_local=is_local,
        nodes=tuple(_node(each["Resources"]) for each in nodes if each["Alive"]),
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # ours, used from a checkout that is not installed
        return None


def _node(resources: Mapping[str, float]) -> Node:
    kinds = [name.removeprefix(_ACCELERATOR) for name in resources if _ACCELERATOR in name]
    return Node(
        cpus=int(resources.get("CPU", 0)),
        gpus=int(resources.get("GPU", 0)),
        gpu=kinds[0] if kinds else "",
    )


def record_machine(machine: Machine, run_dir: Path) -> None:
    """Keep it beside those the run was worked on before, if it is another."""
    known = read_machines(run_dir)
    if machine not in known:
        text = _Machines(machines=(*known, machine)).model_dump_json(indent=1)
        write_durably(run_dir / _FILE, text)


def read_machines(run_dir: Path) -> tuple[Machine, ...]:
    """The machines of a run; none if none is recorded, or the file is cut."""
    path = run_dir / _FILE
    if not path.is_file():
        return ()
    try:
        return _Machines.model_validate_json(path.read_text(encoding="utf-8")).machines
    except (ValidationError, UnicodeDecodeError):  # what nothing depends on stops nothing
        return ()
