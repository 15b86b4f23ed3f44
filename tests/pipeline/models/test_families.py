"""The contract of every network, for all families and conditions."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.bundle import MANIFEST, read_manifest
from pipeline.errors import BundleError
from pipeline.models.assemble import (
    denoiser_of,
    family_of,
    load_denoiser,
    load_module,
    network_denoiser,
    save_bundle,
    schedule_of,
)
from pipeline.models.denoiser import GuidedDenoiser, NetworkDenoiser
from pipeline.models.family import FAMILIES, ModelFamily
from pipeline.tensors import Condition
from tests.support.cases import (
    NETWORKS,
    condition_of,
    normal,
    null_of,
    student_manifest,
    teacher_manifest,
    times,
    uniform,
)

COUNT = 6
CAN_BE_TOLD = [name for name in NETWORKS if teacher_manifest(name).network.why_not_w is None]
every_network = pytest.mark.parametrize("name", NETWORKS)
every_network_told_w = pytest.mark.parametrize("name", CAN_BE_TOLD)

UNHEARD = {"mmdit-sd3": ("transformer_blocks.0.attn.add_q_proj.",)}
"""Parameters that have no effect: SD3 drops what the prompt's tokens become in the last block."""


def test_there_is_a_network_of_every_family() -> None:
    assert {teacher_manifest(name).network.family for name in NETWORKS} == set(FAMILIES.names())


def family(name: str) -> ModelFamily:
    manifest = teacher_manifest(name)
    return family_of(manifest, null_of(manifest))


def a_teacher(name: str) -> nn.Module:
    torch.manual_seed(0)
    return family(name).build().eval()


def a_student(name: str, teacher: nn.Module) -> nn.Module:
    return family(name).student_of(teacher, (0.0, 4.0)).eval()


