"""The closed form against independent integration, and tables that can equal it exactly."""

import math

import pytest
import torch
from torch import Tensor

from pipeline.config import GaussianConfig, WDistribution
from pipeline.diffusion.ddim import sample
from pipeline.diffusion.grid import Grid
from pipeline.diffusion.loss import LossWeight
from pipeline.diffusion.prediction import PredictionType, interpret
from pipeline.diffusion.schedule import CosineSchedule
from pipeline.methods.guidance import GuidanceDistillation
from pipeline.methods.method import DistillationMethod, NoisedBatch
from pipeline.methods.progressive import ProgressiveDistillation
from pipeline.models.denoiser import Denoiser, GuidedDenoiser, NetworkDenoiser
from pipeline.models.gaussian.gaussian import GaussianFamily, GaussianStudent, GaussianTeacher
from tests.support.cases import normal, times, uniform

MEANS = ((-1.0, 0.5), (1.0, 0.25), (0.0, -1.0))
LAW = WDistribution(min=0, max=4)
LOSS = LossWeight.TRUNCATED_SNR


def family(*, null: str = "moments", total: int = 4, w_nodes: int = 5) -> GaussianFamily:
    config = GaussianConfig.model_validate(
        {"family": "gaussian", "means": MEANS, "std": 0.4, "null": null, "w_nodes": w_nodes}
    )
    return GaussianFamily(
        network=config, num_classes=3, latent_shape=(2, 1, 1), num_timesteps=total
    )


def told(
    kind: GaussianFamily, module: torch.nn.Module, *, is_w_conditioned: bool
) -> NetworkDenoiser:
    schedule = CosineSchedule(kind.num_timesteps)
    return NetworkDenoiser(
        kind, module, schedule, PredictionType.V, is_w_conditioned=is_w_conditioned
    )


def guided(kind: GaussianFamily) -> GuidedDenoiser:
    return GuidedDenoiser(told(kind, kind.build(), is_w_conditioned=False))


def drawn(denoiser: Denoiser, z_1: Tensor, num_steps: int, label: Tensor, w: Tensor) -> Tensor:
    condition = {"label": label}
    return sample(z_1, denoiser.schedule, num_steps, lambda z, at: denoiser(z, at, condition, w))


@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("t", [0.25, 0.5, 1.0])
def test_a_class_is_denoised_by_the_textbook_formula(label: int, t: float) -> None:
    kind = family()
    level = CosineSchedule(4).at(times(t))
    z = normal(1, 2, 1, 1)
    found = guided(kind)(z, level, {"label": torch.tensor([label])}, times(0.0)).x.flatten()
    alpha, sigma = level.alpha.item(), level.sigma.item()
    for i, mean in enumerate(MEANS[label]):
        noisy = z.flatten()[i].item()
        exact = mean + alpha * 0.16 * (noisy - alpha * mean) / (alpha**2 * 0.16 + sigma**2)
        assert found[i].item() == pytest.approx(exact, abs=1e-14)


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("label", [0, 1, 2, 3])
def test_the_mixture_is_denoised_as_integration_says(t: float, label: int) -> None:
    config = GaussianConfig(
        family="gaussian", means=((-1.0,), (1.5,), (0.25,)), std=0.4, null="mixture"
    )
    teacher = GaussianTeacher(config, 4)
    level = CosineSchedule(4).at(times(t))
    z = 0.3
    velocity = teacher(times(z)[:, None], times(t) * 4 - 1, torch.tensor([label]))
    found = interpret(velocity, PredictionType.V, times(z)[:, None], level).x.item()
    alpha, sigma = level.alpha.item(), level.sigma.item()
    if sigma == 0:
        assert found == z
        return
    x = torch.linspace(-6, 7, 200_001, dtype=torch.float64)
    means = times(-1.0, 1.5, 0.25)[[label] if label < 3 else [0, 1, 2]]
    prior = torch.exp(-((x[:, None] - means) ** 2) / 0.32).sum(1)
    posterior = prior * torch.exp(-((z - alpha * x) ** 2) / (2 * sigma**2))
    assert found == pytest.approx(float((posterior * x).sum() / posterior.sum()), abs=1e-10)


