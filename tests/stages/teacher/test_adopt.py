"""Adoption of a stock pipeline as teacher bundle and components."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file

from pipeline.bundle import read_manifest
from pipeline.config import Recipe
from pipeline.errors import BundleError
from pipeline.ledger import Artifact, Ledger
from pipeline.models.assemble import load_denoiser
from pipeline.models.denoiser import GuidedDenoiser
from pipeline.models.directory.pipeline_directory import read_pipeline
from stages.teacher.adopt import adopt, adopt_components
from stages.workspace import StageResult, Workspace
from tests.support.recipes import CANVASES, adopting_recipe
from tests.support.tiny_pipelines import CLASSES, LATENT, WIDTH, tiny_pipeline


def recipe_for(pipeline: Path, tmp_path: Path) -> Recipe:
    if read_pipeline(pipeline).network.reads_text:
        return adopting_recipe(tmp_path, pipeline)
    return adopting_recipe(tmp_path, pipeline, data=CANVASES, w="{min: 2, max: 2, mass_at_min: 0}")


def data_of(shape: tuple[int, int, int], run_dir: Path, *, with_null: bool) -> Artifact:
    """Write the part of a data set that defines the shape of its samples."""
    info = {
        "source": "captioned_digits",
        "class_names": [str(label) for label in range(CLASSES)],
        "latent_shape": shape,
        "encoding": "npy",
        "splits": {},
    }

    def write(folder: Path) -> dict[str, object]:
        (folder / "dataset.json").write_text(json.dumps(info))
        if with_null:
            save_file({"text": torch.zeros(1, 5, WIDTH)}, folder / "null.safetensors")
        return {}

    return Ledger(run_dir).publish("latents", "0" * 64, "latents", write)


def test_a_text_teacher_is_adopted_with_the_null_of_its_data(tmp_path: Path) -> None:
    pipeline, run_dir = tiny_pipeline("sd", tmp_path / "pipeline"), tmp_path / "run"
    recipe = recipe_for(pipeline, tmp_path)
    data = data_of(LATENT, run_dir, with_null=True)
    teacher = adopt(Workspace(run_dir, recipe), data).value
    manifest, denoiser = load_denoiser(run_dir / "teacher")
    assert isinstance(denoiser, GuidedDenoiser)
    assert denoiser.network.family.null_row["text"].shape == (1, 5, WIDTH)
    assert (manifest.role, manifest.pipeline) == ("teacher", "StableDiffusionPipeline")
    assert (manifest.num_classes, manifest.latent_shape) == (0, LATENT)
    assert set(teacher.files) == {
        "manifest.json",
        "null.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    }
    assert adopt(Workspace(run_dir, recipe), data) == StageResult(teacher, reused=True)


def test_a_class_teacher_is_adopted_with_its_classes(tmp_path: Path) -> None:
    pipeline, run_dir = tiny_pipeline("dit", tmp_path / "pipeline"), tmp_path / "run"
    recipe = recipe_for(pipeline, tmp_path)
    adopt(Workspace(run_dir, recipe), data_of(LATENT, run_dir, with_null=False))
    manifest = read_manifest(run_dir / "teacher")
    assert (manifest.num_classes, manifest.folder) == (CLASSES, "transformer")
    assert not (run_dir / "teacher/null.safetensors").exists()


def test_a_teacher_is_known_by_its_bytes_wherever_it_lies(tmp_path: Path) -> None:
    first, run_dir = tiny_pipeline("sd", tmp_path / "first"), tmp_path / "run"
    second = tiny_pipeline("sd", tmp_path / "second")
    data = data_of(LATENT, run_dir, with_null=True)
    teacher = adopt(Workspace(run_dir, recipe_for(first, tmp_path)), data).value
    assert adopt(Workspace(run_dir, recipe_for(second, tmp_path)), data).value == teacher
    unet = UNet2DConditionModel.from_pretrained(second / "unet", local_files_only=True)
    unet.conv_out.bias.data += 1
    unet.save_pretrained(second / "unet")
    changed = adopt(Workspace(run_dir, recipe_for(second, tmp_path)), data).value
    assert changed.digest != teacher.digest


def test_data_of_another_shape_are_refused(tmp_path: Path) -> None:
    pipeline, run_dir = tiny_pipeline("sd", tmp_path / "pipeline"), tmp_path / "run"
    data = data_of((4, 4, 4), run_dir, with_null=True)
    with pytest.raises(BundleError, match=r"data\.size"):
        adopt(Workspace(run_dir, recipe_for(pipeline, tmp_path)), data)
    assert not (run_dir / "teacher").exists()


@pytest.mark.parametrize("kind", ["sd", "flux"])
def test_adopted_components_and_the_teacher_make_the_pipeline_again(
    kind: str, tmp_path: Path
) -> None:
    pipeline, run_dir = tiny_pipeline(kind, tmp_path / "pipeline"), tmp_path / "run"
    (pipeline / "notes.md").write_text("not needed")
    recipe = recipe_for(pipeline, tmp_path)
    components = adopt_components(Workspace(run_dir, recipe)).value
    folder = read_pipeline(pipeline).network_folder
    assert components.kind == "components"
    assert not (run_dir / "components" / folder).exists()
    assert "notes.md" not in components.files
    assert adopt_components(Workspace(run_dir, recipe)) == StageResult(components, reused=True)
    adopt(Workspace(run_dir, recipe), data_of(LATENT, run_dir, with_null=True))
    (run_dir / "teacher" / folder).rename(run_dir / "components" / folder)
    again = DiffusionPipeline.from_pretrained(
        run_dir / "components", local_files_only=True, use_safetensors=True
    )
    original = DiffusionPipeline.from_pretrained(pipeline, local_files_only=True)
    for name, part in original.components.items():
        if isinstance(part, torch.nn.Module):
            for key, value in part.state_dict().items():
                torch.testing.assert_close(getattr(again, name).state_dict()[key], value)
