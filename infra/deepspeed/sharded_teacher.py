"""A frozen teacher whose weights are split over the workers, each gathered when it is used.

Where targets are computed online, every worker evaluates the teacher. Whole, it costs four bytes a
parameter on each of them; split, a share of that, and the weights travel at every evaluation.
"""

import torch.distributed as dist
from torch import nn

from infra.deepspeed.engine import import_deepspeed
from infra.deepspeed.memory_model import MOST_TEACHER_GATHERED


def split_over_workers(module: nn.Module) -> nn.Module:
    """The module, to be called by all workers of the process group at the same time, and as often.

    What it computes is the same to the last bit.

    Args:
        module: frozen, the same on every rank, on any device; it must not be used by itself again.
    """
    deepspeed = import_deepspeed()
    engine, *_ = deepspeed.initialize(
        model=module,
        config={
            # no batch is ever counted, but DeepSpeed wants one
            "train_batch_size": dist.get_world_size(),
            "zero_optimization": {
                "stage": 3,
                "stage3_max_live_parameters": MOST_TEACHER_GATHERED,
                "stage3_prefetch_bucket_size": MOST_TEACHER_GATHERED // 2,
                "stage3_max_reuse_distance": 0,  # nothing is kept gathered for the next evaluation
            },
            "steps_per_print": 10**9,
        },
    )
    wrapped: nn.Module = engine
    return wrapped
