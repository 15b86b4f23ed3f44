"""Forward and backward passes in bfloat16 against float32: how fast, and how far off.

The network is cast as the engine casts it (`precision: bfloat16`); schedule, targets and loss stay
in float32. Masters and Adam are float32 in either case, so an update gains less than this.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.methods.method import DistillationMethod, NoisedBatch
from pipeline.models.assemble import family_of, network_denoiser
from pipeline.models.denoiser import Denoiser
from pipeline.training.batches import method_of, on_device
from tests.benchmarks.rows import Row, Settings
from tests.benchmarks.sizes import DEMO, LARGE, Size, random_draws
from tests.benchmarks.timing import Timing, interleave, repeated

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class _Case:
    """A student in one precision, with a batch to learn from."""

    module: nn.Module
    student: Denoiser
    method: DistillationMethod
    draws: NoisedBatch
    target: Tensor

    def learn(self) -> Tensor:
        """Forward and backward; returns the gradient, flat, in float32."""
        self.module.zero_grad()
        self.method.loss(self.student, self.draws, self.target).backward()
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        return torch.cat([gradient.float().flatten() for gradient in gradients])

    @torch.inference_mode()
    def answer(self) -> Tensor:
        """Forward only."""
        level = self.student.schedule.at(self.draws.t)
        draws = self.draws
        return self.student.velocity(draws.z_t, level, draws.condition, draws.w)


def measure(settings: Settings) -> list[Row]:
    """Both sizes."""
    rows = []
    for size in (DEMO,) if settings.quick else (DEMO, LARGE):
        cases = {name: _case(size, dtype) for name, dtype in DTYPES.items()}
        rows += _compare(size, cases, settings)
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


def _compare(size: Size, cases: dict[str, _Case], settings: Settings) -> list[Row]:
    full, half = cases["float32"], cases["bfloat16"]
    gradient, answer = full.learn(), full.answer()
    off = {
        "forward and backward": float((half.learn() - gradient).norm() / gradient.norm()),
        "forward": float((half.answer() - answer).norm() / answer.norm()),
    }
    rows = []
    for what, action in (("forward and backward", _Case.learn), ("forward", _Case.answer)):
        arms = {
            name: repeated(lambda case=case, action=action: action(case))
            for name, case in cases.items()
        }
        timings = interleave(
            arms, blocks=settings.count(9, 2), per_block=settings.count(4 if size is DEMO else 1, 1)
        )
        rows += [_row(size, what, name, timings, off[what]) for name in timings]
    return rows


def _row(size: Size, what: str, name: str, timings: dict[str, Timing], off: float) -> Row:
    ratio = timings[name].over(timings["float32"])
    details = timings[name].details(timings["float32"])
    if name == "bfloat16":
        details["relative_error"] = round(off, 5)
    return Row(
        name=f"{size.name}/{what}/{name}",
        what=f"{size.name}, batch {size.batch}: {what} in {name}; ratio to float32",
        value=1e3 * timings[name].seconds,
        unit="ms",
        ratio=ratio,
        details=details,
    )
