"""A frozen teacher with weights partitioned over the workers and gathered on use.

With online targets, every worker evaluates the teacher. A full copy takes four bytes per parameter
on each worker. A partitioned teacher takes a fraction of that, but its weights are communicated in
every evaluation.
"""

import torch.distributed as dist
from torch import nn

from infra.deepspeed.engine import import_deepspeed
from infra.deepspeed.memory_model import MAX_TEACHER_GATHERED


def partition_over_workers(module: nn.Module) -> nn.Module:
    """Partition a frozen module over the workers of the process group.

    All workers must call the result at the same time and equally often. Outputs are bitwise equal
    to the module's.

    Args:
        module: frozen module, equal on every rank, on any device; it must not be used directly
            afterwards.
    """
    deepspeed = import_deepspeed()
    engine, *_ = deepspeed.initialize(
        model=module,
        config={
            # unused, but required by DeepSpeed
            "train_batch_size": dist.get_world_size(),
            "zero_optimization": {
                "stage": 3,
                "stage3_max_live_parameters": MAX_TEACHER_GATHERED,
                "stage3_prefetch_bucket_size": MAX_TEACHER_GATHERED // 2,
                "stage3_max_reuse_distance": 0,  # keep no gathered weights between evaluations
            },
            "steps_per_print": 10**9,
        },
    )
    wrapped: nn.Module = engine
    return wrapped
