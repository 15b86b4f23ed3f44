"""Every bad input is refused with one message and exit code 2; nothing is created."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml
from PIL import Image

from pipeline.bundle import read_manifest
from pipeline.documents import read_yaml
from pipeline.models.assemble import family_of, save_bundle
from tests.support.cases import teacher_manifest
from tests.support.terminal import DIGITS, GAUSSIAN, RUN, invoke, snapshot


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


def images(*sizes: int) -> Callable[[], str]:
    """The digits recipe over a folder with one image of each size in each of two classes."""

    def write() -> str:
        for name in ("cats", "dogs"):
            folder = Path("pictures") / name
            folder.mkdir(parents=True)
            for index, size in enumerate(sizes):
                Image.new("RGB", (size, size)).save(folder / f"{index}.png")
        return over("pictures")

    return write


def over(folder: str) -> str:
    tree = {"source": "image_folder", "path": folder, "size": 8}
    Path("recipe.yaml").write_text(yaml.safe_dump({**read_yaml(DIGITS), "data": tree}))
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


def teacher_of(family: str, folder: Path) -> None:
    manifest = teacher_manifest(family)
    save_bundle(folder, manifest, family_of(manifest).build())


def with_code(folder: Path) -> None:
    teacher_of("unet", folder)
    (folder / "hook.py").write_text("")


def a_student(folder: Path) -> None:
    teacher_of("unet", folder)
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"teacher"', '"student"', 1))
    assert read_manifest(folder).role == "student"


def begun(recipe: str) -> Callable[[], str]:
    """The Gaussian recipe, in the run directory of another."""

    def write() -> str:
        Path("out").mkdir()
        Path("out/recipe.yaml").write_text(recipe)
        return str(GAUSSIAN)

    return write


def linked_run() -> str:
    Path("elsewhere").mkdir()
    Path("out").symlink_to("elsewhere")
    return str(GAUSSIAN)


BAD_INPUT: dict[str, tuple[Callable[[], str], tuple[str, ...], str]] = {
    "no such recipe": (lambda: "nope.yaml", (), r"nope\.yaml: cannot be read"),
    "misspelt key": (
        edited("updates: 600", "update: 600"),
        (),
        r"guidance\.update: unknown key; did you mean 'updates'",
    ),
    "not YAML": (edited("run: {", "run: {{"), (), "not valid YAML"),
    "steps that cannot halve": (
        gaussian,
        ("--set", "halving.steps=[4, 3]"),
        r"cannot go from 4 to 3.*use \[4, 2, 1\]",
    ),
    "batch and workers": (
        gaussian,
        ("--set", "guidance.batch_size=255"),
        r"guidance\.batch_size: 255 .* 2 workers; use 25[46]",
    ),
    "ZeRO stage 4": (gaussian, ("--set", "engine.zero_stage=4"), r"engine\.zero_stage.*got 4"),
    "unknown --set": (gaussian, ("--set", "engin.zero_stage=1"), "did you mean 'engine'"),
    "no such profile": (gaussian, ("--profile", "nope.yaml"), r"nope\.yaml: cannot be read"),
    "no data": (lambda: over("nowhere"), (), "nowhere is not a folder"),
    "empty data": (images(), (), "holds no images"),
    "two sizes": (images(8, 9), (), "9x9.*8x8.*data.resize: crop"),
    "no bundle": (bundle(lambda _: None), (), "given is not a bundle"),
    "no manifest": (bundle(no_manifest), (), "it has no manifest.json"),
    "bundle with code": (bundle(with_code), (), r"\(hook\.py\)"),
    "bundle of another family": (
        bundle(partial(teacher_of, "gaussian")),
        (),
        "teacher.network.family",
    ),
    "bundle of a student": (bundle(a_student), (), "is a student"),
    "another recipe's run": (begun(DIGITS.read_text()), (), "belongs to another recipe, 'digits'"),
    "a changed recipe": (
        begun(GAUSSIAN.read_text().replace("seed: 0", "seed: 1")),
        (),
        r"- seed: 1 \+ seed: 0.*--accept-changes",
    ),
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
