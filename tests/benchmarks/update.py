"""One training update: the product's against a plain loop, and bfloat16 against float32."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.methods.method import DistillationMethod, Networks, NoisedBatch
from pipeline.models.assemble import family_of, network_denoiser
from pipeline.models.denoiser import Denoiser
from pipeline.training.batches import method_of, on_device
from tests.benchmarks.harness import Arm, Row, Settings, Timing, at_most, interleave, repeated
from tests.benchmarks.loops import OpenRound, in_memory, plain_loop
from tests.benchmarks.sizes import DEMO, LARGE, Size, num_parameters, random_draws, write_targets

_LIMITS = {"demo": 1.15, "50M": 1.05}
_PLAIN = "plain loop, default Adam"
_FUSED = "plain loop, fused Adam"
_OURS = "train_round on DeepSpeed, ZeRO-1"
_TORCH = "train_round on the plain torch engine"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def measure(settings: Settings) -> list[Row]:
    """One training update, ZeRO-1 with one worker, against a plain PyTorch loop.

    The product's side is `train_round` itself on the DeepSpeed engine: records read from a tar,
    loss, its mean over ranks, backward, clipping, Adam, a line of metrics in ten updates. The
    target is held against the faster plain loop, torch's default Adam for the device or the fused.
    """
    rows = []
    for size in _sizes(settings):
        demo = size is DEMO
        timings = interleave(
            _arms(size, settings),
            blocks=settings.count(9 if demo else 7, 2),
            per_block=settings.count(20 if demo else 1, 2),
            warm=settings.count(5 if demo else 2, 1),
        )
        fastest = min((timings[_PLAIN], timings[_FUSED]), key=lambda each: each.seconds)
        for name, timing in timings.items():
            ratio = timing.over(fastest)
            rows.append(
                Row(
                    name=f"{size.name}/{name}",
                    what=f"{size.name}: {name}; ratio to the faster plain loop",
                    value=1e3 * timing.seconds,
                    unit="ms an update",
                    ratio=ratio,
                    details={**timing.details(), "parameters": num_parameters(size.module())},
                    **(at_most(_LIMITS[size.name], ratio) if name == _OURS else {}),
                )
            )
    return rows


def _sizes(settings: Settings) -> tuple[Size, ...]:
    return (DEMO,) if settings.quick else (DEMO, LARGE)


def _arms(size: Size, settings: Settings) -> dict[str, Arm]:
    """The arms that train on the same records, on disk or in memory."""
    folder = settings.scratch / size.name
    rows = max(256, 2 * size.batch)
    targets = write_targets(folder / "targets", size.latent_shape, tars=4, members=2, rows=rows)
    ours = OpenRound(size, targets, folder / "deepspeed")
    device = ours.engine.device
    drawn = in_memory(*ours.source.at(0, 8 * rows))
    data = {name: column.contiguous().to(device) for name, column in drawn.items()}
    return {
        _PLAIN: plain_loop(size.module().to(device), data, size.batch, fused=False),
        _FUSED: plain_loop(size.module().to(device), data, size.batch, fused=True),
        _TORCH: OpenRound(size, targets, folder / "torch", deepspeed=False).updates,
        _OURS: ours.updates,
    }


@dataclass(frozen=True)
class _Case:
    """A student in one precision, with a training batch."""

    module: nn.Module
    student: Denoiser
    method: DistillationMethod
    draws: NoisedBatch
    target: Tensor

    def learn(self) -> Tensor:
        """Forward and backward; returns the gradient, flat, in float32."""
        self.module.zero_grad()
        self.method.step(Networks(self.student), self.draws, self.target).loss.backward()
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        return torch.cat([gradient.float().flatten() for gradient in gradients])


def measure_bf16(settings: Settings) -> list[Row]:
    """Forward and backward passes in bfloat16 against float32: speed and error.

    The network is cast as the engine casts it (`precision: bfloat16`); schedule, targets and loss
    stay in float32. Masters and Adam are float32 in either case, so an update gains less than this.
    """
    rows = []
    for size in _sizes(settings):
        cases = {name: _case(size, dtype) for name, dtype in _DTYPES.items()}
        gradient = cases["float32"].learn()
        error = float((cases["bfloat16"].learn() - gradient).norm() / gradient.norm())
        timings = interleave(
            {name: repeated(case.learn) for name, case in cases.items()},
            blocks=settings.count(9, 2),
            per_block=settings.count(4 if size is DEMO else 1, 1),
        )
        rows += [_precision_row(size, name, timings, error) for name in timings]
    return rows


def _case(size: Size, dtype: torch.dtype) -> _Case:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = copy.deepcopy(size.module()).to(device=device, dtype=dtype).train()
    draws, target = random_draws(size.latent_shape, size.batch)
    manifest = size.manifest()
    return _Case(
        module=module,
        student=network_denoiser(manifest, module),
        method=method_of(size.plan(), family_of(manifest)),
        draws=on_device(draws, device),
        target=target.to(device),
    )


def _precision_row(size: Size, name: str, timings: dict[str, Timing], error: float) -> Row:
    details = timings[name].details()
    if name == "bfloat16":
        details["relative_error"] = round(error, 5)
    return Row(
        name=f"{size.name}/{name}",
        what=f"{size.name}, batch {size.batch}: forward and backward in {name}; ratio to float32",
        value=1e3 * timings[name].seconds,
        unit="ms",
        ratio=timings[name].over(timings["float32"]),
        details=details,
    )
