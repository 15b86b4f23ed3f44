"""Fewer activations are kept, and the gradients are the same."""

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.models.assemble import family_of
from tests.support.cases import NETWORKS, condition_of, normal, teacher_manifest


def gradients(name: str, *, checkpointing: bool) -> tuple[dict[str, torch.Tensor], int]:
    """Of a fresh network, and how many numbers autograd kept for them."""
    manifest = teacher_manifest(name)
    family = family_of(manifest)
    torch.manual_seed(0)
    module = family.build().train()
    if checkpointing:
        family.checkpoint_gradients(module)
    kept = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    z_t = normal(2, *manifest.latent_shape).float()
    condition = condition_of(manifest, 2)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = family.forward(module, z_t, torch.tensor([3.0, 7.0]), condition, None)
    during_forward = kept
    output.square().sum().backward()
    found = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return found, during_forward


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "gaussian"])
def test_gradients_are_the_same_and_less_is_kept(name: str) -> None:
    plain, kept = gradients(name, checkpointing=False)
    again, few = gradients(name, checkpointing=True)
    assert plain.keys() == again.keys()
    for key, value in plain.items():
        torch.testing.assert_close(again[key], value, rtol=1e-5, atol=1e-6)
    assert few < kept


def test_a_closed_form_refuses_checkpointing() -> None:
    family = family_of(teacher_manifest("gaussian"))
    with pytest.raises(ConfigError, match=r"engine\.gradient_checkpointing: .*; set it to false"):
        family.checkpoint_gradients(family.build())
