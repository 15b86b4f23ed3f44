"""From arguments to a recipe, a profile and a run directory."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.settings import PREFECT_HOME, temporary_settings

from flows.cli.evaluate import evaluate, report_plan
from flows.cli.request import read_request
from flows.cli.sample import read_condition, read_conditions
from pipeline.config import MMDiTConfig, UNetConfig
from pipeline.errors import BundleError, ConfigError, StepfoldError
from pipeline.models.directory.pipeline_directory import read_pipeline
from pipeline.run_dir.recipe_file import prepare_run_dir
from tests.support.cases import save_untrained, teacher_manifest
from tests.support.recipes import adopting_recipe, shipped_recipe, write_adopting
from tests.support.small_run import small_recipe
from tests.support.terminal import ROOT, invoke
from tests.support.tiny_pipelines import WIDTH, tiny_pipeline


def test_a_recipe_is_completed_from_its_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = tiny_pipeline("sd2-v", tmp_path / "pipeline")
    monkeypatch.chdir(tmp_path)
    teacher, info = adopting_recipe(tmp_path, "pipeline").teacher, read_pipeline(pipeline)
    assert (teacher.network, teacher.schedule) == (info.network, info.schedule)
    assert (teacher.prediction, teacher.pipeline) == ("v_prediction", str(pipeline.resolve()))


def test_the_pipeline_may_be_named_on_the_command_line(tmp_path: Path) -> None:
    first, second = (tiny_pipeline(kind, tmp_path / kind) for kind in ("sd", "flux"))
    recipe = write_adopting(tmp_path, first)
    request = read_request(recipe, None, None, [f"teacher.pipeline={second}"])
    assert isinstance(request.recipe.teacher.network, MMDiTConfig)


def test_values_of_the_pipeline_may_be_repeated_and_the_w_embedding_may_differ(
    tmp_path: Path,
) -> None:
    pipeline = tiny_pipeline("sd", tmp_path / "pipeline")
    more = ", prediction: epsilon, network: {family: unet, w_embedding_dim: 64}"
    network = adopting_recipe(tmp_path, pipeline, more=more).teacher
    assert isinstance(network.network, UNetConfig)
    assert (network.network.w_embedding_dim, network.network.text_channels) == (64, WIDTH)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "prediction: v_prediction",
            r"teacher\.prediction: 'v_prediction' in the recipe, 'epsilon' in the",
        ),
        (
            "schedule: {kind: cosine}",
            r"teacher\.schedule\.kind: 'cosine' in the recipe, 'scaled_linear' in the",
        ),
        (
            "network: {text_channels: 768}",
            rf"teacher\.network\.text_channels: 768 in the recipe, {WIDTH} in the",
        ),
        ("network: {texts: 768}", r"teacher\.network\.texts: unknown key; known keys: att"),
        ("network: unet", r"teacher\.network: 'unet' in the recipe"),
        ("bundle: b", "teacher: .* one of `pipeline: DIRECTORY`, "),
    ],
)
def test_a_recipe_that_contradicts_the_pipeline_is_refused(
    more: str, message: str, tmp_path: Path
) -> None:
    pipeline = tiny_pipeline("sd", tmp_path / "pipeline")
    with pytest.raises(ConfigError, match=message):
        adopting_recipe(tmp_path, pipeline, more=f", {more}")


def test_a_missing_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nowhere is not a directory"):
        adopting_recipe(tmp_path, tmp_path / "nowhere")


@pytest.fixture
def elsewhere(workplace: Path) -> Path:
    """A directory with a profile whose storage.root is `elsewhere`, and two runs in there."""
    Path("profile.yaml").write_text("storage: {root: elsewhere}\n")
    for age, name in ((60, "older"), (0, "newest")):
        run_dir = workplace / "elsewhere" / name
        prepare_run_dir(small_recipe(), run_dir, accept_changes=False)
        (run_dir / "logs").mkdir()
        (run_dir / "logs" / "run.log").write_text(f"log of {name}\n")
        (run_dir / "rounds").mkdir()
        (run_dir / "rounds" / ".student.0.tmp").mkdir()
        then = time.time() - age
        os.utime(run_dir / "recipe.yaml", (then, then))
    return workplace / "elsewhere"


@pytest.mark.parametrize(
    ("command", "exit_code", "expected"),
    [
        ("status", 0, "elsewhere/newest"),
        ("logs", 0, "log of newest"),
        ("report", 2, "elsewhere/newest"),
        ("evaluate", 2, "elsewhere/newest: data, teacher"),
        ("verify", 0, "elsewhere/newest: intact"),
        ("repair", 0, "elsewhere/newest: intact"),
        ("approve", 2, "elsewhere/newest: no student"),
        ("clean", 0, "Removed 1 x debris"),
        ("ui", 2, "elsewhere has no MLflow history"),
    ],
)
def test_every_command_finds_runs_in_the_storage_root_of_the_profile(
    command: str, exit_code: int, expected: str, elsewhere: Path
) -> None:
    assert invoke(command)[0] == 2  # runs/ does not exist
    code, output = invoke(command, "--profile", "profile.yaml")
    assert (code, expected in output) == (exit_code, True), output
    if command == "clean":
        assert not (elsewhere / "newest/rounds/.student.0.tmp").exists()
        assert (elsewhere / "older/rounds/.student.0.tmp").exists()


def test_stale_runs_are_those_in_the_storage_root_of_the_profile(elsewhere: Path) -> None:
    code, output = invoke("clean", "--stale")
    assert (code, output) == (0, "No runs in runs.")
    with temporary_settings({PREFECT_HOME: elsewhere.parent / "prefect"}):  # without a database
        code, output = invoke("clean", "--stale", "--profile", "profile.yaml")
    assert code == 0
    assert output.count("1 piece of debris removed") == 2


def test_a_recipe_with_a_pipeline_is_read_without_torch(tmp_path: Path) -> None:
    recipe = write_adopting(tmp_path, tiny_pipeline("sd", tmp_path / "pipeline"))
    program = (
        "import sys; from pathlib import Path; from flows.cli.request import read_request; "
        f"read_request(Path({str(recipe)!r}), None, None, []); "
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_another_number_of_samples_keeps_the_report_of_the_recipe(tmp_path: Path) -> None:
    digits = shipped_recipe("digits")
    for num in (None, digits.evaluation.num_samples):
        assert report_plan(digits, num) == (digits, "report")
    found, folder = report_plan(digits, 5000)
    assert (folder, found.evaluation.num_samples) == ("report-5000", 5000)
    assert found.model_copy(update={"evaluation": digits.evaluation}) == digits
    with pytest.raises(StepfoldError, match=re.escape(str(tmp_path))):
        evaluate(tmp_path, None, 5000)
    assert list(tmp_path.iterdir()) == []


def test_conditions_are_a_number_classes_or_prompts(tmp_path: Path) -> None:
    bundle = save_untrained(tmp_path / "teacher", teacher_manifest("gaussian"))
    assert read_conditions(bundle, 20, None, None) == 20
    assert read_conditions(bundle, 20, "2,2,0", None) == (2, 2, 0)
    prompts = ("a red 3", "a blue 8")
    assert read_conditions(bundle, 20, None, prompts) == prompts
    assert read_condition(bundle, "0", None) == 0
    assert read_condition(bundle, None, "a red 3") == "a red 3"


def test_wrong_conditions_are_refused(tmp_path: Path) -> None:
    bundle = save_untrained(tmp_path / "teacher", teacher_manifest("gaussian"))
    for labels, prompts, option in (
        ("3", ["a"], "--labels and --prompt"),
        ("2,x", None, "--labels x: this bundle has classes 0 to 2"),
        (None, [" "], "--prompt"),
    ):
        with pytest.raises(ConfigError, match=option):
            read_conditions(bundle, 20, labels, prompts)
    for label, prompt in ((None, None), ("3", "a red 3"), (None, " ")):
        with pytest.raises(ConfigError, match="--prompt"):
            read_condition(bundle, label, prompt)
