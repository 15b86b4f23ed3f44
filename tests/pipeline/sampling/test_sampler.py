"""Samples are a function of (seed, row), independent of network calls and chunks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.bundle import Lineage, Manifest
from pipeline.config import GaussianConfig, ScheduleConfig, UNetConfig, WDistribution
from pipeline.errors import BundleError, ConfigError, DivergenceError
from pipeline.evaluation.features.extractors import to_uint8_pixels
from pipeline.models.assemble import family_of, load_denoiser, save_bundle
from pipeline.randomness import RowRandom
from pipeline.sampling.sampler import BundleSampler, LabelArray, balanced_labels
from pipeline.sampling.solvers import SAMPLERS, check_sampler, default_sampler

W = WDistribution(min=0, max=4)
GAUSSIAN = Manifest(
    role="teacher",
    network=GaussianConfig(family="gaussian", means=((-3.0, 0.5), (1.0, 2.0)), std=0.4),
    num_classes=2,
    latent_shape=(2, 1, 1),
    schedule=ScheduleConfig(num_train_timesteps=64),
    prediction_type="v_prediction",
    folder="gaussian",
    lineage=Lineage(run="test", round=None, parent=None),
)
UNET = GAUSSIAN.model_copy(
    update={
        "network": UNetConfig(family="unet", block_channels=(8,), norm_groups=2, w_embedding_dim=8),
        "latent_shape": (1, 4, 6),
        "schedule": ScheduleConfig(),
        "folder": "unet",
    }
)


def save_pair(folder: Path, manifest: Manifest, steps: tuple[int, ...] | None) -> tuple[Path, Path]:
    """A teacher, and the student that starts from it."""
    torch.manual_seed(0)
    family = family_of(manifest)
    teacher = family.build()
    save_bundle(folder / "teacher", manifest, teacher)
    student = manifest.model_copy(update={"role": "student", "steps": steps, "w": W})
    save_bundle(folder / "student", student, family.student_of(teacher, (W.min, W.max)))
    return folder / "teacher", folder / "student"


@pytest.fixture(scope="module")
def gaussian(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_pair(tmp_path_factory.mktemp("gaussian"), GAUSSIAN, None)


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_pair(tmp_path_factory.mktemp("unet"), UNET, (4,))


def test_labels_are_balanced_and_in_order_of_class() -> None:
    assert balanced_labels(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert np.bincount(balanced_labels(1000, 10)).tolist() == [100] * 10
    assert balanced_labels(2, 5).tolist() == [0, 1]


def test_rows_do_not_depend_on_how_they_are_divided(unet: tuple[Path, Path]) -> None:
    labels = balanced_labels(9, 2)
    opened = BundleSampler(unet[0])
    whole = opened.sample(steps=2, w=1.5, conditions=labels, seed=3)
    assert whole.shape == (9, 4, 6, 1)
    assert whole.dtype == np.float32
    small = opened.sample(steps=2, w=1.5, conditions=labels, seed=3, batch_size=2)
    tail = opened.sample(steps=2, w=1.5, conditions=labels[5:], seed=3, first=5)
    # the noise is equal to the bit; the size of a batch changes sums of a convolution by rounding
    np.testing.assert_allclose(small, whole, atol=1e-5)
    np.testing.assert_allclose(tail, whole[5:], atol=1e-5)
    assert np.abs(opened.sample(steps=2, w=1.5, conditions=labels, seed=4) - whole).max() > 0.1


def test_a_fresh_student_from_the_same_noise_draws_what_the_unguided_teacher_draws(
    unet: tuple[Path, Path],
) -> None:
    teacher, student = unet
    labels = balanced_labels(4, 2)
    told = BundleSampler(student).sample(steps=4, w=3.0, conditions=labels, seed=0)
    unguided = BundleSampler(teacher).sample(steps=4, w=0.0, conditions=labels, seed=0)
    np.testing.assert_allclose(told, unguided, atol=1e-5)
    guided = BundleSampler(teacher).sample(steps=4, w=3.0, conditions=labels, seed=0)
    assert np.abs(guided - unguided).max() > 1e-3


def test_one_step_from_pure_noise_is_minus_the_velocity(gaussian: tuple[Path, Path]) -> None:
    labels = balanced_labels(6, 2)
    found = BundleSampler(gaussian[0]).sample(steps=1, w=2.0, conditions=labels, seed=5)
    _, denoiser = load_denoiser(gaussian[0])
    z_1 = RowRandom((5,), 0, 6).normal("z_1", 2, 1, 1)
    level = denoiser.schedule.at(torch.ones(6, dtype=torch.float64))
    condition = {"label": torch.from_numpy(labels)}
    v = denoiser.velocity(z_1, level, condition, torch.full((6,), 2.0, dtype=torch.float64))
    np.testing.assert_allclose(found.reshape(6, 2), -v.reshape(6, 2).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("sampler", "tolerance"),
    [("ddim", 0.05), ("dpm++", 0.02), ("unipc", 0.02), ("stochastic", 0.1)],
)
def test_gaussian_samples_have_the_moments_of_their_class_and_are_not_clipped(
    gaussian: tuple[Path, Path], sampler: str, tolerance: float
) -> None:
    labels = np.zeros(4000, np.int64)
    points = BundleSampler(gaussian[0]).sample(
        steps=32, w=0.0, conditions=labels, seed=0, sampler=sampler
    )
    # 4000 samples of std .4 know their mean to .006; DDIM with 32 steps shrinks std by ~10 %, and
    # stochastic steps, which are twice as long, shrink it more
    np.testing.assert_allclose(points.mean(0).ravel(), [-3.0, 0.5], atol=0.03)
    np.testing.assert_allclose(points.std(0).ravel(), 0.4, atol=tolerance)


def test_finished_pixels_are_clipped(unet: tuple[Path, Path]) -> None:
    images = BundleSampler(unet[0]).sample(
        steps=1, w=4.0, conditions=balanced_labels(64, 2), seed=0
    )
    assert np.abs(images).max() <= 1


def test_the_counted_evaluations_are_those_made(gaussian: tuple[Path, Path]) -> None:
    opened, student = BundleSampler(gaussian[0]), BundleSampler(gaussian[1])
    assert [opened.evaluations(steps=8, w=w) for w in (2.0, 0.0)] == [16, 8]
    assert student.evaluations(steps=8, w=2.0) == 8
    rows_seen: list[int] = []
    opened.denoiser.network.module.register_forward_pre_hook(
        lambda module, inputs: rows_seen.append(len(inputs[0]))
    )
    for sampler in ("ddim", "dpm++", "unipc"):
        for w in (0.0, 1.0):
            rows_seen.clear()
            opened.sample(steps=4, w=w, conditions=np.zeros(3, np.int64), seed=0, sampler=sampler)
            assert sum(rows_seen) == 3 * opened.evaluations(steps=4, w=w)


@pytest.mark.parametrize(
    ("text_channels", "asked", "option"),
    [(None, ["a cat"], "--labels "), (16, np.zeros(1, np.int64), "--prompt$")],
)
def test_what_a_bundle_does_not_read_is_refused_with_the_option_for_what_it_does(
    unet: tuple[Path, Path], text_channels: int | None, asked: LabelArray | list[str], option: str
) -> None:
    opened = BundleSampler(unet[0])
    network = UNET.network.model_copy(update={"text_channels": text_channels})
    opened.manifest = UNET.model_copy(update={"network": network})
    with pytest.raises(BundleError, match=option):
        opened.check_conditions(asked)


def test_uses_a_bundle_was_not_made_for_are_refused(unet: tuple[Path, Path]) -> None:
    student = BundleSampler(unet[1])
    labels = balanced_labels(2, 2)
    for wrong, message in (
        ({"steps": 2, "w": 1.0}, "distilled for 4 step"),
        ({"steps": 4, "w": 5.0}, r"w = 5\.0"),
        ({"steps": 4, "w": 1.0, "sampler": "dpm++"}, "use --sampler ddim"),
        ({"steps": 4, "w": 1.0, "conditions": np.array([0, 2])}, "classes 0 to 1"),
    ):
        with pytest.raises(BundleError, match=message):
            student.sample(**({"conditions": labels, "seed": 0} | wrong))


SOLVERS = {"dpm++": "use --sampler ddim", "unipc": "use --sampler ddim"}
ALL_BUT_STOCHASTIC = dict.fromkeys(("ddim", *SOLVERS), "use --sampler stochastic|unipc")


@pytest.mark.parametrize(
    ("changes", "own", "refused"),
    [
        ({}, "stochastic", ALL_BUT_STOCHASTIC),
        ({"sampler": "deterministic"}, "ddim", {"stochastic": "use --sampler ddim", **SOLVERS}),
        ({"steps": (1,)}, "ddim", SOLVERS),
        ({"steps": None, "sampler": "deterministic"}, "ddim", SOLVERS),
        ({"role": "teacher", "sampler": "deterministic"}, "ddim", {}),
    ],
)
def test_a_student_is_sampled_as_it_was_distilled_to_be(
    changes: dict[str, object], own: str, refused: dict[str, str]
) -> None:
    stochastic = {"role": "student", "steps": (4,), "w": W, "sampler": "stochastic"}
    manifest = UNET.model_copy(update=stochastic | changes)
    assert default_sampler(manifest) == own
    for sampler in SAMPLERS.known:
        if sampler not in refused:
            check_sampler(manifest, sampler)
            continue
        with pytest.raises(BundleError, match=refused[sampler]):
            check_sampler(manifest, sampler)


def test_renoising_is_a_function_of_the_row(gaussian: tuple[Path, Path]) -> None:
    opened, labels = BundleSampler(gaussian[0]), balanced_labels(9, 2)

    def drawn(first: int = 0, **how: int) -> np.ndarray:
        asked = labels[first:]
        return opened.sample(
            steps=4, w=1.5, conditions=asked, seed=3, sampler="stochastic", first=first, **how
        )

    whole = drawn()
    np.testing.assert_array_equal(drawn(batch_size=2), whole)
    np.testing.assert_array_equal(drawn(first=5), whole[5:])
    assert np.abs(opened.sample(steps=4, w=1.5, conditions=labels, seed=3) - whole).max() > 0.01


def test_a_sampler_that_does_not_exist_is_refused_before_the_network_runs(
    gaussian: tuple[Path, Path],
) -> None:
    with pytest.raises(ConfigError, match="did you mean 'unipc'"):
        check_sampler(UNET, "uni-pc")
    with pytest.raises(ConfigError, match="did you mean 'ddim'"):
        BundleSampler(gaussian[0]).check(steps=4, w=1.0, sampler="dimm")


def test_samples_that_are_not_finite_are_refused_with_count_and_place(tmp_path: Path) -> None:
    _, bundle = save_pair(tmp_path, UNET, (2,))
    sampler = BundleSampler(bundle)
    labels = np.array([0, 1, 0])
    with torch.no_grad():
        next(sampler.denoiser.module.parameters()).fill_(float("nan"))
    with pytest.raises(DivergenceError, match=r"steps=2 w=1: 3 of 3 contain NaN.*number 4;"):
        sampler.sample(steps=2, w=1.0, conditions=labels, seed=0, first=4)
    judged = sampler.sample(steps=2, w=1.0, conditions=labels, seed=0, allow_nonfinite=True)
    assert np.isnan(judged).all()
    with pytest.raises(DivergenceError, match="1 of 2 contain NaN"):
        sampler.finished(torch.tensor([0.0, float("nan")])[:, None, None, None])


def test_a_feature_extractor_reads_no_nan_as_black() -> None:
    images = np.zeros((3, 4, 4, 3), np.float32)
    assert to_uint8_pixels(images).shape == (3, 3, 4, 4)
    images[2, 0, 0, 0] = np.nan
    with pytest.raises(DivergenceError, match=r"1 of 3 contain NaN or infinity.*number 2;"):
        to_uint8_pixels(images)
