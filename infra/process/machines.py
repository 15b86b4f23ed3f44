"""Record of the machines and package versions of a run, written when it starts."""

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
from pipeline.run_dir.layout import RunDir

_PACKAGES = ("stepfold", "torch", "diffusers", "deepspeed", "ray", "mlflow", "prefect")
_ACCELERATOR = "accelerator_type:"  # Ray's resource prefix for the GPU model of a node


class Node(Document):
    """A node of a Ray cluster: the resources for workers; `gpu` is the GPU model."""

    cpus: int
    gpus: int = 0
    gpu: str = ""

    @property
    def words(self) -> str:
        """The node's resources as text, for example "16 CPUs, 2 x H100"."""
        return f"{self.cpus} CPUs" + (f", {self.gpus} x {self.gpu or 'GPU'}" if self.gpus else "")


class Machine(Document):
    """The machine of a run's driver, and the nodes of its workers.

    Attributes:
        system: processor and operating system.
        cores: CPU cores available to the driver.
        python: Python version.
        packages: package versions by name.
        is_local: whether Ray ran on the driver's machine alone, not in a cluster.
        nodes: nodes of Ray.
    """

    system: str
    cores: int
    python: str
    packages: dict[str, str]
    is_local: bool
    nodes: tuple[Node, ...]

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """The description as (name, value) pairs, for display."""
        gpus = [f"{node.gpus} x {node.gpu or 'GPU'}" for node in self.nodes if node.gpus]
        pairs = [("machine" if self.is_local else "driver", f"{self.cores} cores, {self.system}")]
        if self.is_local:
            pairs.append(("GPUs of workers", ", ".join(gpus) or "none"))
        else:
            counts = Counter(node.words for node in self.nodes)
            words = ", ".join(f"{count} x ({each})" for each, count in counts.items())
            pairs.append(("Ray cluster", words))
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return (*pairs, ("Python", self.python), ("packages", packages))


class _Machines(Document):
    """Content of the file: distinct machines, in the order of first use."""

    machines: tuple[Machine, ...]


def this_machine(compute: ComputeConfig) -> Machine:
    """Describe the machine of this process, and the resources of its workers."""
    if compute.launcher == "inline":
        return describe_machine_with([_own_node(compute)], is_local=True)
    import ray

    return describe_machine_with(ray.nodes(), is_local=compute.is_local)


def _own_node(compute: ComputeConfig) -> dict[str, Any]:
    """Return the resources of the worker in this process, in the format of `ray.nodes()`."""
    resources: dict[str, float] = {"CPU": compute.cpus_per_worker, "GPU": compute.gpus_per_worker}
    if compute.gpus_per_worker:
        import torch

        resources[_ACCELERATOR + torch.cuda.get_device_name()] = 1
    return {"Alive": True, "Resources": resources}


def describe_machine_with(nodes: Sequence[Mapping[str, Any]], *, is_local: bool) -> Machine:
    """Describe the machine of this process; `nodes` has the format of `ray.nodes()`."""
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
    except PackageNotFoundError:  # stepfold itself, if run from a checkout
        return None


def _node(resources: Mapping[str, float]) -> Node:
    kinds = [name.removeprefix(_ACCELERATOR) for name in resources if _ACCELERATOR in name]
    return Node(
        cpus=int(resources.get("CPU", 0)),
        gpus=int(resources.get("GPU", 0)),
        gpu=kinds[0] if kinds else "",
    )


def record_machine(machine: Machine, run_dir: Path) -> None:
    """Add a machine to the run's record, if it is new."""
    known = read_machines(run_dir)
    if machine not in known:
        text = _Machines(machines=(*known, machine)).model_dump_json(indent=1)
        write_durably(RunDir(run_dir).machines, text)


def read_machines(run_dir: Path) -> tuple[Machine, ...]:
    """Read the machines of a run; empty if the file is missing or damaged."""
    path = RunDir(run_dir).machines
    if not path.is_file():
        return ()
    try:
        return _Machines.model_validate_json(path.read_text(encoding="utf-8")).machines
    except (
        ValidationError,
        UnicodeDecodeError,
    ):  # informational only
        return ()
