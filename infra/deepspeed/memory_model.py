"""What a worker holds of a network in training, from how the DeepSpeed engine is configured here.

Plain arithmetic on the number of parameters, so that a plan can say before anything is paid for
whether a network fits. The terms were read from DeepSpeed 0.19.8 and are held to measurements of
processes on a CPU. Not in them: activations, what the libraries themselves take (on a GPU about
1 GB of context and communication buffers), and what allocators waste.
"""

from typing import Literal

Precision = Literal["float32", "bfloat16"]
ZeroStage = Literal[0, 1, 2, 3]

LARGEST_BUCKET = 500_000_000
"""Numbers in one message between workers; DeepSpeed's default, and the engine's upper limit."""

MOST_GATHERED = 1_000_000_000
"""Numbers that stage 3 keeps gathered at a time; DeepSpeed's `stage3_max_live_parameters`."""

MOST_TEACHER_GATHERED = 100_000_000
"""Numbers of a split teacher that are gathered at a time, 400 MB."""

_MASTER = 4  # float32
_MOMENTS = 8  # two of Adam's, float32
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
    """Bytes that one worker holds at the worst moment of an update, without activations.

    There are two such moments: when the last gradient has come and a bucket of them is being
    summed over the workers, and when the optimiser is given its share of them as one tensor.
    Parameters that do not divide among the workers are rounded up. What a GPU takes was read from
    DeepSpeed, not measured: as much or less, but stage 3 keeps a bucket there all the time, which
    one worker or two would see.

    Args:
        parameters: trained numbers of the network.
        zero_stage: 0 replicates; 1, 2, 3 split optimiser, gradients, weights over the workers.
        workers: processes that train it together.
        precision: of weights and gradients.
        ema: whether an average of the weights is kept.

    Raises:
        ValueError: bfloat16 with stage 0, which the engine refuses.

    Source: Rajbhandari et al. 2020, arXiv:1910.02054, section 5, for what each stage splits.
    """
    if zero_stage == 0 and precision == "bfloat16":
        raise ValueError("the engine has no bfloat16 in stage 0")
    width = _WIDTHS[precision]
    share = -(-parameters // workers)
    bucket = min(parameters, LARGEST_BUCKET)
    states = _MOMENTS + (_AVERAGE if ema else 0)
    if zero_stage == 0:
        return (2 * width + states) * parameters + width * bucket
    # the optimiser is handed float32: a second copy where the gradients are not
    handed = width + (0 if precision == "float32" else _MASTER)
    if zero_stage == 3:
        kept = (2 * width + _MASTER + states) * share
        # gathered weights, a bucket of gradients, and the same cut up for the workers
        gathered = min(parameters, MOST_GATHERED)
        return kept + max(width * (gathered + 2 * bucket), handed * share)
    kept = width * parameters + (_MASTER + states) * share
    # stage 2 drops what belongs to others with every bucket, stage 1 at the end
    alive = parameters if zero_stage == 1 else min(parameters, share + bucket)
    return kept + max(width * (alive + bucket), (width + handed) * share)


def frozen_bytes(parameters: int, *, workers: int = 1, split: bool = False) -> int:
    """Bytes on one worker of a teacher that computes targets, float32.

    Args:
        parameters: of its network.
        workers: processes that train together.
        split: whether they share its weights, which are then gathered piece by piece.
    """
    if not split:
        return _MASTER * parameters
    return _MASTER * (-(-parameters // workers) + min(parameters, MOST_TEACHER_GATHERED))
