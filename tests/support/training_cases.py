"""A small training, specified in JSON, for any engine and any number of workers."""

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn

from infra.deepspeed.engine import DeepSpeedEngine
from pipeline.errors import DataError
from pipeline.training.ema_optimiser import OptimiserPlan
from pipeline.training.engines import TorchEngine, TrainEngine

BATCH = 8
UPDATES = 10
PLAN = OptimiserPlan(learning_rate=1e-2, total_updates=20, clip_norm=0.1, ema_decay=0.9)
ZERO = ("zero0", "zero1", "zero2", "zero3")
ENGINES = ("torch", *ZERO)


def network() -> nn.Module:
    """Sizes that do not divide by two, a buffer, and a parameter that is not trained."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(6, 15), nn.SiLU(), nn.Linear(15, 7), nn.SiLU(), nn.Linear(7, 6)
    )
    module.register_buffer("grid", torch.arange(3))
    module[2].bias.requires_grad_(False)
    return module


def make_engine(
    name: str, module: nn.Module | None = None, plan: OptimiserPlan = PLAN
) -> TrainEngine:
    module = module or network()
    if name == "torch":
        return TorchEngine(module, plan)
    kind, _, precision = name.partition("-")
    return DeepSpeedEngine(
        module,
        plan,
        global_batch=BATCH,
        zero_stage=int(kind[-1]),
        precision=precision or "float32",
    )


def train(engine: TrainEngine, first: int, last: int) -> list[tuple[float, float, float]]:
    """Run updates `first` .. `last`; return (mean loss, gradient norm, rate) of each."""
    log = []
    share = BATCH // engine.world_size
    rows = slice(engine.rank * share, (engine.rank + 1) * share)
    for update in range(first, last):
        random = torch.Generator().manual_seed(update)
        x, y = torch.randn(2, BATCH, 6, generator=random)
        dtype = next(engine.module.parameters()).dtype
        loss = (engine.module(x[rows].to(dtype)).float() - y[rows]).square().mean()
        mean = float(engine.mean(loss.detach()))
        engine.backward(loss)
        rate = engine.learning_rate
        log.append((mean, engine.step(), rate))
    return log


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def worker(job: dict[str, Any]) -> None:
    """Body of a Ray Train worker: train, save at `save_at`, and fail once as the job requests."""
    output = Path(job["output"])
    engine = make_engine(job["engine"])
    checkpoint = output / "checkpoint"
    start = 0
    if checkpoint.is_dir():
        start = int(engine.load(checkpoint)["update"])
    with (output / f"starts-{engine.rank}").open("a") as file:
        file.write(f"{start}\n")
    log = train(engine, start, job["save_at"])
    if start == 0 and job["save_at"]:
        staging = output / "staging"
        staging.mkdir(exist_ok=True)
        engine.save(staging, {"update": job["save_at"]})
        if engine.rank == 0:
            staging.rename(checkpoint)
    log += train(engine, max(start, job["save_at"]), job["save_at"] + 2)
    fail(job.get("fail"), engine, output / "failed")
    log += train(engine, job["save_at"] + 2, UPDATES)
    weights = engine.full_weights()
    if engine.rank == 0:
        save_file(
            {name: t.contiguous() for name, t in weights.items()}, output / "weights.safetensors"
        )
        (output / "log.json").write_text(json.dumps(log))


def fail(how: str | None, engine: TrainEngine, once: Path) -> None:
    if how is None or engine.rank != engine.world_size - 1 or once.exists():
        return
    once.touch()
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    if how == "accident":
        raise KeyError("an accident")
    raise DataError("a target is missing; look for it")


def stumble(job: dict[str, Any]) -> None:
    """Body of a Ray Train worker that is killed after each new checkpoint, or before any."""
    output, ledger = Path(job["output"]), Path(job["checkpoints"]) / "ledger"
    ledger.mkdir(parents=True, exist_ok=True)
    with (output / "starts").open("a") as file:
        file.write(".")
    reached = len(list(ledger.glob("*.json")))
    if reached == job["enough"]:
        return
    if job["progresses"]:
        (ledger / f"{reached}.json").touch()
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(job: dict[str, Any]) -> None:
    """Body of a Ray Train worker that never ends."""
    (Path(job["output"]) / f"asleep-{os.environ['RANK']}").touch()
    time.sleep(600)


def double(spec: dict[str, Any]) -> Any:
    """Factory for `run_jobs`: doubles numbers, and fails on those in the spec."""

    def serve(job: dict[str, Any]) -> dict[str, Any]:
        number = job["number"]
        once = Path(spec["folder"]) / f"killed-{number}"
        if number in spec.get("kill", []) and not (once.exists() and spec.get("once", True)):
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        stopped = Path(spec["folder"]) / f"stopped-{number}"
        if number in spec.get("stop", []) and not stopped.exists():
            stopped.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
        if number in spec.get("hungry", []):
            torch.empty(2**50, dtype=torch.uint8)
        if number in spec.get("refuse", []):
            raise DataError(f"{number} is refused; leave it out")
        if number in spec.get("accident", []):
            raise KeyError(number)
        if "meet" in spec:
            _meet(Path(spec["folder"]), number, spec["meet"])
        return {"number": number, "double": 2 * number, "threads": torch.get_num_threads()}

    return serve


def _meet(folder: Path, number: int, others: int) -> None:
    """Wait until `others` jobs are in this process at the same time."""
    (folder / f"{os.getpid()}-{number}").touch()
    deadline = time.monotonic() + 30
    while len(list(folder.glob(f"{os.getpid()}-*"))) < others:
        if time.monotonic() > deadline:
            raise TimeoutError(f"job {number} waited for others in vain")
        time.sleep(0.01)


def stir(spec: dict[str, Any]) -> Any:
    """Factory for `run_jobs`: changes all global state, and fails on request."""

    def serve(job: dict[str, Any]) -> dict[str, Any]:
        found = _found("OMP_NUM_THREADS")
        _stir()
        if job.get("refuse"):
            raise DataError("refused; leave it out")
        return found

    return serve


def stir_fit(job: dict[str, Any]) -> None:
    """Entry for `fit`: records and changes all global state, and fails on request."""
    found = _found("OMP_NUM_THREADS", "RANK", "LOCAL_RANK", "WORLD_SIZE")
    Path(job["output"]).write_text(json.dumps({**found, "ranks": dist.get_world_size()}))
    _stir()
    if job.get("refuse"):
        raise DataError("refused; leave it out")


def _found(*names: str) -> dict[str, Any]:
    return {
        **{name: os.environ[name] for name in names},
        "threads": torch.get_num_threads(),
        "plain linear": nn.functional.linear is torch._C._nn.linear,
    }


def _stir() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    torch.set_num_threads(3)
    os.umask(0o000)
    os.environ["STEPFOLD_STIRRED"] = "1"
    nn.functional.linear = None
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
