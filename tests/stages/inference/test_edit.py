"""Editing and inpainting on the student's grid, compared with stock pipelines."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
)
from PIL import Image
from torch import Tensor

from pipeline.bundle import MANIFEST
from pipeline.diffusion.schedule import diffuse
from pipeline.errors import BundleError, ConfigError, DataError
from pipeline.models.unet.inpainting import Inpainting
from pipeline.randomness import RowRandom
from pipeline.sampling import editing
from pipeline.sampling.editing import EditTarget, edit, is_on_grid, nearest_step, sample_from
from pipeline.sampling.sampler import BundleSampler
from stages.export.export import export
from stages.export.parity import TOLERANCE
from stages.inference.edit import (
    EditRequest,
    EditResult,
    edit_picture,
    inpaint_picture,
    read_picture,
)
from tests.support.cases import save_untrained, student_manifest, teacher_manifest
from tests.support.stock_bundles import Make
from tests.support.terminal import invoke
from tests.support.tiny_pipelines import PIXELS
from tests.support.tiny_pipelines import edit as edit_json

SIDE = 8
STEPS = 4


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained class-conditional four-step student on pixels."""
    manifest = student_manifest(teacher_manifest("unet")).model_copy(update={"steps": (STEPS,)})
    return save_untrained(tmp_path_factory.mktemp("digits") / "student", manifest)


def picture(path: Path, size: tuple[int, int], mode: str = "RGB") -> Path:
    shape = (*size, 3) if mode == "RGB" else size
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def stochastic(bundle: Path, place: Path) -> Path:
    """The same network, declared as distilled for the stochastic sampler."""
    shutil.copytree(bundle, place)
    edit_json(place / MANIFEST, sampler="stochastic")
    return place


