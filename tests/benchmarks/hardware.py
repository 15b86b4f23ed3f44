"""What this machine is, in words that a reader can compare."""

import os
import platform
from pathlib import Path

import torch

from tests.benchmarks.rows import Hardware


def this_machine() -> Hardware:
    """The machine this process runs on."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    has_gpu = torch.cuda.is_available()
    build = torch.version.cuda
    return Hardware(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(pages / 2**30, 1),
        gpu=torch.cuda.get_device_name(0) if has_gpu else None,
        torch=f"{torch.__version__} ({f'CUDA {build}' if build else 'CPU'} build)",
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
    )


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    fields = {
        key.strip(): value.strip() for key, _, value in (each.partition(":") for each in lines)
    }
    extras = {"avx512f": "AVX-512", "avx512_bf16": "AVX-512 bf16", "amx_bf16": "AMX bf16"}
    flags = fields.get("flags", "").split()
    name = fields.get("model name", platform.processor() or "unknown")
    family = f"family {fields.get('cpu family', '?')}, model {fields.get('model', '?')}"
    return ", ".join(
        [f"{name} ({family})", *(says for flag, says in extras.items() if flag in flags)]
    )
