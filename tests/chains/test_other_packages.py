"""A method of another package, found by its entry point, is trained, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from infra.tracking import has_pages, ui_server
from pipeline.bundle import read_manifest
from pipeline.config import Recipe
from pipeline.config.methods import METHOD_CONFIGS, MethodConfig
from pipeline.config.profile import Profile
from pipeline.data.shards.dataset_info import read_info
from pipeline.documents import build, parse_yaml
from pipeline.errors import ConfigError
from pipeline.evaluation.documents import read_report
from pipeline.ledger import Ledger
from pipeline.registry import Registry
from pipeline.run_dir.layout import RunDir
from pipeline.tracking import read_metrics
from tests.support.newcomers import TOYS, install
from tests.support.terminal import ROOT, command, environment

RECIPE = """
run: {name: toys, seed: 0}
data: {source: rings, points: 200}
teacher:
  network: {family: points, width: 16}
  schedule: {kind: cosine, num_train_timesteps: 8}
  train: {updates: 40, batch_size: 16}
  reference_steps: 8
rounds:
- method: teacher_l1
  config: {power: 1.5}
  training: {updates: 400, batch_size: 16}
- method: progressive
  config: {steps: 2, teacher_steps: 4}
  training: {updates: 6, batch_size: 16, schedule: cosine, warmup: 2, weight_decay: 0.01}
evaluation: {num_samples: 50, w: [0, 2], baseline_steps: [2], samplers: [ddim, heun]}
"""


TINY = (
    *("--set", "teacher.train.updates=4", "--set", "data.points=60"),
    *("--set", "evaluation.num_samples=12", "--set", "evaluation.w=[0]"),
    *("--set", "tracking.kind=json_files", "--set", "engine.log_every=1"),
    *("--profile", str(ROOT / "infra" / "profiles" / "inline.yaml")),
)


def tracked(folder: Path, round_name: str) -> dict[str, Any]:
    """The run of a round in the toy tracker."""
    found = [json.loads(path.read_text()) for path in (folder / "json-files").glob("*.json")]
    (run,) = [each for each in found if each["name"] == round_name]
    return run


def with_toys() -> dict[str, str]:
    return environment(PYTHONPATH=f"{TOYS}:{ROOT}:{os.environ.get('PYTHONPATH', '')}")


@pytest.mark.needs_ray
@pytest.mark.nightly
def test_a_method_of_another_package_is_trained_killed_and_resumed(tmp_path: Path) -> None:
    (tmp_path / "toys.yaml").write_text(RECIPE)
    run_dir = tmp_path / "run"
    line = [
        *command("run", "toys.yaml", "--run-dir", str(run_dir)),
        *("--set", "engine.checkpoint_every=5", "--set", "engine.log_every=1"),
        *("--set", "tracking.kind=json_files"),
    ]
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(line, cwd=tmp_path, env=with_toys(), stdout=log, stderr=log)
        while first.poll() is None and not RunDir(run_dir).all_checkpoints():
            time.sleep(0.1)
        first.send_signal(signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()[-3000:]
    done = subprocess.run(
        line,
        cwd=tmp_path,
        env=with_toys(),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    metrics = list(read_metrics(run_dir / "rounds/00-teacher_l1/metrics.jsonl"))
    assert [line["update"] for line in metrics] == list(range(1, 401))
    assert metrics[-1]["train/largest_error"] > 0
    run = tracked(tmp_path, "round 0: teacher_l1")
    assert len(run["points"]["train/loss"]) == 400
    assert run["status"] == "FINISHED"
    kinds = [artifact.kind for artifact in Ledger(run_dir).records()]
    assert kinds.count("student") == 2


@pytest.mark.needs_ray
def test_newcomers_of_every_kind_run_together_in_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toys.yaml").write_text(RECIPE.replace("updates: 400", "updates: 4"))
    run_dir = tmp_path / "run"
    done = subprocess.run(
        command("run", "toys.yaml", "--run-dir", str(run_dir), *TINY),
        cwd=tmp_path,
        env=with_toys(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert read_info(run_dir / "data").source == "rings"
    students = [each for each in Ledger(run_dir).records() if each.kind == "student"]
    install(TOYS, monkeypatch)
    manifests = [read_manifest(run_dir / each.path) for each in students]
    assert [each.network.family for each in manifests] == ["points", "points"]
    rows = read_report(run_dir / "report").rows
    baselines = {row.cell.sampler: row.evaluations for row in rows if row.cell.role == "baseline"}
    assert baselines == {"ddim": 2, "heun": 4}
    run = tracked(tmp_path, "round 0: teacher_l1")
    assert list(run["points"]["train/loss"].values()) == [
        line["train/loss"] for line in read_metrics(run_dir / "rounds/00-teacher_l1/metrics.jsonl")
    ]
    assert run["status"] == "FINISHED"
    assert "teacher, Heun, 2 steps" in (run_dir / "report/report.md").read_text()


def package(folder: Path, name: str, text: str, group: str = "stepfold.methods") -> None:
    """Write a package whose entry point of the same name is the module itself."""
    (folder / f"{name}.py").write_text(text)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}\n")


METHOD = """
from typing import ClassVar
from pipeline.config import MethodConfig
class Config(MethodConfig):
    name: ClassVar[str] = "{name}"
