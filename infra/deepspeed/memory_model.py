"""Memory of a worker in training, for this configuration of the DeepSpeed engine.

Computed from the number of parameters alone, so that a plan can show in advance whether a network
fits. The terms come from the source of DeepSpeed 0.19.8 and are tested against measurements of CPU
processes. Not included: activations, memory of the libraries (on a GPU about 1 GB of context and
communication buffers), and fragmentation.
"""

from typing import Literal

Precision = Literal["float32", "bfloat16"]
ZeroStage = Literal[0, 1, 2, 3]

MAX_BUCKET = 500_000_000
"""Values per message between workers; DeepSpeed's default, and the engine's upper limit."""

MAX_GATHERED = 1_000_000_000
"""Values that stage 3 keeps gathered at a time; DeepSpeed's `stage3_max_live_parameters`."""

MAX_TEACHER_GATHERED = 100_000_000
"""Values of a partitioned teacher that are gathered at a time, 400 MB."""

_MASTER = 4  # bytes per parameter, float32
_MOMENTS = 8  # Adam's two moments, float32
_AVERAGE = 4  # float32
_WIDTHS: dict[Precision, int] = {"float32": 4, "bfloat16": 2}


def state_bytes(
    parameters: int,
    *,
    zero_stage: ZeroStage,
    workers: int,
    precision: Precision,
    ema: bool,
) -> int:
    """Compute the peak bytes of one worker during an update, without activations.

    The peak is at one of two points: after the last gradient, while a bucket of gradients is summed
    over the workers, or when the optimiser gets its partition of the gradients as one tensor.
    Partitions are rounded up. GPU memory was derived from DeepSpeed's source, not measured: it is
    at most this, except that stage 3 always keeps a bucket, which matters for one or two workers.

    Args:
        parameters: number of trained parameters.
        zero_stage: 0 replicates; 1, 2, 3 partition optimiser, gradients, weights over the workers.
        workers: number of training processes.
        precision: precision of weights and gradients.
        ema: whether an average of the weights is kept.

    Raises:
        ValueError: bfloat16 with stage 0, which the engine does not support.

    Source: Rajbhandari et al. 2020, arXiv:1910.02054, section 5, for the partitions of each stage.
    """
    if zero_stage == 0 and precision == "bfloat16":
        raise ValueError("bfloat16 is not supported in zero_stage 0; use stage 1, 2 or 3")
    width = _WIDTHS[precision]
    share = -(-parameters // workers)
    bucket = min(parameters, MAX_BUCKET)
    states = _MOMENTS + (_AVERAGE if ema else 0)
    if zero_stage == 0:
        return (2 * width + states) * parameters + width * bucket
    # the optimiser needs float32 gradients: a second copy if the gradients have another precision
    optimiser_gradients = width + (0 if precision == "float32" else _MASTER)
    if zero_stage == 3:
        kept = (2 * width + _MASTER + states) * share
        # gathered weights, a bucket of gradients, and the same bucket partitioned for the workers
        gathered = min(parameters, MAX_GATHERED)
        return kept + max(width * (gathered + 2 * bucket), optimiser_gradients * share)
    kept = width * parameters + (_MASTER + states) * share
    # stage 2 frees the gradients of other workers after every bucket, stage 1 at the end
    alive = parameters if zero_stage == 1 else min(parameters, share + bucket)
    return kept + max(width * (alive + bucket), (width + optimiser_gradients) * share)


def teacher_bytes(parameters: int, *, workers: int = 1, split: bool = False) -> int:
    """Compute the bytes of a float32 teacher on one worker.

    Args:
        parameters: number of its parameters.
        workers: number of training processes.
        split: whether its weights are partitioned over the workers and gathered on use.
    """
    if not split:
        return _MASTER * parameters
    return _MASTER * (-(-parameters // workers) + min(parameters, MAX_TEACHER_GATHERED))
