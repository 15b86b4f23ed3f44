"""Every bad input is refused with one clear message, exit code 2, and nothing created."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from pipeline.bundle import read_manifest
from pipeline.documents import read_yaml
from pipeline.models.assemble import family_of, save_bundle
from tests.support.cases import teacher_manifest
from tests.support.terminal import DIGITS, GAUSSIAN, RUN, invoke, snapshot


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edited(old: str, new: str) -> Callable[[], str]:
    """The Gaussian recipe with some of its text replaced."""

    def write() -> str:
        text = GAUSSIAN.read_text()
        assert old in text
        Path("recipe.yaml").write_text(text.replace(old, new))
        return "recipe.yaml"

    return write


def gaussian() -> str:
    return str(GAUSSIAN)


def images(data: dict[str, object], sizes: tuple[int, ...]) -> Callable[[], str]:
    """The digits recipe over a folder with one image of each size in each of two classes."""

    def write() -> str:
        for name in ("cats", "dogs"):
            folder = Path("pictures") / name
            folder.mkdir(parents=True)
            for index, size in enumerate(sizes):
                Image.new("RGB", (size, size)).save(folder / f"{index}.png")
        return _with_data({"source": "image_folder", "path": "pictures", "size": 8, **data})

    return write


def missing_images() -> str:
    return _with_data({"source": "image_folder", "path": "nowhere", "size": 8})


def empty_images() -> str:
    Path("pictures/cats").mkdir(parents=True)
    return _with_data({"source": "image_folder", "path": "pictures", "size": 8})


def _with_data(data: dict[str, object]) -> str:
    Path("recipe.yaml").write_text(yaml.safe_dump({**read_yaml(DIGITS), "data": data}))
    return "recipe.yaml"


def bundle(make: Callable[[Path], None]) -> Callable[[], str]:
    """The digits recipe with a teacher from a directory that `make` fills."""

    def write() -> str:
        make(Path("given"))
        tree = read_yaml(DIGITS)
        tree["teacher"] = {"network": tree["teacher"]["network"], "bundle": "given"}
        Path("recipe.yaml").write_text(yaml.safe_dump(tree))
        return "recipe.yaml"

    return write


def no_manifest(folder: Path) -> None:
    folder.mkdir()
    (folder / "model.safetensors").touch()


def with_code(folder: Path) -> None:
    manifest = teacher_manifest("unet")
    save_bundle(folder, manifest, family_of(manifest).build())
    (folder / "hook.py").write_text("")


def of_another_family(folder: Path) -> None:
    manifest = teacher_manifest("gaussian")
    save_bundle(folder, manifest, family_of(manifest).build())


def a_student(folder: Path) -> None:
    manifest = teacher_manifest("unet")
    save_bundle(folder, manifest, family_of(manifest).build())
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"teacher"', '"student"', 1))
    assert read_manifest(folder).role == "student"


def another_run() -> str:
    Path("out").mkdir()
    Path("out/recipe.yaml").write_text(DIGITS.read_text())
    return str(GAUSSIAN)


def changed_run() -> str:
    Path("out").mkdir()
    Path("out/recipe.yaml").write_text(GAUSSIAN.read_text().replace("seed: 0", "seed: 1"))
    return str(GAUSSIAN)


def linked_run() -> str:
    Path("elsewhere").mkdir()
    Path("out").symlink_to("elsewhere")
    return str(GAUSSIAN)


BAD_INPUT: dict[str, tuple[Callable[[], str], tuple[str, ...], str]] = {
    "no such recipe": (lambda: "nope.yaml", (), r"nope\.yaml: cannot be read"),
    "misspelt section": (edited("halving:", "halfing:"), (), "halfing.*did you mean 'halving'"),
    "misspelt key": (
        edited("updates: 600", "update: 600"),
        (),
        r"guidance\.update: unknown key; did you mean 'updates'",
    ),
    "text for a number": (edited("0.1}", "fast}"), (), r"learning_rate.*number.*'fast'"),
    "key twice": (
        edited("evaluation:", "run: {name: twice}\nevaluation:"),
        (),
        "duplicate key 'run'",
    ),
    "not a mapping": (edited(GAUSSIAN.read_text(), "- 1\n"), (), "expected keys and values"),
    "not YAML": (edited("run: {", "run: {{"), (), "not valid YAML"),
    "steps that cannot halve": (
        gaussian,
        ("--set", "halving.steps=[4, 3]"),
        r"cannot go from 4 to 3.*use \[4, 2, 1\]",
    ),
    "steps that go up": (gaussian, ("--set", "halving.steps=[1, 2]"), "cannot go from 1 to 2"),
    "one step": (gaussian, ("--set", "halving.steps=[4]"), "at least two entries"),
    "steps off the schedule": (
        gaussian,
        ("--set", "halving.steps=[6, 3]"),
        "6 steps do not divide",
    ),
    "w reversed": (gaussian, ("--set", "guidance.w.min=5"), r"reversed: min 5\.0 is above max 4"),
    "w not trained": (
        gaussian,
        ("--set", "evaluation.w=[0, 8]"),
        r"evaluation\.w: \[8\.0\].* guidance\.w \[0\.0, 4\.0\]",
    ),
    "w negative": (gaussian, ("--set", "guidance.w.min=-1"), r"guidance\.w\.min"),
    "batch and workers": (
        gaussian,
        ("--set", "guidance.batch_size=255"),
        r"guidance\.batch_size: 255 .* 2 workers; use 25[46]",
    ),
    "ZeRO stage 4": (gaussian, ("--set", "engine.zero_stage=4"), r"engine\.zero_stage.*got 4"),
    "unknown --set": (gaussian, ("--set", "engin.zero_stage=1"), "did you mean 'engine'"),
    "--set without value": (gaussian, ("--set", "engine.zero_stage"), "expected KEY.KEY=VALUE"),
    "--set through a value": (gaussian, ("--set", "run.name.x=1"), "holds a value, not keys"),
    "no such profile": (gaussian, ("--profile", "nope.yaml"), r"nope\.yaml: cannot be read"),
    "no data": (missing_images, (), "nowhere is not a folder"),
    "empty data": (empty_images, (), "holds no images"),
    "two sizes": (images({}, (8, 9)), (), "9x9.*8x8.*data.resize: crop"),
    "no bundle": (bundle(lambda _: None), (), "given is not a bundle"),
    "no manifest": (bundle(no_manifest), (), "it has no manifest.json"),
    "bundle with code": (bundle(with_code), (), r"\(hook\.py\)"),
    "bundle of another family": (bundle(of_another_family), (), "teacher.network.family"),
    "bundle of a student": (bundle(a_student), (), "is a student"),
    "another recipe's run": (another_run, (), "belongs to another recipe, 'digits'"),
    "a changed recipe": (changed_run, (), r"- seed: 1 \+ seed: 0.*--accept-changes"),
    "a linked run": (linked_run, (), "symbolic link"),
    "too little disk": (
        gaussian,
        ("--set", "halving.updates=1000000000000"),
        r"not enough disk: about \d+ PB needed .*free",
    ),
    "too many CPUs": (
        gaussian,
        ("--set", "compute.workers=256"),
        r"256 workers with 1 CPU\(s\) each need 256 CPUs, this machine has \d+",
    ),
    "too many GPUs": (
        gaussian,
        ("--set", "compute.gpus_per_worker=64"),
        r"need 128 GPUs, this machine has \d+",
    ),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_refused_and_nothing_is_created(workplace: Path, name: str) -> None:
    write, options, message = BAD_INPUT[name]
    recipe = write()
    before = snapshot(workplace)
    code, output = invoke(*RUN, recipe, *options)
    assert code == 2
    assert re.search(message, output), output
    assert output.startswith("Refused")
    assert output.endswith("Nothing was created.")
    assert snapshot(workplace) == before
