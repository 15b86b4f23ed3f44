"""The digits demo in miniature, through the command line: real scans, a U-Net, online targets.

The pregenerated mode runs in the smoke test; here each training worker asks the teacher itself.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from pipeline.bundle import read_manifest
from pipeline.ledger import Ledger
from pipeline.tracking import read_metrics
from tests.support.page_reader import read_page

ROOT = Path(__file__).resolve().parents[2]
MINIATURE = [
    *("--set", "teacher.train.updates=120", "--set", "teacher.train.batch_size=64"),
    *("--set", "teacher.network.block_channels=[8, 16]", "--set", "teacher.reference_steps=8"),
    *("--set", "guidance.updates=30", "--set", "guidance.batch_size=32"),
    *("--set", "halving={steps: [4, 1], updates: 30, batch_size: 32}"),
    *("--set", "targets.mode=online", "--set", "evaluation.num_samples=60"),
    *("--set", "evaluation.w=[0, 2]", "--set", "engine.zero_stage=2"),
]

pytestmark = pytest.mark.needs_ray


def stepfold(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.cli.app", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("demo") / "digits"
    done = stepfold("run", "flows/recipes/digits.yaml", "--run-dir", str(run_dir), *MINIATURE)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return run_dir


def test_stock_diffusers_loads_every_student(run_dir: Path) -> None:
    for folder in ("00-guidance", "01-4-to-1"):
        bundle = run_dir / "rounds" / folder / "student"
        unet = UNet2DConditionModel.from_pretrained(bundle, subfolder="unet")
        assert unet.config.time_cond_proj_dim == 64
        assert all(torch.isfinite(weight).all() for weight in unet.parameters())
    manifest = read_manifest(run_dir / "rounds/01-4-to-1/student")
    assert (manifest.steps, manifest.jump, manifest.lineage.round) == ((1,), 4, 1)


def test_online_targets_leave_no_shards_and_teach(run_dir: Path) -> None:
    assert not list(run_dir.rglob("targets.tar"))
    assert "/targets" not in (run_dir / "events.jsonl").read_text()  # there is no such stage
    losses = [line["train/loss"] for line in read_metrics(run_dir / "rounds/teacher/metrics.jsonl")]
    # an untrained network predicts v = 0, whose error is the variance of v, about 1; the last
    # tenth of the updates must be well below the first
    assert np.mean(losses[-2:]) < 0.8 * losses[0]


def test_the_report_compares_everything_configured(run_dir: Path) -> None:
    report = json.loads((run_dir / "report/report.json").read_text())
    students = {
        (row["cell"]["w"], row["cell"]["steps"], row["evaluations"])
        for row in report["rows"]
        if row["cell"]["role"] == "student"
    }
    assert students == {(0.0, 4, 4), (0.0, 1, 1), (2.0, 4, 4), (2.0, 1, 1)}
    assert str(run_dir) not in json.dumps(report)
    for picture in report["pictures"]:
        assert (run_dir / "report" / picture).stat().st_size > 10_000


def test_the_page_is_complete_and_self_contained(run_dir: Path) -> None:
    page = read_page(run_dir / "report/index.html")
    assert page.fetched == []
    assert page.weights == ["0", "2"]
    report = json.loads((run_dir / "report/report.json").read_text())
    students = {a.path: a.digest for a in Ledger(run_dir).records() if a.kind == "student"}
    assert len(students) == 2
    for digest in students.values():
        assert digest[:12] in page.text
    # at each w the teacher, and two students and a sampler, none of them twice
    assert len(page.pictures) == 2 * (1 + 3)
    assert set(page.charts) == {
        *("curve-0", "curve-2", "training"),
        *("trade-distance_to_real", "trade-recall"),
        *("trade-inception_score-distance_to_real", "trade-recall-precision"),
    }
    drawn = next(t for t in page.charts["curve-2"]["data"] if t["name"] == "students")
    measured = {
        row["evaluations"]: row["scores"]["distance_to_real"]
        for row in report["rows"]
        if row["cell"]["role"] == "student" and row["cell"]["w"] == 2
    }
    assert dict(zip(drawn["x"], drawn["y"], strict=True)) == measured
    assert "python pipelines/1-steps/sample.py --steps 1" in page.text
    assert str(run_dir) not in (run_dir / "report/index.html").read_text()


def test_a_page_is_made_again_with_a_price(run_dir: Path) -> None:
    done = stepfold("report", "--run-dir", str(run_dir), "--price", "36")
    assert done.returncode == 0, done.stderr
    assert "at 36 per hour" in read_page(run_dir / "report/index.html").text
    assert stepfold("verify", str(run_dir)).returncode == 0


def test_two_runs_are_compared_on_one_page(run_dir: Path, tmp_path: Path) -> None:
    other, both = tmp_path / "other", tmp_path / "both.html"
    shutil.copytree(run_dir, other, ignore=shutil.ignore_patterns("ray", "logs"))
    done = stepfold("compare", str(run_dir), str(other), "--to", str(both))
    assert done.returncode == 0, done.stderr
    page = read_page(both)
    assert page.fetched == []
    assert page.weights == ["0", "2"]
    assert "digits and other" in page.text
    assert "With 1 step: no clear difference at w = 0 and 2 (intervals overlap)." in page.text
    assert "different evaluation protocols" not in page.text
    # at each w two sides of four networks, none of them twice
    assert len(page.pictures) == 2 * 2 * 4
    assert stepfold("compare", str(run_dir), str(run_dir)).returncode == 2


def test_a_student_is_sampled_and_refuses_what_it_was_not_made_for(
    run_dir: Path, tmp_path: Path
) -> None:
    student = str(run_dir / "rounds/01-4-to-1/student")
    output = tmp_path / "out.npz"
    drawn = stepfold(
        *("sample", student, "--steps", "1", "--guidance-weight", "2", "--num", "20"),
        *("--seed", "3", "--output", str(output)),
    )
    assert drawn.returncode == 0, drawn.stderr
    content = np.load(output)
    assert content["images"].shape == (20, 8, 8, 1)
    assert content["images"].dtype == np.float32
    assert content["labels"].tolist() == sorted([*range(10)] * 2)
    refused = stepfold(
        *("sample", student, "--steps", "4", "--guidance-weight", "2", "--num", "20"),
        *("--seed", "3", "--output", str(tmp_path / "no.npz")),
    )
    assert refused.returncode == 2
    assert "was distilled for 1 step" in " ".join((refused.stdout + refused.stderr).split())
