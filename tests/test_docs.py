"""README and docs/: generated pages are current, links resolve, commands run."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from pipeline.config import Recipe, reference
from pipeline.documents import build, read_yaml
from tests.support.small_run import make_run

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
GENERATED = ("docs/cli.md", "docs/configuration.md")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
WRITTEN = [page for page in PAGES if str(page.relative_to(ROOT)) not in GENERATED]
EXECUTED = [README, ROOT / "docs" / "quickstart.md"]

VARIABLES = dict(re.findall(r"^(CLI|SCHEMAS) := (.+)$", (ROOT / "Makefile").read_text(), re.M))
"""The module of the command line and the schema files, as `make docs` has them."""

LADDER = (
    "run.name=digits",
    "halving.steps=[16,8,4,2,1]",
    "teacher.schedule.num_train_timesteps=1024",
)
"""A Gaussian run in the directories of the digits demo."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- not executed: \S.*-->\n$")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE_PATH = re.compile(r"`((?:pipeline|infra|stages|flows|tests)/[\w/.-]+\.(?:py|yaml|json|png))`")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    is_marked: bool


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        before = text[: found.start()]
        marked = bool(_MARK.search(before))
        yield Block(page, before.count("\n") + 1, found[1], found[2], marked)


def prose_of(page: Path) -> str:
    """The text of a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub generates for the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in kept}


def test_the_page_of_commands_is_current():
    made = subprocess.run(
        [sys.executable, "-m", "typer", VARIABLES["CLI"], "utils", "docs", "--name", "stepfold"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    kept = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert made.stdout.strip() == kept.strip(), "run `make docs`"


def test_the_page_of_keys_is_current(capsys):
    reference.main([str(ROOT / file) for file in VARIABLES["SCHEMAS"].split()])
    kept = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == kept, "run `make docs`"


def test_every_link_and_image_resolves():
    broken = []
    for page in PAGES:
        for target in _LINK.findall(prose_of(page)):
            place, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            file = (page.parent / place).resolve() if place else page
            if not file.exists() or (anchor and anchor not in anchors_of(file)):
                broken.append(f"{page.name}: {target}")
    assert broken == []


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = [page.name for page in ROOT.glob("docs/*.md") if page.name != "README.md"]
    assert len(pages) > 10
    assert [page for page in pages if f"({page})" not in index] == []


def test_the_readme_is_one_page():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 250


def test_the_recipe_of_the_readme_is_valid(tmp_path):
    text = next(block.text for block in blocks_of(README) if block.language == "yaml")
    (tmp_path / "recipe.yaml").write_text(text)
    recipe = build(Recipe, read_yaml(tmp_path / "recipe.yaml"), "README.md")
    assert recipe.halving.steps == (16, 8, 4, 2, 1)


def test_commands_and_options_of_the_pages_exist():
    known = options_by_command()
    unknown = [
        f"{page.name}: {shlex.join(words)}"
        for page in WRITTEN
        if page.name != "CHANGELOG.md"
        for words in commands_of(page)
        if not {word.partition("=")[0] for word in words[2:] if word.startswith("-")}
        <= known.get(words[1], set())
    ]
    assert unknown == []


def options_by_command() -> dict[str, set[str]]:
    """The options of every command of the command line."""
    group = typer.main.get_command(importlib.import_module(VARIABLES["CLI"]).app)
    return {
        name: {"--help"} | {option for param in command.params for option in param.opts}
        for name, command in group.commands.items()
    }


def commands_of(page: Path) -> Iterator[list[str]]:
    """The words of every `stepfold` command in the blocks and the text of a page."""
    lines = [line for block in blocks_of(page) for line in block.text.splitlines()]
    lines += re.findall(r"`(stepfold [^`]+)`", prose_of(page).replace("\n", " "))
    for line in lines:
        if re.match(r"stepfold +[a-z]", line):
            yield shlex.split(line.replace("[", " ").replace("]", " "), comments=True)


def test_files_that_the_pages_name_exist():
    named = {
        (page.name, path)
        for page in WRITTEN
        if page.name != "CHANGELOG.md"
        for path in _CODE_PATH.findall(page.read_text(encoding="utf-8"))
        if not re.search("[A-Z]{2}", path)
    }
    assert len(named) > 4
    assert [each for each in sorted(named) if not (ROOT / each[1]).exists()] == []


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory) -> Path:
    """A finished run with the directories of the digits demo; its students are not trained."""
    return make_run(tmp_path_factory.mktemp("finished") / "digits", *LADDER)


@pytest.fixture
def workplace(tmp_path, finished_run) -> Path:
    """A directory in which the commands of a page run: a finished run and a folder of images."""
    for name in ("flows", "infra"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "digits").symlink_to(finished_run)
    for shade, label in enumerate(("apples", "pears")):
        (tmp_path / "my-images" / label).mkdir(parents=True)
        for number in range(20):
            pixels = np.full((32, 32, 3), 100 * shade + number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "my-images" / label / f"{number}.png")
    return tmp_path


@pytest.mark.nightly
@pytest.mark.parametrize("page", EXECUTED, ids=lambda page: page.stem)
def test_command_blocks_run(page, workplace):
    """Every block runs, in the order of the page, unless it is marked with a reason."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    blocks = [block for block in blocks_of(page) if block.language == "bash"]
    executed = [block for block in blocks if not block.is_marked]
    assert len(executed) >= 2
    for block in executed:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=workplace,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{page.name}:{block.line}\n{done.stdout}{done.stderr}"
    assert len(np.load(workplace / "samples.npz")["images"]) >= 20
