"""A method of another package, found by its entry point, is trained, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
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
from tests.test_docs import blocks_of

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


PAGE = ROOT / "docs" / "extending.md"


def tracked(folder: Path, round_name: str) -> dict[str, Any]:
    """The run of a round in the toy tracker."""
    found = [json.loads(path.read_text()) for path in (folder / "json-files").glob("*.json")]
    (run,) = [each for each in found if each["name"] == round_name]
    return run


def with_packages(folder: Path) -> dict[str, str]:
    """The environment in which the packages of a folder are found."""
    return environment(PYTHONPATH=f"{folder}:{ROOT}:{os.environ.get('PYTHONPATH', '')}")


@pytest.mark.needs_ray
@pytest.mark.nightly
def test_a_package_with_every_kind_is_trained_killed_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toys.yaml").write_text(RECIPE)
    run_dir = tmp_path / "run"
    line = [
        *command("run", "toys.yaml", "--run-dir", str(run_dir)),
        *("--set", "engine.checkpoint_every=5", "--set", "engine.log_every=1"),
        *("--set", "tracking.kind=json_files"),
    ]
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(
            line, cwd=tmp_path, env=with_packages(TOYS), stdout=log, stderr=log
        )
        while first.poll() is None and not RunDir(run_dir).all_checkpoints():
            time.sleep(0.1)
        first.send_signal(signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()[-3000:]
    done = subprocess.run(
        line,
        cwd=tmp_path,
        env=with_packages(TOYS),
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
    assert read_info(run_dir / "data").source == "rings"
    students = [each for each in Ledger(run_dir).records() if each.kind == "student"]
    install(TOYS, monkeypatch)
    manifests = [read_manifest(run_dir / each.path) for each in students]
    assert [each.network.family for each in manifests] == ["points", "points"]
    rows = read_report(run_dir / "report").rows
    assert {row.cell.sampler for row in rows if row.cell.role == "baseline"} == {"ddim", "heun"}


def write_examples(folder: Path) -> None:
    """Write the package and the recipe of docs/extending.md."""
    texts = {block.language: block.text for block in blocks_of(PAGE) if block.language != "python"}
    (folder / "recipe.yaml").write_text(texts["yaml"])
    (folder / "my_stepfold").mkdir()
    (folder / "my_stepfold" / "__init__.py").write_text("")
    for block in blocks_of(PAGE):
        if block.language == "python":
            name = block.text.partition("\n")[0].removeprefix("# ")
            (folder / name).write_text(block.text)
    info = folder / "my_stepfold-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_stepfold\nVersion: 1.0\n")
    groups = tomllib.loads(texts["toml"])["project"]["entry-points"]
    lines = [
        line
        for group, points in groups.items()
        for line in (f"[{group}]", *(f"{name} = {module}" for name, module in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.mark.needs_ray
def test_the_examples_of_every_kind_in_the_documentation_run_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_examples(tmp_path)
    run_dir = tmp_path / "run"
    done = subprocess.run(
        [
            *command("run", "recipe.yaml", "--run-dir", str(run_dir)),
            *("--profile", str(ROOT / "infra" / "profiles" / "inline.yaml")),
            *("--set", "tracking.kind=text_files", "--set", "engine.log_every=1"),
        ],
        cwd=tmp_path,
        env=with_packages(tmp_path),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert read_info(run_dir / "data").source == "segments"
    students = [each for each in Ledger(run_dir).records() if each.kind == "student"]
    install(tmp_path, monkeypatch)
    manifests = [read_manifest(run_dir / each.path) for each in students]
    assert [each.network.family for each in manifests] == ["lines", "lines"]
    rows = read_report(run_dir / "report").rows
    baselines = {row.cell.sampler: row.evaluations for row in rows if row.cell.role == "baseline"}
    assert baselines == {"ddim": 2, "two_small": 4}
    metrics = read_metrics(run_dir / "rounds/00-mean_error/metrics.jsonl")
    files = (tmp_path / "text-files" / "round 0: mean_error").glob("train-loss-*.txt")
    assert sorted(float(file.read_text()) for file in files) == sorted(
        line["train/loss"] for line in metrics
    )
    assert "teacher, DDIM, two small steps" in (run_dir / "report/report.md").read_text()


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
