"""Sample files: content, and rejected requests that leave no file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.bundle import MANIFEST, read_manifest
from pipeline.errors import BundleError, ConfigError
from pipeline.sampling.sampler import BundleSampler, balanced_labels
from stages.inference.output_file import image_grid
from stages.inference.sample import cut_prompts_note, sample_bundle
from tests.support.cases import save_untrained, student_manifest, teacher_manifest
from tests.support.terminal import invoke
from tests.support.tiny_pipelines import TOKENS, edit, tiny_pipeline


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An untrained (or exact) teacher of each family, and a 2-step student."""
    root = tmp_path_factory.mktemp("bundles")
    student = student_manifest(teacher_manifest("gaussian")).model_copy(update={"steps": (2,)})
    manifests = {
        "unet": teacher_manifest("unet"),
        "gaussian": teacher_manifest("gaussian"),
        "student": student,
    }
    return {name: save_untrained(root / name, each) for name, each in manifests.items()}


def test_an_npz_holds_images_and_balanced_labels(bundles: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "out.npz"
    count = sample_bundle(bundles["unet"], output, steps=2, w=1.0, seed=3, samples=12)
    with np.load(output) as content:
        assert set(content) == {"images", "labels"}
        images, labels = content["images"], content["labels"]
    assert count == 12
    assert (images.dtype, images.shape) == (np.float32, (12, 8, 8, 1))
    assert labels.dtype == np.int64
    assert labels.tolist() == balanced_labels(12, 10).tolist()
    assert np.abs(images).max() <= 1
    expected = BundleSampler(bundles["unet"]).sample(steps=2, w=1.0, conditions=labels, seed=3)
    np.testing.assert_array_equal(images, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


def test_labels_are_drawn_exactly_as_given(bundles: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "out.npz"
    arguments = ["sample", str(bundles["gaussian"]), "--steps", "4", "--guidance-weight", "2"]
    code, said = invoke(*arguments, "--labels", "2,2,0", "--seed", "1", "--output", str(output))
    assert (code, "3 samples in" in said) == (0, True)
    with np.load(output) as content:
        assert content["labels"].tolist() == [2, 2, 0]


def test_classes_are_given_by_name(bundles: dict[str, Path], tmp_path: Path) -> None:
    names = ("flags", "red, big", "cats")
    manifest = teacher_manifest("gaussian").model_copy(update={"class_names": names})
    bundle = save_untrained(tmp_path / "named", manifest)
    assert read_manifest(bundle).class_names == names
    assert "class_names" not in (bundles["gaussian"] / MANIFEST).read_text()
    output = tmp_path / "out.npz"
    arguments = ["sample", str(bundle), "--steps", "4", "--guidance-weight", "2", "--labels"]
    code, said = invoke(*arguments, 'cats, "red, big",0', "--output", str(output))
    assert code == 0, said
    with np.load(output) as content:
        assert content["labels"].tolist() == [2, 1, 0]
    code, said = invoke(*arguments, "dogs", "--output", str(tmp_path / "no.npz"))
    assert (code, "--labels dogs: " in said, "flags, 'red, big', cats" in said) == (2, True, True)
    assert not (tmp_path / "no.npz").exists()
    edit(bundle / MANIFEST, class_names=["flags"])
    with pytest.raises(BundleError, match="class_names has 1 names, but num_classes is 3"):
        read_manifest(bundle)


def test_the_same_command_writes_the_same_bytes(bundles: dict[str, Path], tmp_path: Path) -> None:
    for name in ("one.npz", "two.npz"):
        sample_bundle(bundles["gaussian"], tmp_path / name, steps=4, w=2.0, seed=1, samples=30)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_a_png_has_a_row_for_each_class(bundles: dict[str, Path], tmp_path: Path) -> None:
    sample_bundle(bundles["unet"], tmp_path / "out.png", steps=1, w=0.0, seed=0, samples=20)
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (2 * 50 + 2, 10 * 50 + 2)


def test_the_grid_shows_every_image_in_its_place() -> None:
    images = np.stack([np.full((2, 3, 3), level, np.float32) for level in (-1.0, 0.0, 1.0)])
    canvas = image_grid(images, columns=2)
    scale = 48 // 3
    assert canvas.shape == (2 * (2 * scale + 2) + 2, 2 * (3 * scale + 2) + 2, 3)
    assert canvas[2, 2].tolist() == [0, 0, 0]
    assert canvas[2, 2 + 3 * scale + 2].tolist() == [128, 128, 128]
    assert canvas[-3, 2].tolist() == [255, 255, 255]
    assert canvas[0].min() == 255


REFUSED = {
    "steps": ("student", {"steps": 4}, "distilled for 2 step"),
    "steps off the grid": ("gaussian", {"steps": 3}, "do not divide"),
    "w above": ("student", {"w": 9.0}, r"w = 9\.0"),
    "w negative": ("gaussian", {"w": -1.0}, r"-1\.0"),
    "no samples": ("gaussian", {"samples": 0}, "--num 0"),
    "an unknown class": ("gaussian", {"samples": (0, 3)}, "--labels 3: .*classes 0 to 2"),
    "a sampler for teachers": ("student", {"sampler": "dpm++"}, "use --sampler ddim"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_use_the_bundle_was_not_made_for_is_refused(
    bundles: dict[str, Path], tmp_path: Path, name: str
) -> None:
    bundle, changes, message = REFUSED[name]
    arguments = {"steps": 2, "w": 1.0, "seed": 0, "samples": 6, **changes}
    with pytest.raises((BundleError, ConfigError), match=message):
        sample_bundle(bundles[bundle], tmp_path / "out.npz", **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


# numbers that are no image cannot be a .png
@pytest.mark.parametrize(
    ("output", "message"),
    [
        *((output, "--output") for output in ("out.jpg", "missing/out.npz", ".")),
        ("out.png", r"\.npz"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(
    bundles: dict[str, Path], tmp_path: Path, output: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        sample_bundle(bundles["gaussian"], tmp_path / output, steps=4, w=0.0, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_the_command_exits_with_2_when_refused(bundles: dict[str, Path], tmp_path: Path) -> None:
    for bundle, word in ((bundles["student"], "--steps"), (tmp_path, "is not a bundle")):
        arguments = ["sample", str(bundle), "--steps", "4", "--guidance-weight", "1"]
        code, said = invoke(*arguments, "--output", str(tmp_path / "out.npz"))
        assert (code, "Refused" in said, word in said) == (2, True, True), said


def test_prompts_that_the_text_encoder_cuts_are_found_beside_the_bundle(tmp_path: Path) -> None:
    tiny_pipeline("sd", tmp_path / "components")
    bundle = tmp_path / "rounds" / "00-guidance" / "student"
    note = cut_prompts_note(bundle, None, ["red", "word " * 50])
    assert note is not None
    assert note.startswith(f"1 of 2 distinct prompts has more than the {TOKENS} tokens that")
    assert cut_prompts_note(bundle, None, ["red"]) is None
    assert cut_prompts_note(tmp_path.parent / "elsewhere", None, ["word " * 50]) is None
