"""A stock pipeline is distilled and exported through the command line, in one process.

Every kind of pipeline does so in `test_family_chains.py`, stage by stage.
"""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.bundle import read_manifest
from pipeline.documents import dump_yaml
from pipeline.ledger import Ledger
from pipeline.run_dir.events import Events
from tests.support.page_reader import read_page
from tests.support.terminal import ROOT, command, environment
from tests.support.tiny_pipelines import PIXELS, tiny_pipeline

CAPTIONS = ("a red square", "a blue circle", "nothing of the kind")
COUNT = 24
W = 2

pytestmark = [pytest.mark.needs_ray, pytest.mark.nightly]

RUN = ("recipe.yaml", "--run-dir", "run", "--profile", str(ROOT / "infra/profiles/inline.yaml"))


def stepfold(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        command(*arguments),
        cwd=root,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return " ".join(done.stdout.split())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of `recipe.yaml` in `run`."""
    root = tmp_path_factory.mktemp("pipeline-teacher")
    tiny_pipeline("sd", root / "teacher")
    write_images(root / "images")
    recipe = {
        "run": {"name": "tiny"},
        "data": {
            "source": "captioned_folder",
            "path": "images",
            "captions": "metadata.csv",
            "size": PIXELS,
        },
        "teacher": {"pipeline": "teacher", "reference_steps": 4},
        "guidance": {
            "w": {"min": 1, "max": 7},
            "conversion_updates": 2,
            "updates": 2,
            "batch_size": 4,
        },
        "halving": {"steps": [2, 1], "updates": 2, "batch_size": 4},
        "evaluation": {"num_samples": 4, "w": [W], "baseline_steps": [1]},
    }
    (root / "recipe.yaml").write_text(dump_yaml(recipe))
    stepfold(root, "run", *RUN)
    return root


def write_images(folder: Path) -> None:
    folder.mkdir()
    lines = ["file_name,text"]
    for number in range(COUNT):
        random = np.random.default_rng(number)
        pixels = random.integers(0, 256, (PIXELS, PIXELS, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
        lines.append(f"{number:02d}.png,{CAPTIONS[number % len(CAPTIONS)]}")
    (folder / "metadata.csv").write_text("\n".join(lines))


def test_students_and_their_pipelines_are_there(root: Path) -> None:
    rounds = root / "run" / "rounds"
    first, second = (
        read_manifest(rounds / name / "student") for name in ("00-guidance", "01-2-to-1")
    )
    assert (first.steps, second.steps) == (None, (1,))
    assert first.prediction_type == second.prediction_type == "v_prediction"
    assert [path.name for path in (root / "run/pipelines").iterdir()] == ["1-steps"]


def test_the_report_is_one_of_agreement(root: Path) -> None:
    report = json.loads((root / "run/report/report.json").read_text())
    assert report["kind"] == "agreement"
    assert {row["cell"]["w"] for row in report["rows"]} == {W}
    distances = [row["scores"]["rms_to_teacher"] for row in report["rows"]]
    assert all(np.isfinite(distances))


def test_its_page_claims_agreement_and_says_how_to_draw(root: Path) -> None:
    page = read_page(root / "run/report/index.html")
    assert page.fetched == []
    assert "no metrics against real images" in page.text
    assert 'DiffusionPipeline.from_pretrained("pipelines/1-steps")' in page.text
    assert list(page.charts) == [f"curve-{W:g}", "training"]
    assert page.pictures


def test_ten_lines_of_stock_diffusers_draw_from_it(root: Path) -> None:
    script = f"""
        import sys
        import torch
        from diffusers import DiffusionPipeline

        pipeline = DiffusionPipeline.from_pretrained("run/pipelines/1-steps", dtype=torch.float32)
        drawn = pipeline(
            "a red square", num_inference_steps=1, guidance_scale={1 + W}, height={PIXELS},
            width={PIXELS}, generator=torch.Generator().manual_seed(0))
        drawn.images[0].save("stock.png")
        assert not {{"pipeline", "stages", "flows", "infra"}} & set(sys.modules)
    """
    subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(script)], cwd=root, check=True, timeout=300
    )
    assert Image.open(root / "stock.png").size == (PIXELS, PIXELS)


def test_the_same_command_again_finds_all_done(root: Path) -> None:
    ledger, events = Ledger(root / "run"), Events(root / "run")
    before, offset = ledger.records(), events.size()
    assert "All stages are done." in stepfold(root, "plan", *RUN)
    stepfold(root, "run", *RUN)
    assert ledger.records() == before
    ended = [event for event in events.read(offset)[0] if event.kind == "stage_done"]
    # the report is logged to MLflow again
    assert {event.stage for event in ended if not event.cached} <= {"publish"}
    assert any(event.title == "export the pipeline of 1 step" for event in ended)


def test_a_student_is_exported_and_sampled_by_hand(root: Path) -> None:
    student = "run/rounds/01-2-to-1/student"
    stepfold(root, "export", student, "--to", "exported")
    assert (root / "exported/model_index.json").is_file()
    stepfold(
        root,
        *("sample", student, "--prompt", "a red square", "--steps", "1"),
        *("--guidance-weight", str(W), "--output", "ours.png"),
    )
    ours = np.asarray(Image.open(root / "ours.png"))
    assert ours.ndim == 3
    assert len(np.unique(ours)) > 10  # a picture, and no flat tile
