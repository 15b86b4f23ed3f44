"""DeepSpeed: the training engine, ZeRO stages 0 to 3, and a frozen teacher over all workers."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infra.deepspeed.memory_model import MAX_BUCKET, MAX_TEACHER_GATHERED
from pipeline.config.profile import layout_of
from pipeline.errors import ConfigError, InfraError
from pipeline.training.ema_optimiser import OptimiserPlan, make_optimiser
from pipeline.training.engines import TrainEngine, check_norm

_TAG = "state"
_OURS = "stepfold"


class DeepSpeedEngine(TrainEngine):
    """Train a float32 module on all ranks of the process group; creates a group of one if absent.

    Args:
        module: the network, equal on every rank; build it normally, not under `zero.Init`.
        plan: optimiser and schedule.
        global_batch: samples per update over all ranks.
        zero_stage: 0 replicates; 1, 2, 3 partition optimiser, gradients, weights over the ranks.
        precision: precision of weights and activations; masters are float32 (stages 1 to 3).

    Raises:
        ConfigError: the batch is not divisible by the ranks, or bfloat16 with stage 0.
    """

    def __init__(
        self,
        module: nn.Module,
        plan: OptimiserPlan,
        *,
        global_batch: int,
        zero_stage: Literal[0, 1, 2, 3],
        precision: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        join_group()
        deepspeed = import_deepspeed()
        self.rank = dist.get_rank()
        self.world_size = dist.get_world_size()
        _check(global_batch, self.world_size, zero_stage, precision)
        trained = [p for p in module.parameters() if p.requires_grad]
        self._optimiser, self._schedule = make_optimiser(trained, plan)
        self._engine, *_ = deepspeed.initialize(
            model=module,
            optimizer=self._optimiser,
            lr_scheduler=self._schedule,
            config={
                **_config(plan.clip_norm, zero_stage, precision, sum(p.numel() for p in trained)),
                "train_micro_batch_size_per_gpu": global_batch // self.world_size,
            },
        )
        self.module = self._engine
        self.device = torch.device(self._engine.device)

    @property
    def layout(self) -> str:
        """ZeRO stage and number of ranks."""
        return layout_of(self._engine.zero_optimization_stage(), self.world_size)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of this rank's mean loss, averaged over ranks."""
        self._engine.backward(loss)

    def step(self) -> float:
        """Clip, update, advance the learning rate; return the gradient norm before clipping.

        Raises:
            DivergenceError: the norm is not finite (raised on every rank); no weight was updated.
        """
        if self._engine.zero_optimization_stage() == 0:
            # DeepSpeed does not compute the norm in stage 0
            gradients = [p.grad for p in self._engine.module.parameters() if p.grad is not None]
            norm = float(nn.utils.get_total_norm(gradients))
            check_norm(norm)
            self._engine.step()
        else:
            self._engine.step()  # skips the update if the norm is not finite
            norm = float(self._engine.get_global_grad_norm())
            check_norm(norm)
        return norm

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next update."""
        return float(self._schedule.get_last_lr()[0])

    def mean(self, value: Tensor) -> Tensor:
        """Compute the elementwise mean of a tensor over ranks; collective."""
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.world_size

    def save(self, folder: Path, state: dict[str, Any]) -> None:
        """Write every rank's part into the shared `folder`; return after all ranks have written.

        This does not commit: the caller hashes and records the folder.
        """
        self._engine.save_checkpoint(
            str(folder), tag=_TAG, client_state={_OURS: state}, save_latest=False
        )
        save_file({"cpu": torch.get_rng_state()}, self._random_file(folder))
        dist.barrier()
        if self.rank == 0:
            for script in folder.glob(
                "*.py"
            ):  # DeepSpeed writes a script, but checkpoints hold data only
                script.unlink()
        dist.barrier()

    def load(self, folder: Path) -> dict[str, Any]:
        """Restore a checkpoint of `save` with the same number of ranks and the same stage.

        DeepSpeed unpickles the files, which can run code: pass only folders whose hashes were
        verified against the ledger of this run.

        Raises:
            InfraError: the folder holds no DeepSpeed checkpoint.
        """
        if not (folder / _TAG).is_dir():
            raise InfraError(f"{folder} holds no DeepSpeed checkpoint; delete it and run again")
        _, found = self._engine.load_checkpoint(str(folder), tag=_TAG)
        torch.set_rng_state(load_file(self._random_file(folder))["cpu"])
        dist.barrier()
        state: dict[str, Any] = found[_OURS]
        return state

    def full_weights(self) -> dict[str, Tensor]:
        """Return float32 masters, or their average, and buffers, by the unwrapped module's names.

        Collective; complete on rank 0, empty elsewhere. The engine must not be used afterwards.
        """
        self._optimiser.adopt_average()
        module: nn.Module = self._engine.module
        weights = dict(module.named_buffers(remove_duplicate=False))
        for name, parameter in module.named_parameters(remove_duplicate=False):
            weights[name] = self._master(parameter)
        if self.rank != 0:
            return {}
        kept = {name: weights[name].detach().cpu() for name in module.state_dict()}
        return {n: t.float() if t.dtype == torch.bfloat16 else t for n, t in kept.items()}

    def _master(self, parameter: nn.Parameter) -> Tensor:
        import deepspeed
        from deepspeed.utils import safe_get_full_fp32_param

        master: Tensor | None = None
        if parameter.requires_grad:
            master = safe_get_full_fp32_param(parameter)
        if master is not None:
            return master.detach().cpu()
        whole = self._engine.zero_optimization_stage() < 3
        with deepspeed.zero.GatheredParameters([parameter], enabled=not whole):
            return parameter.detach().clone()

    def _random_file(self, folder: Path) -> Path:
        return folder / f"random-{self.rank:04d}.safetensors"


@contextmanager
def group_of_one() -> Iterator[None]:
    """Provide a single-process group for the block, and destroy it afterwards.

    DeepSpeed's references to the group are removed too. An existing group is used and kept.
    """
    if dist.is_initialized():
        yield
        return
    join_group()
    try:
        yield
    finally:
        comm = sys.modules.get("deepspeed.comm")
        if comm is not None and comm.is_initialized():
            comm.destroy_process_group()  # torch's, and DeepSpeed's references to it
        else:
            dist.destroy_process_group()


def join_group() -> None:
    """Create a single-process group, unless this process already has a group."""
    if dist.is_initialized():
        return
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        os.environ.setdefault(name, value)  # DeepSpeed reads them
    store = dist.HashStore()  # type: ignore[attr-defined] # missing from torch's export list
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=0, world_size=1)


def import_deepspeed() -> Any:
    """Import DeepSpeed without compiling extensions, and without warnings."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # no auto-detection warning
    import deepspeed
    import deepspeed.ops

    # compiled with g++ on first use (35 s), but only used by DeepSpeed's own launcher
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _check(global_batch: int, world_size: int, zero_stage: int, precision: str) -> None:
    if global_batch % world_size:
        raise ConfigError(
            f"batch_size: {global_batch} is not divisible by {world_size} workers; change "
            "batch_size or compute.workers"
        )
    if precision == "bfloat16" and zero_stage == 0:
        raise ConfigError(
            "engine.precision: bfloat16 needs float32 master weights, which zero_stage 0 does not "
            "have; use engine.zero_stage 1, 2 or 3"
        )


def _config(
    clip_norm: float, zero_stage: int, precision: str, num_parameters: int
) -> dict[str, Any]:
    # the default reserves 2 GB (5e8 values) even for small networks
    bucket = min(MAX_BUCKET, num_parameters + num_parameters % 2)  # must be even
    return {
        "gradient_accumulation_steps": 1,
        "gradient_clipping": clip_norm,
        "zero_optimization": {
            "stage": zero_stage,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            # copies every gradient to reduce fragmentation on a GPU; useless on a CPU
            "contiguous_gradients": torch.cuda.is_available(),
        },
        "zero_allow_untested_optimizer": True,  # AveragingAdam is AdamW with an average
        "bf16": {"enabled": precision == "bfloat16", "check_grad_overflow": True},
        "steps_per_print": 10**9,
    }


def partition_over_workers(module: nn.Module) -> nn.Module:
    """Partition a frozen teacher over the workers of the process group, and gather it on use.

    With online targets, every worker evaluates the teacher. A full copy takes four bytes per
    parameter on each worker. A partitioned one takes a fraction of that, but its weights are
    communicated in every evaluation.

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