def half_white(path: Path, side: int) -> Path:
    pixels = np.zeros((side, side), np.uint8)
    pixels[:, side // 2 :] = 255
    Image.fromarray(pixels).save(path)
    return path


def test_a_strength_is_the_nearest_time_of_the_grid() -> None:
    for strength, steps, taken, exact in (
        *((0.5, 4, 2, True), (1.0, 1, 1, True), (0.3, 4, 1, False)),
        *((0.125, 4, 1, False), (0.9, 4, 4, False), (2 / 3, 3, 2, True)),
    ):
        assert (nearest_step(strength, steps), is_on_grid(strength, steps)) == (taken, exact)
    for strength in (0.0, -0.5, 1.01, float("nan"), 0.1):  # no step, or out of range
        with pytest.raises(ConfigError, match="--strength"):
            nearest_step(strength, 4)


def test_the_last_step_returns_the_exact_mean_of_what_the_noised_picture_may_have_been(
    tmp_path: Path,
) -> None:
    manifest = teacher_manifest("gaussian")
    opened = BundleSampler(save_untrained(tmp_path / "teacher", manifest))
    x = np.full((3, 1, 1, manifest.latent_shape[0]), 0.25, np.float32)
    label, steps = np.array([0, 1, 2]), 4
    drawn = edit(opened, x, EditTarget(label, 0.0, seed=5), steps=steps, taken=1)
    level = opened.denoiser.schedule.at(torch.full((3,), 1 / steps, dtype=torch.float64))
    noise = RowRandom((5,), 0, 3).normal("z_1", *manifest.latent_shape)
    z_t = diffuse(torch.from_numpy(x).permute(0, 3, 1, 2), noise, level).double()
    network: Any = manifest.network
    mean = torch.tensor(network.means, dtype=torch.float64)[label][:, :, None, None]
    alpha, sigma, variance = level.alpha[0], level.sigma[0], network.std**2
    gain = alpha * variance / (alpha**2 * variance + sigma**2)
    expected = mean + gain * (z_t - alpha * mean)
    np.testing.assert_allclose(drawn, expected.permute(0, 2, 3, 1).numpy(), atol=1e-6)


def drawn_by_stock(kind: type[DiffusionPipeline], folder: Path, **call: Any) -> Tensor:
    pipeline = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    drawn: Tensor = pipeline(prompt="7", **call, generator=generator, output_type="latent").images
    return drawn


@torch.inference_mode()
@pytest.mark.parametrize("taken", [1, 2, 3])
def test_stock_image_to_image_redraws_a_picture_as_we_do(
    made: Make, taken: int, tmp_path: Path
) -> None:
    parts, steps, w = made("sd"), STEPS, 3.0
    export(parts.student(steps), parts.components, tmp_path / "out", facts={})
    opened = BundleSampler(parts.student(steps), components=parts.components)
    source = read_picture(picture(tmp_path / "in.png", (PIXELS, PIXELS)), opened).pixels
    x = editing.latents_of(opened, source)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    level = opened.denoiser.schedule.at(torch.full((1,), taken / steps, dtype=torch.float64))
    z_t = diffuse(x, noise, level)
    ours = sample_from(opened, z_t, opened.condition(("7",)), w, steps=steps, taken=taken)
    theirs = drawn_by_stock(
        StableDiffusionImg2ImgPipeline,
        tmp_path / "out",
        image=x,
        strength=taken / steps,
        num_inference_steps=steps,
        guidance_scale=1 + w,
    )
    assert (ours - theirs).abs().max() <= TOLERANCE * ours.abs().max()
    assert (ours - x).abs().max() > 0.1 * ours.abs().max()  # or else nothing was redrawn


@torch.inference_mode()
@pytest.mark.parametrize("steps", [1, 4])
def test_stock_inpainting_paints_as_we_do(made: Make, steps: int, tmp_path: Path) -> None:
    parts, w = made("sd-inpaint"), 3.0
    export(parts.student(steps), parts.components, tmp_path / "out", facts={})
    opened = BundleSampler(parts.student(steps), components=parts.components)
    source = read_picture(picture(tmp_path / "in.png", (PIXELS, PIXELS)), opened).pixels
    mask = torch.zeros(1, 1, PIXELS, PIXELS)
    mask[..., : PIXELS // 2] = 1
    assert isinstance(opened.stock, Inpainting)
    pixels = torch.from_numpy(source).permute(0, 3, 1, 2)
    beside = opened.stock.around(pixels, mask)
    noise = torch.randn(
        1, *opened.manifest.latent_shape, generator=torch.Generator().manual_seed(0)
    )
    condition = {**opened.condition(("7",)), **beside}
    ours = sample_from(opened, noise, condition, w, steps=steps, taken=steps)
    theirs = drawn_by_stock(
        StableDiffusionInpaintPipeline,
        tmp_path / "out",
        image=(pixels + 1) / 2,
        mask_image=mask,
        masked_image_latents=beside["image"][:, 1:],
        height=PIXELS,
        width=PIXELS,
        num_inference_steps=steps,
        guidance_scale=1 + w,
    )
    assert (ours - theirs).abs().max() <= TOLERANCE * ours.abs().max()


def test_unmasked_pixels_stay_bit_identical(made: Make, tmp_path: Path) -> None:
    parts = made("sd-inpaint")
    source = picture(tmp_path / "in.png", (PIXELS, PIXELS))
    mask = half_white(tmp_path / "mask.png", PIXELS)
    noisy = stochastic(parts.student(2), tmp_path / "student")
    before, after = np.asarray(Image.open(source)), []
    for number, bundle in enumerate((parts.student(2), noisy)):
        output = tmp_path / f"{number}.png"
        order = EditRequest(bundle, source, output, "red", 3.0, components=parts.components)
        assert inpaint_picture(order, mask) == EditResult(2, 2)
        after.append(np.asarray(Image.open(output)))
        np.testing.assert_array_equal(before[:, : PIXELS // 2], after[-1][:, : PIXELS // 2])
        assert (before[:, PIXELS // 2 :] != after[-1][:, PIXELS // 2 :]).any()
    assert (after[0] != after[1]).any()  # each by its own sampler


def test_a_transparent_picture_is_edited_on_white_and_the_terminal_shows_it(
    digits: Path, tmp_path: Path
) -> None:
    image = Image.open(picture(tmp_path / "in.png", (SIDE, SIDE), mode="L"))
    image.putalpha(0)
    image.save(tmp_path / "holed.png")
    order = ("--guidance-weight", "1", "--label", "8", "--strength", "0.5", "--output")
    shown = {}
    for name in ("holed", "in"):
        source, output = (str(tmp_path / f"{name}{ending}") for ending in (".png", "-out.npz"))
        code, shown[name] = invoke("edit", str(digits), source, *order, output)
        assert code == 0
    assert "has transparent pixels, which are filled with white" in shown["holed"]
    assert "transparent pixels" not in shown["in"]
    assert (np.load(tmp_path / "holed-out.npz")["source"] == 1).all()


def test_the_command_writes_the_picture_or_a_row_behind_its_source(
    digits: Path, tmp_path: Path
) -> None:
    source = picture(tmp_path / "in.png", (SIDE, SIDE), mode="L")
    edited = ("edit", str(digits), str(source), "--guidance-weight", "1", "--label", "8")
    code, said = invoke(*edited, "--strength", "0.3", "--output", str(tmp_path / "one.png"))
    assert code == 0
    assert "used 0.25" in said
    assert "1 of 4 steps taken" in said
    with Image.open(tmp_path / "one.png") as one:
        assert (one.size, one.mode) == ((SIDE, SIDE), "L")
    code, said = invoke(
        *(*edited, "--strength", "0.5", "--num", "3"), "--output", str(tmp_path / "row.png")
    )
    assert code == 0
    assert "used" not in said
    with Image.open(tmp_path / "row.png") as row:
        assert row.size == (4 * 50 + 2, 50 + 2)
    code, _ = invoke(*edited, "--strength", "0.5", "--output", str(tmp_path / "out.npz"))
    with np.load(tmp_path / "out.npz") as content:
        assert content["images"].shape == content["source"].shape == (1, SIDE, SIDE, 1)
        assert content["labels"].tolist() == [8]


def test_other_seeds_and_samplers_give_other_pictures(digits: Path, tmp_path: Path) -> None:
    """A stochastic student adds the same noise in editing as in sampling."""
    opened = {
        "ddim": BundleSampler(digits),
        "stochastic": BundleSampler(stochastic(digits, tmp_path / "student")),
    }
    source = read_picture(
        picture(tmp_path / "in.png", (SIDE, SIDE), mode="L"), opened["ddim"]
    ).pixels

    def edited(sampler: str, taken: int, seed: int = 0) -> np.ndarray:
        wish = EditTarget(np.array([8]), 1.0, seed=seed)
        found: np.ndarray = edit(opened[sampler], source, wish, steps=STEPS, taken=taken)
        return found

    for sampler, bundle in opened.items():
        np.testing.assert_array_equal(edited(sampler, 2), edited(sampler, 2))
        assert (edited(sampler, 2) != edited(sampler, 2, seed=1)).any()
        drawn = bundle.sample(steps=STEPS, w=1.0, conditions=np.array([8]), seed=0)
        np.testing.assert_array_equal(edited(sampler, STEPS), drawn)  # nothing of the image is left
    assert (edited("stochastic", 3) != edited("ddim", 3)).any()
    # from the last point on there is no noise to add
    np.testing.assert_array_equal(edited("stochastic", 1), edited("ddim", 1))


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"condition": 10}, BundleError, "classes 0 to 9"),
        ({"condition": "a red seven"}, BundleError, "--label CLASS"),
        ({"w": 9.0}, BundleError, "w = 9.0"),
        ({"steps": 2}, BundleError, "distilled for 4"),
        ({"num": 0}, ConfigError, "--num 0"),
        ({"picture": Path("missing.png")}, ConfigError, "missing.png"),
        ({"picture": Path(__file__)}, DataError, "png, jpg or webp"),
        ({"output": Path("out.gif")}, ConfigError, ".npz or .png"),
    ],
)
def test_invalid_requests_are_refused(
    digits: Path, tmp_path: Path, change: dict[str, Any], error: type[Exception], reason: str
) -> None:
    values = {
        "bundle": digits,
        "picture": picture(tmp_path / "in.png", (SIDE, SIDE)),
        "output": tmp_path / "out.png",
        "condition": 8,
        "w": 1.0,
    }
    with pytest.raises(error, match=reason):
        edit_picture(EditRequest(**{**values, **change}), 0.5)
    assert not (tmp_path / "out.png").exists()


def test_masks_and_networks_that_do_not_fit_are_refused(
    made: Make, digits: Path, tmp_path: Path
) -> None:
    parts = made("sd-inpaint")
    source = picture(tmp_path / "in.png", (PIXELS, PIXELS))
    order = EditRequest(
        *(parts.student(2), source, tmp_path / "out.png", "red", 3.0),
        components=parts.components,
    )
    with pytest.raises(ConfigError, match=r"8x8 .*16x16"):
        inpaint_picture(order, half_white(tmp_path / "small.png", SIDE))
    black = tmp_path / "black.png"
    Image.fromarray(np.zeros((PIXELS, PIXELS), np.uint8)).save(black)
    with pytest.raises(ConfigError, match="mask is empty"):
        inpaint_picture(order, black)
    holed = Image.fromarray(np.full((PIXELS, PIXELS), 255, np.uint8))
    holed.putalpha(0)
    holed.save(tmp_path / "holed.png")
    with pytest.raises(ConfigError, match=r"holed\.png: the mask has transparent pixels, .*; save"):
        inpaint_picture(order, tmp_path / "holed.png")
    with pytest.raises(BundleError, match="use stepfold inpaint"):
        edit_picture(order, 0.5)
    mask = half_white(tmp_path / "mask.png", SIDE)
    small = picture(tmp_path / "digit.png", (SIDE, SIDE))
    with pytest.raises(BundleError, match="no mask input"):
        inpaint_picture(EditRequest(digits, small, tmp_path / "out.png", 8, 1.0), mask)
    assert not order.output.exists()
