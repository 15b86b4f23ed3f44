"""DiT: the null class has a row, no label is dropped at random, and variance is left out."""

from pathlib import Path

import pytest
import torch
from diffusers import DiTTransformer2DModel
from torch import nn

from pipeline.models.assemble import family_of, load_module, save_bundle
from tests.support.cases import condition_of, normal, teacher_manifest

MANIFEST = teacher_manifest("dit")
KIND = family_of(MANIFEST)
COUNT = 64


def built() -> nn.Module:
    torch.manual_seed(0)
    return KIND.build()


def loaded(folder: Path) -> nn.Module:
    save_bundle(folder, MANIFEST, built())
    return load_module(folder, MANIFEST)


@pytest.mark.parametrize("origin", ["built", "loaded", "student"])
def test_training_mode_drops_no_labels(origin: str, tmp_path: Path) -> None:
    match origin:
        case "built":
            module = built()
        case "loaded":
            module = loaded(tmp_path)
        case _:
            module = KIND.student_of(loaded(tmp_path), (2.0, 2.0))
    z_t, timestep = normal(COUNT, 4, 8, 8).float(), torch.arange(COUNT).float()
    condition = condition_of(MANIFEST, COUNT)
    with torch.no_grad():
        still = KIND.forward(module.eval(), z_t, timestep, condition, None)
        training = KIND.forward(module.train(), z_t, timestep, condition, None)
    assert torch.equal(training, still)


def test_diffusers_itself_would_drop_some() -> None:
    """Check the test above: dropout keeps all of 64 labels once in 850 times only."""
    torch.manual_seed(0)
    module = DiTTransformer2DModel.from_config(built().config)
    arguments = {
        "hidden_states": normal(COUNT, 4, 8, 8).float(),
        "timestep": torch.arange(COUNT),
        "class_labels": torch.arange(COUNT) % 10,
        "return_dict": False,
    }
    with torch.no_grad():
        assert not torch.equal(module.train()(**arguments)[0], module.eval()(**arguments)[0])


def test_the_null_class_is_that_of_the_pipeline() -> None:
    # DiTPipeline names class 1000 of ImageNet's networks, which have 1000 real ones
    manifest = MANIFEST.model_copy(update={"num_classes": 1000})
    kind = family_of(manifest)
    assert kind.null_row["label"].tolist() == [1000]
    tables = [
        part for name, part in kind.build().named_modules() if name.endswith("embedding_table")
    ]
    assert [table.num_embeddings for table in tables] == [1001] * manifest.network.layers


def test_a_learned_variance_is_dropped(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = DiTTransformer2DModel.from_config(built().config, out_channels=8)
    nn.init.normal_(module.proj_out_2.weight)
    module.save_pretrained(tmp_path)
    adopted = KIND.load(tmp_path, is_w_conditioned=False)
    z_t, label = normal(2, 4, 8, 8).float(), torch.tensor([3, 10])
    with torch.no_grad():
        ours = KIND.forward(adopted, z_t, torch.tensor([0.0, 999.0]), {"label": label}, None)
        theirs = module.eval()(z_t, timestep=torch.tensor([0, 999]), class_labels=label).sample
    assert theirs.shape == (2, 8, 8, 8)
    assert torch.equal(ours, theirs[:, :4])
