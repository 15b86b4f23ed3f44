"""The whole stack on the Gaussian family, through the command line, against the exact answer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from pipeline.bundle import Lineage, read_manifest
from pipeline.config import Recipe
from pipeline.diffusion.ddim import sample
from pipeline.documents import build, read_yaml
from pipeline.evaluation.verdicts.gate_documents import read_verdict
from pipeline.models.assemble import denoiser_of, family_of, fresh_manifest, load_denoiser
from pipeline.randomness import RowRandom
from tests.support.terminal import invoke

ROOT = Path(__file__).resolve().parents[2]

# The tables are trained by Adam with its rate annealed to 0. In a plain loop with the same recipe
# the students end within 0.003 RMS of the exact chain at w = 4, the worst node; a student that
# ignored w would be off by more than 1.
TOLERANCE = 0.02


# The last round has all checks, the others only for finite numbers, which needs no samples.
# the unit of a distance is small here, because a Gaussian teacher is near to its data
OFF = "{relative_distance: off, rms: off, recall: off, effective_w: off}"
ROUNDS = f"{{guidance: {OFF}, '1': {OFF}}}"
GATE = f"{{num_samples: 60, w: [0, 4], relative_distance: 10, rounds: {ROUNDS}}}"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("smoke") / "gaussian"
    command = [
        *(sys.executable, "-m", "flows.cli.app", "run", "flows/recipes/gaussian.yaml"),
        *("--profile", "infra/profiles/laptop.yaml", "--run-dir", str(run_dir)),
        *("--set", f"gate={GATE}"),
    ]
    # nobody answers there: a run on Ray needs nothing from outside this machine
    proxy = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | proxy,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return run_dir


def exact_chain(recipe: Recipe, w: float, num: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, and the samples of the guided closed form in the first teacher's steps, in float64."""
    network = recipe.teacher.network
    shape = (len(network.means[0]), 1, 1)
    lineage = Lineage(run="exact", round=None, parent=None)
    manifest = fresh_manifest(recipe.teacher, len(network.means), shape, lineage)
    teacher = denoiser_of(manifest, family_of(manifest).build())
    z_1 = RowRandom((7,), 0, num).normal("z_1", *shape)
    condition = {"label": torch.arange(num) % len(network.means)}
    weights = torch.full((num,), w, dtype=torch.float64)
    exact = sample(
        z_1.double(),
        teacher.schedule,
        recipe.halving.steps[0],
        lambda z_t, level: teacher(z_t, level, condition, weights),
    )
    return z_1, exact


@pytest.mark.needs_ray
@pytest.mark.parametrize("folder", ["00-guidance", "01-4-to-2", "02-2-to-1"])
@pytest.mark.parametrize("w", [0.0, 1.0, 4.0])
def test_every_student_draws_what_the_exact_teacher_draws(
    run_dir: Path, folder: str, w: float
) -> None:
    recipe = build(Recipe, read_yaml(run_dir / "recipe.yaml"), "recipe.yaml")
    z_1, exact = exact_chain(recipe, w, num=600)
    bundle = run_dir / "rounds" / folder / "student"
    manifest, student = load_denoiser(bundle)
    steps = manifest.steps[0] if manifest.steps else recipe.halving.steps[0]
    condition = {"label": torch.arange(600) % 3}
    weights = torch.full((600,), w, dtype=torch.float64)
    with torch.inference_mode():
        drawn = sample(
            z_1,
            student.schedule,
            steps,
            lambda z_t, level: student(z_t, level, condition, weights),
        )
    assert float((drawn - exact).square().mean().sqrt()) < TOLERANCE


@pytest.mark.needs_ray
def test_the_run_leaves_what_it_promises(run_dir: Path) -> None:
    for name in (
        "recipe.yaml",
        "report/report.json",
        "report/report.md",
        "report/index.html",
        "report/timing.json",
    ):
        assert (run_dir / name).is_file(), name
    assert read_manifest(run_dir / "teacher").role == "teacher"
    report = json.loads((run_dir / "report" / "report.json").read_text())
    assert report
    timing = json.loads((run_dir / "report" / "timing.json").read_text())
    assert timing["total_seconds"] > 0
    assert np.isfinite([entry["seconds"] for entry in timing["stages"]]).all()


@pytest.mark.needs_ray
def test_every_student_came_through_the_gate(run_dir: Path) -> None:
    for folder, found in (("00-guidance", 0), ("01-4-to-2", 0), ("02-2-to-1", 2)):
        place = run_dir / "rounds" / folder
        verdict = read_verdict(place / "verdict")
        assert verdict.passed, verdict.reasons
        assert len(verdict.found) == found
        assert not (place / "candidate").exists()
    assert len(list((run_dir / "rounds/02-2-to-1/verdict").glob("*.png"))) == 2
    assert (verdict.teacher_steps, verdict.student_steps) == (2, 1)
    code, said = invoke("status", "--run-dir", str(run_dir))
    assert code == 0
    assert "Quality gate" in said
    assert "round 2: 2 -> 1 steps" in said
    assert invoke("approve", "--run-dir", str(run_dir))[0] == 2  # no approval is pending


@pytest.mark.needs_ray
def test_the_run_is_in_mlflow(run_dir: Path) -> None:
    client = MlflowClient(f"sqlite:///{run_dir.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("stepfold")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    chains = [run for run in runs if run.data.tags.get("kind") == "chain"]
    rounds = [run for run in runs if run.data.tags.get("kind") == "round"]
    assert [run.info.status for run in chains] == ["FINISHED"]
    assert sorted(run.data.params["round"] for run in rounds) == ["0", "1", "2"]
    for run in rounds:
        points = client.get_metric_history(run.info.run_id, "train/loss")
        steps = [point.step for point in points]
        assert steps == sorted(set(steps))
        assert steps[-1] == 600 * 256
    version = client.get_model_version_by_alias("gaussian", "student-1-steps")
    assert version.version == client.get_model_version_by_alias("gaussian", "teacher").version
