"""A whole chain's time over the sum of its useful compute: what starting, moving and waiting cost.

Useful compute is what `stepfold plan` counts of the finished run that `--teacher` names: network
evaluations and training updates, each at the speed it has when a process does nothing else, divided
evenly over the workers. The run's own clock is its `timing.json`.
"""

import json
from pathlib import Path

import torch

from pipeline.config.profile import Profile
from pipeline.run_dir.recipe_file import read_recipe
from stages.plan.plan import PlanRow, plan_run
from stages.workspace import Workspace
from tests.benchmarks.plain import in_memory, plain_loop
from tests.benchmarks.rows import Row, Settings, at_most
from tests.benchmarks.sizes import DEMO, random_draws
from tests.benchmarks.timing import interleave

MOST = 1.4
_FORWARD_BATCH = 64
_OWN = "evaluate"


def measure(settings: Settings) -> list[Row]:
    """Stage by stage and in all, if there is a finished run of the demo."""
    clock = _clock(settings.teacher)
    if not clock:
        return []
    seconds = _seconds_a_sample(settings)
    workers = Profile().compute.workers
    recipe = read_recipe(settings.teacher)
    # planned in an empty directory, where nothing is done yet and everything is counted
    plan = plan_run(Workspace(settings.scratch, recipe))
    useful = {row.step.id: _useful(row, seconds) / workers for row in plan}
    rows = [
        Row(
            name=f"chain/{step}",
            what=f"{step}: wall time over useful compute",
            value=took,
            unit="s",
            ratio=took / useful[step],
            details={"useful_s": round(useful[step], 2)},
        )
        for step, took in clock.items()
        if useful.get(step)
    ]
    took, floor = sum(clock.values()), sum(useful.values())
    return [
        *rows,
        Row(
            name="chain/all",
            what="the whole chain: wall time over useful compute",
            value=took,
            unit="s",
            ratio=took / floor,
            details={"useful_s": round(floor, 2), "workers": workers, **seconds},
            **at_most(MOST, took / floor),
        ),
    ]


def _clock(run_dir: Path) -> dict[str, float]:
    """Seconds of the stages that belong to the chain, not of evaluations asked for later."""
    path = run_dir / "timing.json"
    if not path.is_file():
        return {}
    stages = json.loads(path.read_text(encoding="utf-8"))["stages"]
    return {
        stage["stage"]: stage["seconds"]
        for stage in stages
        if not stage["stage"].startswith(_OWN) or stage["stage"] == _OWN
    }


def _seconds_a_sample(settings: Settings) -> dict[str, float]:
    """Of an update and of an evaluation of the demo's network, one thread, nothing else."""
    data = in_memory(*random_draws(DEMO.latent_shape, 1024))
    train = plain_loop(DEMO.module(), data, DEMO.batch, fused=True)
    network = DEMO.module().eval()
    z_t, label = data["z_t"][:_FORWARD_BATCH], data["label"][:_FORWARD_BATCH]
    told = torch.zeros(_FORWARD_BATCH, 64)

    @torch.inference_mode()
    def evaluate(count: int) -> None:
        for _ in range(count):
            network(z_t, 500, None, class_labels=label, timestep_cond=told)

    timings = interleave(
        {"update": train, "evaluation": evaluate},
        blocks=settings.count(9, 2),
        per_block=settings.count(20, 1),
        warm=settings.count(5, 1),
    )
    return {
        "update_s": timings["update"].seconds / DEMO.batch,
        "evaluation_s": timings["evaluation"].seconds / _FORWARD_BATCH,
    }


def _useful(row: PlanRow, seconds: dict[str, float]) -> float:
    if row.updates:
        learning = row.student_evaluations * seconds["update_s"]
        return learning + row.teacher_evaluations * seconds["evaluation_s"]
    evaluations = row.student_evaluations + row.teacher_evaluations
    return evaluations * seconds["evaluation_s"]