"""


def registry() -> Registry[MethodConfig]:
    return Registry("pipeline.methods", MethodConfig, "method", entry_points="stepfold.methods")


def test_a_package_that_fails_to_import_is_named_and_the_rest_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    package(tmp_path, "broken_toy", "import a_module_that_is_missing")
    package(tmp_path, "sound_toy", METHOD.format(name="sound"))
    monkeypatch.syspath_prepend(tmp_path)
    assert registry().get("sound").name == "sound"
    assert "broken_toy" in caplog.text
    assert "a_module_that_is_missing" in caplog.text


def test_two_packages_with_one_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "first_toy", METHOD.format(name="same"))
    package(tmp_path, "second_toy", METHOD.format(name="same"))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="rename one"):
        registry().get("same")


def test_the_methods_that_ship_are_found_without_torch() -> None:
    code = (
        "import sys; from pipeline.config.methods import METHOD_CONFIGS as found; "
        "[found.get(name) for name in ('denoising', 'guidance', 'progressive')]; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    assert METHOD_CONFIGS.get("progressive").name == "progressive"


@pytest.mark.parametrize(
    ("found", "wrong", "problem"),
    [
        ("family: points", "family: pionts", r"teacher\.network\.family: .*did you mean 'points'"),
        ("width: 16", "widht: 16", r"teacher\.network\.widht: .*did you mean 'width'"),
        ("width: 16", "width: 0", r"teacher\.network\.width: .*got 0"),
        ("source: rings", "source: ring", r"data\.source: .*did you mean 'rings'"),
        ("heun]", "huen]", r"evaluation\.samplers\.1: .*did you mean 'heun'"),
        ("heun]", "stochastic]", r"evaluation\.samplers\.1: .*not a baseline"),
        ("points: 200", "pionts: 200", r"data\.pionts: .*did you mean 'points'"),
    ],
)
def test_problems_of_newcomers_have_the_key_and_a_suggestion(
    found: str, wrong: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(TOYS, monkeypatch)
    assert build(Recipe, parse_yaml(RECIPE, "toys"), "toys").data.source == "rings"
    assert found in RECIPE
    with pytest.raises(ConfigError, match=problem):
        build(Recipe, parse_yaml(RECIPE.replace(found, wrong), "toys"), "toys")


def test_a_tracker_that_does_not_exist_is_refused_with_a_suggestion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(TOYS, monkeypatch)
    config = build(Profile, {"tracking": {"kind": "json_files"}}, "p.yaml").tracking
    assert config.title == "JSON files"
    assert not has_pages(config)
    with pytest.raises(ConfigError, match="no pages"):
        ui_server(config, TOYS, 5001)
    with pytest.raises(ConfigError, match=r"tracking\.kind: .*did you mean 'json_files'"):
        build(Profile, {"tracking": {"kind": "json_file"}}, "p.yaml")


def test_a_source_without_the_keys_that_every_source_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from typing import Literal\nfrom pipeline.config import DataConfig\n"
    text += "class Bare(DataConfig):\n    source: Literal['bare']\n    holdout: float = 0.1\n"
    package(tmp_path, "bare_toy", text, "stepfold.sources")
    install(tmp_path, monkeypatch)
    recipe = RECIPE.replace("{source: rings, points: 200}", "{source: bare}")
    with pytest.raises(ConfigError, match=r"bare_toy .*shard_size, size"):
        build(Recipe, parse_yaml(recipe, "toys"), "toys")
