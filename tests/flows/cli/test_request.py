"""A recipe that names a pipeline is completed with what the pipeline says of itself."""

from pathlib import Path

import pytest

from flows.cli.request import read_request
from pipeline.config import MMDiTConfig, UNetConfig
from pipeline.errors import BundleError, ConfigError
from pipeline.models.directory.pipeline_directory import read_pipeline
from tests.support.tiny_pipelines import WIDTH, tiny_pipeline

RECIPE = """
run: {{name: adopted}}
data: {{source: captioned_digits, size: 16, count: 40, holdout_count: 8}}
teacher: {{pipeline: {pipeline}, reference_steps: 8{more}}}
guidance:
  {{w: {{min: 0, max: 4}}, updates: 2, conversion_updates: 2, batch_size: 4, learning_rate: 0.001}}
halving: {{steps: [4, 2], updates: 2, batch_size: 4}}
evaluation: {{num_samples: 40, w: [2], baseline_steps: [2]}}
"""


def write_recipe(folder: Path, pipeline: Path | str, more: str = "") -> Path:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(pipeline=pipeline, more=more))
    return path


def test_a_pipeline_says_what_its_teacher_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = tiny_pipeline("sd2-v", tmp_path / "pipeline")
    monkeypatch.chdir(tmp_path)
    request = read_request(write_recipe(tmp_path, "pipeline"), None, None, [])
    teacher, info = request.recipe.teacher, read_pipeline(pipeline)
    assert (teacher.network, teacher.schedule) == (info.network, info.schedule)
    assert (teacher.prediction, teacher.pipeline) == ("v_prediction", str(pipeline.resolve()))


def test_the_pipeline_may_be_named_on_the_command_line(tmp_path: Path) -> None:
    first, second = (tiny_pipeline(kind, tmp_path / kind) for kind in ("sd", "flux"))
    recipe = write_recipe(tmp_path, first)
    request = read_request(recipe, None, None, [f"teacher.pipeline={second}"])
    assert isinstance(request.recipe.teacher.network, MMDiTConfig)


def test_what_the_pipeline_says_may_be_repeated_and_w_embedded_in_another_size(
    tmp_path: Path,
) -> None:
    pipeline = tiny_pipeline("sd", tmp_path / "pipeline")
    more = ", prediction: epsilon, network: {family: unet, w_embedding_dim: 64}"
    network = read_request(write_recipe(tmp_path, pipeline, more), None, None, []).recipe.teacher
    assert isinstance(network.network, UNetConfig)
    assert (network.network.w_embedding_dim, network.network.text_channels) == (64, WIDTH)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "prediction: v_prediction",
            r"teacher\.prediction: 'v_prediction' .*contradicts 'epsilon'",
        ),
        (
            "schedule: {kind: cosine}",
            r"teacher\.schedule\.kind: 'cosine' .*contradicts 'scaled_linear'",
        ),
        (
            "network: {text_channels: 768}",
            rf"teacher\.network\.text_channels: 768 .*contradicts {WIDTH}",
        ),
        ("network: {texts: 768}", r"teacher\.network\.texts: unknown key; known keys: att"),
        ("network: unet", r"teacher\.network: 'unet' .*contradicts"),
        ("bundle: b", "give exactly one of `pipeline: DIRECTORY`, "),
    ],
)
def test_a_recipe_that_contradicts_the_pipeline_is_refused(
    more: str, message: str, tmp_path: Path
) -> None:
    pipeline = tiny_pipeline("sd", tmp_path / "pipeline")
    with pytest.raises(ConfigError, match=message):
        read_request(write_recipe(tmp_path, pipeline, f", {more}"), None, None, [])


def test_a_pipeline_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nowhere is not a directory"):
        read_request(write_recipe(tmp_path, tmp_path / "nowhere"), None, None, [])