def test_the_moments_are_the_mixtures_mean_and_mean_variance() -> None:
    kind = family(null="moments")
    null = torch.tensor([3])
    level = CosineSchedule(4).at(times(0.5))
    means = torch.tensor(MEANS, dtype=torch.float64)
    centre = means.mean(0)
    samples_variance = 0.16 + float((means - centre).square().mean())
    z = normal(1, 2)
    x = interpret(kind.build()(z, times(1.0), null), PredictionType.V, z, level).x
    alpha = sigma = math.sqrt(0.5)
    gain = alpha * samples_variance / (alpha**2 * samples_variance + sigma**2)
    torch.testing.assert_close(x, centre + gain * (z - alpha * centre), rtol=0, atol=1e-14)


@pytest.mark.parametrize("null", ["mixture", "moments"])
def test_pure_noise_is_denoised_to_the_mean(null: str) -> None:
    teacher = family(null=null).build()
    z = normal(4, 2, 1, 1)
    velocity = teacher(z, torch.full((4,), 3.0), torch.tensor([0, 1, 2, 3]))
    means = torch.tensor(MEANS, dtype=torch.float64)
    expected = -torch.cat([means, means.mean(0, keepdim=True)])
    torch.testing.assert_close(velocity.flatten(1), expected, rtol=0, atol=1e-14)


class ExactStudent(Denoiser):
    """A student whose error is zero: it returns the target itself."""

    def __init__(self, parent: Denoiser, student_steps: int, jump: int) -> None:
        self.schedule = parent.schedule
        self.parent = parent
        self.method = ProgressiveDistillation(
            loss_weight=LOSS,
            w=LAW,
            grid=Grid(student_steps),
            teacher_grid=Grid(student_steps * jump),
        )

    def velocity(self, z_t, level, condition, w):
        draws = NoisedBatch(z_t=z_t, t=level.t, w=w, condition=condition)
        return self.method.target(self.parent, draws)

    def __call__(self, z_t, level, condition, w):
        velocity = self.velocity(z_t, level, condition, w)
        return interpret(velocity, self.schedule.velocity, z_t, level)

    def evaluations(self, w: float) -> int:
        return 1


Z_1, LABEL, W = normal(6, 2, 1, 1), torch.tensor([0, 1, 2, 0, 1, 2]), times(0, 0.5, 1, 2, 4, 7.5)


@pytest.fixture(scope="module")
def mixture() -> tuple[Denoiser, Tensor]:
    """The guided teacher of the class mixture, and its samples from Z_1 in 256 steps."""
    teacher = guided(family(null="mixture", total=256))
    return teacher, drawn(teacher, Z_1, 256, LABEL, W)


@pytest.mark.parametrize(
    "jumps",
    [(2,) * 8, (8, 4, 2, 2, 2)],
    ids=["256 -> 128 -> ... -> 1", "256 -> 32 -> 8 -> 4 -> 2 -> 1"],
)
def test_exact_students_draw_the_256_step_guided_sample_in_one_step(
    mixture: tuple[Denoiser, Tensor], jumps: tuple[int, ...]
) -> None:
    student, exact = mixture
    steps = 256
    for jump in jumps:
        steps //= jump
        student = ExactStudent(student, steps, jump)
    assert steps == 1
    found = drawn(student, Z_1, 1, LABEL, W)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-10)
    assert float((found[1:] - found[:1]).abs().min()) > 1e-3


