"""`stages.rounds.train_worker.train` with time and memory recorded.

Ray calls `train` by name. `python -m tests.benchmarks.round_worker JOB.json` does the same without
Ray, as the only worker.
"""

import json
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from stages.rounds.train_worker import RoundJob

ENTERED = "entered"
IDLE = "import of the network's family: diffusers"
FIRST_UPDATE = "first update"
TRAINED = "trained"


class Marks:
    """When something was reached, and the most memory the process had held by then."""

    def __init__(self) -> None:
        self.process_started = psutil.Process().create_time()
        self.found: list[dict[str, Any]] = []

    def add(self, name: str) -> None:
        """`name` is reached now."""
        self.found.append({"name": name, "time": time.time(), "peak_mb": peak_mb()})

    def write(self, path: Path) -> None:
        """As JSON."""
        tree = {"process_started": self.process_started, "marks": self.found}
        path.write_text(json.dumps(tree), encoding="utf-8")


def peak_mb() -> float:
    """The most memory this process has held, MB.

    Not `ru_maxrss`: Linux hands a parent's down to the programs it starts.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def train(job: dict[str, Any]) -> None:
    """Train `job["round"]` on this rank; leaves `marks-<rank>.json` in `job["marks"]`."""
    marks = Marks()
    marks.add(ENTERED)
    from stages.rounds.train_worker import RoundJob

    marks.add("imports of ours")
    from infra.deepspeed.engine import import_deepspeed

    import_deepspeed()
    marks.add("import deepspeed")
    rank = _train(RoundJob.model_validate(job["round"]), marks)
    marks.write(Path(job["marks"]) / f"marks-{rank}.json")


def _train(job: "RoundJob", marks: Marks) -> int:
    from pipeline.data.latents import open_samples
    from pipeline.models.assemble import family_of, network_denoiser
    from pipeline.tracking import JsonlTracker
    from pipeline.training.batches import method_of
    from pipeline.training.checkpoint import Checkpoints
    from pipeline.training.engines import OptimiserPlan
    from pipeline.training.loop import RoundInputs, train_round
    from stages.rounds import train_worker as worker

    plan, family = job.plan, family_of(job.manifest)
    marks.add(IDLE)
    module = worker._initial_student(job)
    marks.add("student from its teacher's bundle")
    engine = worker.DeepSpeedEngine(
        module,
        OptimiserPlan(
            learning_rate=plan.training.learning_rate,
            total_updates=plan.training.updates,
            clip_norm=plan.training.clip_norm,
            ema_decay=plan.ema_decay,
        ),
        global_batch=plan.training.batch_size,
        zero_stage=job.engine.zero_stage,
        precision=job.engine.precision,
    )
    marks.add("engine")
    student = network_denoiser(job.manifest, engine.module)
    samples = open_samples(Path(job.data), "train")
    method = method_of(plan, family)
    source = _marked(worker._source(job, method, student, samples, engine.device), marks)
    marks.add("source of targets")
    train_round(
        RoundInputs(plan, method, student, source),
        engine,
        Checkpoints(Path(job.checkpoints), job.key, job.engine.keep_checkpoints, job.attempt),
        job.engine,
        lambda samples_seen: JsonlTracker(Path(job.metrics), samples_seen),
    )
    marks.add(TRAINED)
    weights = engine.full_weights()
    if engine.rank == 0:
        worker._save(job, weights, None)
    marks.add("student saved")
    return engine.rank


def _marked(source: Any, marks: Marks) -> Any:
    """The same source; its first and second use say when the loop began, and updated once."""
    from pipeline.training.batches import BatchSource

    class Marked(BatchSource):
        def __init__(self) -> None:
            self._names = iter(("checkpoint looked for", FIRST_UPDATE))

        def at(self, first: int, count: int) -> Any:
            name = next(self._names, None)
            if name:
                marks.add(name)
            return source.at(first, count)

    return Marked()


def main() -> None:
    """Be the only worker."""
    sys.modules["mlflow"] = None  # type: ignore[assignment] # as in infra.ray.worker.train_loop
    from infra.ray.worker import prepare_process

    prepare_process(1)
    logging.getLogger().setLevel(logging.ERROR)
    train(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