def shaken(module: nn.Module) -> nn.Module:
    """Perturb every parameter of the module."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def inputs(name: str) -> tuple[Tensor, Tensor, Condition]:
    kind = family(name)
    z_t = normal(COUNT, *kind.latent_shape).float()
    timestep = (torch.arange(COUNT) % kind.num_timesteps).float()
    return z_t, timestep, condition_of(teacher_manifest(name), COUNT)


def told(name: str, w: Tensor) -> Tensor | None:
    """The w input of a student."""
    return w if name in CAN_BE_TOLD else None


def answer(name: str, module: nn.Module, w: Tensor | None) -> Tensor:
    z_t, timestep, condition = inputs(name)
    with torch.no_grad():
        return family(name).forward(module, z_t, timestep, condition, w)


@every_network_told_w
def test_a_student_starts_as_the_conditional_teacher_whatever_w(name: str) -> None:
    teacher = shaken(a_teacher(name))
    student = a_student(name, teacher)
    conditional = answer(name, teacher, None)
    for w in (0.0, 0.3, 2.0, 4.0):
        found = answer(name, student, torch.full((COUNT,), w, dtype=torch.float64))
        if name == "gaussian":
            torch.testing.assert_close(found.double(), conditional.double(), rtol=0, atol=1e-5)
        else:
            assert torch.equal(found, conditional)  # the same operations on the same numbers


@every_network_told_w
def test_a_student_listens_to_w_after_it_has_moved(name: str) -> None:
    student = shaken(a_student(name, a_teacher(name)))
    zero = answer(name, student, torch.zeros(COUNT, dtype=torch.float64))
    four = answer(name, student, torch.full((COUNT,), 4.0, dtype=torch.float64))
    assert float((zero - four).abs().amax(dim=(1, 2, 3)).min()) > 1e-4


@every_network
def test_every_parameter_of_a_student_has_a_gradient(name: str) -> None:
    student = shaken(a_student(name, a_teacher(name)))
    z_t, timestep, condition = inputs(name)
    family(name).forward(
        student, z_t, timestep, condition, told(name, 4 * uniform(COUNT))
    ).square().sum().backward()
    for parameter_name, parameter in student.named_parameters():
        is_heard = not parameter_name.startswith(UNHEARD.get(name, ()))
        assert parameter.grad is not None, parameter_name
        assert bool(parameter.grad.isfinite().all()), parameter_name
        assert (float(parameter.grad.abs().max()) > 0) is is_heard, parameter_name


@every_network
def test_a_student_does_not_share_memory_with_its_teacher(name: str) -> None:
    teacher = a_teacher(name)
    before = answer(name, teacher, None)
    shaken(a_student(name, teacher))
    assert torch.equal(answer(name, teacher, None), before)


@every_network
def test_the_null_condition_is_no_class_or_prompt_and_shaped_like_one(name: str) -> None:
    _, _, condition = inputs(name)
    null = family(name).null_condition(condition)
    assert null.keys() == condition.keys()
    for key, value in condition.items():
        assert null[key].shape == value.shape
        assert null[key].dtype == value.dtype
        if key in ("label", "text", "pooled"):
            assert not bool((null[key] == value).any())
        else:
            assert torch.equal(null[key], value)  # sizes and masks are no prompt


@every_network
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_bundle_gives_back_the_same_bytes_and_answers(
    name: str, role: str, tmp_path: Path
) -> None:
    manifest, made, w = teacher_manifest(name), a_teacher(name), None
    if role == "student":
        manifest, made = student_manifest(manifest), a_student(name, made)
        w = told(name, 4 * uniform(COUNT))
    save_bundle(tmp_path / "a", manifest, shaken(made))
    assert read_manifest(tmp_path / "a") == manifest
    module = load_module(tmp_path / "a", manifest)
    found = answer(name, module, w)
    assert found.shape == inputs(name)[0].shape
    assert torch.equal(found, answer(name, made, w))
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    save_bundle(tmp_path / "b", manifest, module)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@every_network
def test_a_bundle_is_data_only_and_complete(name: str, tmp_path: Path) -> None:
    student = a_student(name, a_teacher(name))
    save_bundle(tmp_path, student_manifest(teacher_manifest(name)), student)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".json", ".safetensors"}
    weights = [load_file(file) for file in files if file.suffix == ".safetensors"]
    saved = {key: value for part in weights for key, value in part.items()}
    assert saved.keys() == student.state_dict().keys()


@every_network
def test_a_teacher_is_opened_under_guidance_and_a_student_conditioned_on_w(
    name: str, tmp_path: Path
) -> None:
    teacher, manifest = a_teacher(name), teacher_manifest(name)
    save_bundle(tmp_path / "teacher", manifest, teacher, null_of(manifest))
    save_bundle(tmp_path / "student", student_manifest(manifest), a_student(name, teacher))
    _, guided = load_denoiser(tmp_path / "teacher")
    assert isinstance(guided, GuidedDenoiser)
    for key, value in family(name).null_row.items():
        assert torch.equal(guided.network.family.null_row[key], value)
    _, student = load_denoiser(tmp_path / "student")
    assert isinstance(student, NetworkDenoiser)
    assert student.is_w_conditioned is (name in CAN_BE_TOLD)


@every_network
def test_a_guided_teacher_combines_two_separate_predictions(name: str) -> None:
    manifest, module = teacher_manifest(name), shaken(a_teacher(name))
    null = null_of(manifest)
    network, guided = network_denoiser(manifest, module, null), denoiser_of(manifest, module, null)
    z_t, _, condition = inputs(name)
    total = manifest.schedule.num_train_timesteps
    t = (torch.arange(COUNT, dtype=torch.float64) % total + 1) / total
    level = schedule_of(manifest.schedule).at(t)
    w, zero = 4 * uniform(COUNT), torch.zeros(COUNT, dtype=torch.float64)
    with torch.no_grad():
        found = guided(z_t, level, condition, w)
        conditional = network(z_t, level, condition, zero)
        unconditional = network(z_t, level, network.family.null_condition(condition), zero)
    weight = w.float().reshape(-1, 1, 1, 1)
    for form in ("x", "eps"):
        c, u, both = (getattr(said, form) for said in (conditional, unconditional, found))
        assert float((c - u).abs().max()) > 1e-3
        # a network rounds differently in batches of another size
        torch.testing.assert_close(both, (1 + weight) * c - weight * u, rtol=1e-4, atol=1e-4)


@every_network
def test_guidance_costs_two_evaluations_of_a_row_and_none_costs_one(name: str) -> None:
    manifest, module = teacher_manifest(name), a_teacher(name)
    guided = denoiser_of(manifest, module, null_of(manifest))
    rows: list[int] = []
    module.register_forward_hook(lambda _, __, output: rows.append(len(_tensor(output))))
    z_t, _, condition = inputs(name)
    level = guided.schedule.at(times(1.0).expand(COUNT))
    w = times(0, 2, 0, 0, 0, 1)
    with torch.no_grad():
        unguided = guided(z_t, level, condition, 0 * w)
        partly = guided(z_t, level, condition, w)
        fully = guided(z_t, level, condition, w + (w == 0))
    assert rows == [COUNT, COUNT + 2, 2 * COUNT]
    for form in ("x", "eps"):
        none, some, each = (getattr(found, form) for found in (unguided, partly, fully))
        expected = torch.where((w == 0).reshape(-1, *[1] * (none.ndim - 1)), none, each)
        torch.testing.assert_close(some, expected, rtol=1e-4, atol=1e-4)
    assert [guided.evaluations(weight) for weight in (0.0, 2.0)] == [1, 2]


@every_network
def test_a_network_without_w_input_refuses_w(name: str) -> None:
    network = network_denoiser(teacher_manifest(name), a_teacher(name))
    z_t, _, condition = inputs(name)
    level = network.schedule.at(times(1.0).expand(COUNT))
    with pytest.raises(ValueError, match="not w-conditioned"):
        network(z_t, level, condition, times(0, 0, 0, 0, 0, 1))


@pytest.mark.parametrize("damage", ["cut", "gone", "of a teacher"])
def test_weights_that_do_not_match_the_manifest_are_refused(damage: str, tmp_path: Path) -> None:
    manifest = teacher_manifest("unet")
    save_bundle(tmp_path, manifest, a_teacher("unet"))
    (weights,) = tmp_path.rglob("*.safetensors")
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "gone":
        weights.unlink()
    else:
        manifest = student_manifest(manifest)
        (tmp_path / MANIFEST).write_text(manifest.model_dump_json())
    with pytest.raises(BundleError, match=f"the weights of the {manifest.role}"):
        load_denoiser(tmp_path)


def _tensor(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def contents(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