def fill(
    student: GaussianStudent, method: DistillationMethod, teacher: Denoiser, num_steps: int
) -> None:
    """Set a student's tables to its targets, read off at z = 0 and z = 1 of every node of w."""
    total = teacher.schedule.num_train_timesteps
    slope, offset = student.slope.weight.data, student.offset.weight.data.unflatten(1, (-1, 2))
    for i in range(1, num_steps + 1):
        for label in range(3):
            row = (i * total // num_steps - 1) * 3 + label
            for node, w in enumerate(student.nodes):
                draws = NoisedBatch(
                    z_t=torch.stack([torch.zeros(2, 1, 1), torch.ones(2, 1, 1)]).double(),
                    t=times(i / num_steps).expand(2),
                    w=w.expand(2),
                    condition={"label": torch.tensor([label, label])},
                )
                at_zero, at_one = method.target(teacher, draws).flatten(1)
                offset[row, node] = at_zero
                slope[row, node] = (at_one - at_zero)[0]


def chain_of_tables(w_nodes: int) -> tuple[GaussianFamily, list[tuple[int, NetworkDenoiser]]]:
    """Students of 4, 2 and 1 steps, each the exact table of its targets at the nodes."""
    kind = family(w_nodes=w_nodes)
    teacher: Denoiser = guided(kind)
    students = []
    for steps in (4, 2, 1):
        module = kind.student_of(kind.build(), (0.0, 4.0)).double()
        assert isinstance(module, GaussianStudent)
        method: DistillationMethod = (
            GuidanceDistillation(loss_weight=LOSS, w=LAW)
            if steps == 4
            else ProgressiveDistillation(
                loss_weight=LOSS, w=LAW, grid=Grid(steps), teacher_grid=Grid(2 * steps)
            )
        )
        fill(module, method, teacher, steps)
        teacher = told(kind, module, is_w_conditioned=True)
        students.append((steps, teacher))
    return kind, students


@torch.no_grad()
@pytest.mark.parametrize("place", ["at the nodes", "between the nodes"])
def test_tables_reach_the_exact_chain(place: str) -> None:
    kind, students = chain_of_tables(w_nodes=5)
    nodes = students[0][1].module.get_buffer("nodes")
    w = nodes if place == "at the nodes" else 4 * uniform(5)
    label, z_1 = torch.tensor([0, 1, 2, 1, 0]), normal(5, 2, 1, 1)
    exact = drawn(guided(kind), z_1, 4, label, w)
    for steps, student in students:
        # guidance is linear in w, so n folded steps are a polynomial of degree n: 4 at most here,
        # which five nodes determine
        found = drawn(student, z_1, steps, label, w)
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


@torch.no_grad()
def test_too_few_nodes_are_exact_at_the_nodes_only() -> None:
    kind, students = chain_of_tables(w_nodes=3)
    steps, student = students[-1]
    label, z_1 = torch.tensor([0, 1, 2]), normal(3, 2, 1, 1)
    for w, is_exact in [(times(0.0, 2.0, 4.0), True), (times(0.7, 1.1, 3.3), False)]:
        exact = drawn(guided(kind), z_1, 4, label, w)
        off = float((drawn(student, z_1, steps, label, w) - exact).abs().max())
        assert (off < 1e-12) is is_exact


def table(w_range: tuple[float, float], w_nodes: int) -> GaussianStudent:
    return GaussianStudent(4, 3, 2, w_range, w_nodes)


@pytest.mark.parametrize("w_nodes", [1, 2, 5, 9])
@pytest.mark.parametrize("w_range", [(0.0, 4.0), (0.1, 0.7)])
def test_the_basis_is_a_lagrange_basis(w_range: tuple[float, float], w_nodes: int) -> None:
    student = table(w_range, w_nodes)
    nodes = student.nodes
    assert nodes[0].item() == pytest.approx(w_range[0], abs=1e-15)
    if w_nodes > 1:
        assert nodes[-1].item() == pytest.approx(w_range[1], abs=1e-15)
    torch.testing.assert_close(student.basis(nodes), torch.eye(w_nodes).double())
    w = w_range[0] + (w_range[1] - w_range[0]) * uniform(50)
    basis = student.basis(w)
    torch.testing.assert_close(basis.sum(1), torch.ones(50).double())
    for degree in range(w_nodes):
        scaled, scaled_nodes = w / w_range[1], nodes / w_range[1]
        torch.testing.assert_close(
            (basis * scaled_nodes**degree).sum(1), scaled**degree, rtol=0, atol=1e-12
        )


def test_a_range_of_one_weight_shares_it_among_the_nodes() -> None:
    basis = table((2.0, 2.0), 5).basis(times(2.0, 2.0))
    torch.testing.assert_close(basis.sum(1), torch.ones(2).double())


def test_two_classes_and_two_timesteps_never_share_a_row() -> None:
    student = table((0.0, 4.0), 5)
    timestep, label = torch.arange(4.0).repeat_interleave(3), torch.arange(3).repeat(4)
    assert student.row(timestep, label).tolist() == list(range(12))
