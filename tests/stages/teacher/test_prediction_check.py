"""The prediction-type check finds a scheduler that contradicts the weights."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from pipeline.config import TeacherConfig
from pipeline.diffusion.prediction import Prediction, PredictionType, express
from pipeline.diffusion.schedule import DiscreteSchedule, diffuse
from pipeline.errors import BundleError
from pipeline.models.directory.pipeline_directory import read_pipeline
from stages.teacher.prediction_check import check_prediction
from tests.support.small_run import small_recipe
from tests.support.tiny_pipelines import LATENT, TOKENS, WIDTH, edit, tiny_pipeline

COUNT = 256
CHANNELS = 64


def fitted(prediction: str, folder: Path) -> Path:
    """A pipeline whose network has this prediction type on smooth samples.

    Only its last convolution is fitted, in closed form, to a random network's features of z_t.
    """
    torch.manual_seed(0)
    tiny_pipeline("sd", folder)
    unet = UNet2DConditionModel.from_config(
        UNet2DConditionModel.load_config(folder / "unet"), block_out_channels=(CHANNELS, CHANNELS)
    )
    for name, parameter in unet.named_parameters():
        if "conv2" in name or "proj_out" in name:
            torch.nn.init.zeros_(parameter)  # blocks pass on z_t, at two scales
    schedule = DiscreteSchedule.scaled_linear(1000)
    level = schedule.at(torch.linspace(0.47, 0.58, COUNT, dtype=torch.float64))
    x = functional.interpolate(torch.randn(COUNT, LATENT[0], 2, 2), LATENT[1:], mode="bilinear")
    truth = Prediction(x=x / x.std(), eps=torch.randn(COUNT, *LATENT))
    z_t = diffuse(truth.x, truth.eps, level)
    with torch.no_grad():
        features = last_features(unet, z_t, schedule.timestep(level))
        fit_convolution(unet.conv_out, features, express(truth, PredictionType(prediction), level))
    unet.save_pretrained(folder / "unet")
    declare(prediction, folder)
    return folder


def last_features(unet: UNet2DConditionModel, z_t: Tensor, timestep: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = unet.conv_out.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    unet(z_t, timestep, torch.zeros(len(z_t), TOKENS, WIDTH))
    handle.remove()
    return seen[0]


def fit_convolution(convolution: torch.nn.Conv2d, features: Tensor, truth: Tensor) -> None:
    patches = functional.unfold(features, 3, padding=1).transpose(1, 2).flatten(0, 1)
    patches = torch.cat([patches, torch.ones(len(patches), 1)], dim=1)
    found = torch.linalg.lstsq(patches, truth.flatten(2).transpose(1, 2).flatten(0, 1)).solution
    convolution.weight.copy_(found[:-1].T.reshape_as(convolution.weight))
    convolution.bias.copy_(found[-1])


def declare(prediction: str, folder: Path) -> None:
    edit(folder / "scheduler/scheduler_config.json", prediction_type=prediction)


def check(folder: Path) -> None:
    info = read_pipeline(folder)
    teacher = TeacherConfig(
        network=info.network,
        schedule=info.schedule,
        prediction=info.prediction,
        pipeline=str(folder),
    )
    check_prediction(small_recipe().model_copy(update={"teacher": teacher}))


@pytest.mark.parametrize(
    ("truth", "lie"), [("epsilon", "v_prediction"), ("v_prediction", "epsilon")]
)
def test_a_trained_network_must_match_its_prediction_type(
    truth: str, lie: str, tmp_path: Path
) -> None:
    folder = fitted(truth, tmp_path / "pipeline")
    check(folder)
    declare(lie, folder)
    with pytest.raises(
        BundleError, match=rf"declares prediction_type {lie}, .*set prediction_type: {truth}"
    ):
        check(folder)


@pytest.mark.parametrize("kind", ["sd", "sdxl", "sd-inpaint", "dit", "sd3", "flux"])
def test_untrained_weights_and_flow_matching_contradict_nothing(kind: str, tmp_path: Path) -> None:
    folder = tiny_pipeline(kind, tmp_path / "pipeline")
    is_flow = kind in ("sd3", "flux")
    for prediction in ["flow_prediction"] if is_flow else ["epsilon", "v_prediction"]:
        if not is_flow:
            declare(prediction, folder)
        check(folder)
        assert read_pipeline(folder).prediction == prediction


def test_weights_that_are_damaged_are_refused(tmp_path: Path) -> None:
    folder = tiny_pipeline("sd", tmp_path / "pipeline")
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BundleError, match="does not hold the weights"):
        check(folder)
