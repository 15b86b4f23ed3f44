"""A power cut at any moment of a commit leaves the old state, the new one or none; never a mixture.

A kill leaves what was written in the kernel's hands, so it shows nothing of this: here every state
is built that the fsyncs made so far allow, and read as a run would read it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.config import Recipe
from pipeline.documents import apply_override, build, read_yaml
from pipeline.durable import write_durably
from pipeline.errors import ConfigError
from pipeline.ledger import Artifact, Ledger
from pipeline.run_dir.recipe_file import prepare_run_dir, read_recipe
from pipeline.tracking import JsonlTracker, read_metrics
from pipeline.training.checkpoint import Checkpoints, claim, claimed_by
from pipeline.training.engines import TrainEngine
from stages.export.export import atomic_directory
from tests.faults.conftest import MakeRow
from tests.faults.crash_states import Moment, record, restore

RECIPES = Path(__file__).resolve().parents[2] / "flows" / "recipes"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture(autouse=True)
def row(fault_row: MakeRow) -> None:
    fault_row("21c", "power lost at any moment of a commit", "all writers").outcome = "resumed"


class Outcomes:
    """Results of a reader in every state that some work may leave, and at its end."""

    def __init__(self, moments: list[Moment], folder: Path, read: Callable[[Path], Any]) -> None:
        self._folder, self._read, self._count = folder, read, 0
        self._known: dict[frozenset[tuple[str, bytes | None]], Any] = {}
        self.all = list(self._found(moments))
        self.last = list(self._found(moments[-1:]))

    def _found(self, moments: list[Moment]) -> Iterator[Any]:
        for moment in moments:
            for state in moment.states():
                key = frozenset(state.items())
                if key not in self._known:
                    self._count += 1
                    left = restore(state, self._folder / f"left-{self._count}")
                    self._known[key] = self._read(left)
                yield self._known[key]


def outcomes(root: Path, work: Callable[[], object], read: Callable[[Path], Any]) -> Outcomes:
    return Outcomes(record(root, work), Path(mkdtemp(dir=root.parent)), read)


def distinct(found: list[Any]) -> list[Any]:
    kept: list[Any] = []
    for each in found:
        if each not in kept:
            kept.append(each)
    return kept


def text_of(name: str) -> Callable[[Path], str | None]:
    def read(left: Path) -> str | None:
        return (left / name).read_text() if (left / name).is_file() else None

    return read


def test_without_fsync_a_new_name_may_have_no_bytes(root: Path) -> None:
    """Check that the states include the failures that all other tests must not show."""

    def work() -> None:
        (root / "new").write_text("new")
        (root / "new").replace(root / "file")

    (root / "file").write_text("old")
    found = outcomes(root, work, text_of("file"))
    assert distinct(found.all) == ["old", "new", ""]
    assert sorted(distinct(found.last)) == ["", "new", "old"]


@pytest.mark.parametrize("before", [None, "old"])
def test_a_text_is_old_or_new(root: Path, before: str | None) -> None:
    place = root / "deep" / "er" / "file"
    if before:
        write_durably(place, before)
    found = outcomes(root, lambda: write_durably(place, "new"), text_of("deep/er/file"))
    assert distinct(found.all) == [before, "new"]
    assert distinct(found.last) == ["new"]


def make(ledger: Ledger, name: str, path: str = "rounds/00/thing") -> Artifact:
    def write(folder: Path) -> dict[str, Any]:
        (folder / "sub").mkdir()
        for file in ("one", "sub/two"):
            (folder / file).write_text(f"{file} of {name}")
        return {}

    return ledger.publish("thing", name * 40, path, write)


def existing(left: Path) -> list[str]:
    """Which of the artifacts a and b are there, each with its own bytes."""
    ledger, found = Ledger(left), []
    for name in "ab":
        artifact = ledger.find(name * 40)
        if artifact:
            assert (ledger.locate(artifact) / "sub/two").read_text() == f"sub/two of {name}"
            found.append(name)
    return found


def test_an_artifact_is_there_or_not(root: Path) -> None:
    found = outcomes(root, lambda: make(Ledger(root), "a"), existing)
    assert distinct(found.all) == [[], ["a"]]
    assert distinct(found.last) == [["a"]]


def test_an_artifact_in_the_place_of_another_is_there_or_the_other_or_none(root: Path) -> None:
    make(Ledger(root), "a")
    found = outcomes(root, lambda: make(Ledger(root), "b"), existing)
    assert distinct(found.all) == [["a"], [], ["b"]]
    assert distinct(found.last) == [["b"]]


def test_a_removed_artifact_is_complete_or_has_no_record(root: Path) -> None:
    ledger = Ledger(root)
    artifact = make(ledger, "a")

    def read(left: Path) -> list[str]:
        assert all(Ledger(left).damage(each) is None for each in Ledger(left).records())
        return existing(left)

    found = outcomes(root, lambda: ledger.forget(artifact), read)
    assert distinct(found.all) == [["a"], []]
    assert distinct(found.last) == [[]]


class Numbers(TrainEngine):
    """An engine whose whole state is a number in a file, written as DeepSpeed does: unsynced."""

    module = nn.Identity()
    rank, world_size, device = 0, 1, torch.device("cpu")
    layout = "one"
    learning_rate = 1.0

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self) -> float:
        return 0.0

    def mean(self, value: Tensor) -> Tensor:
        return value

    def save(self, folder: Path, state: dict[str, Any]) -> None:
        (folder / "parts").mkdir()
        (folder / "parts" / "rank-0").write_text(str(state["update"]))

    def load(self, folder: Path) -> dict[str, Any]:
        return {"update": int((folder / "parts" / "rank-0").read_text())}

    def full_weights(self) -> dict[str, Tensor]:
        return {}


def checkpoints(folder: Path) -> Checkpoints:
    return Checkpoints(folder / "checkpoints", "round", 1, "attempt")


def resumed_at(left: Path) -> int:
    return int(checkpoints(left).restore(Numbers()).get("update", 0))


def test_a_round_resumes_from_the_last_checkpoint_or_the_one_before(root: Path) -> None:
    claim(root / "checkpoints", "attempt")
    for update in (2, 4, 6):
        before = resumed_at(root)
        found = outcomes(
            root, lambda now=update: checkpoints(root).save(Numbers(), now), resumed_at
        )
        assert distinct(found.all) == [before, update]
        assert distinct(found.last) == [update]


def test_a_round_belongs_to_the_old_attempt_or_to_the_new_one(root: Path) -> None:
    claim(root / "checkpoints", "old")
    found = outcomes(
        root,
        lambda: claim(root / "checkpoints", "new"),
        lambda left: claimed_by(left / "checkpoints"),
    )
    assert distinct(found.all) == ["old", "new"]
    assert distinct(found.last) == ["new"]


def test_metrics_that_a_checkpoint_relies_on_are_there(root: Path) -> None:
    place = root / "rounds" / "metrics.jsonl"

    def points(left: Path) -> list[float]:
        return [line["samples_seen"] for line in read_metrics(left / "rounds/metrics.jsonl")]

    def work() -> None:
        tracker = JsonlTracker(place, 64)  # a round resumes at 64 and drops what came later
        tracker.log({"train/loss": 1.0}, 128)
        tracker.flush()

    tracker = JsonlTracker(place, 0)
    for samples in (32, 64, 96):
        tracker.log({"train/loss": 2.0}, samples)
    found = outcomes(root, work, points)
    assert distinct(found.all) == [[32, 64, 96], [32, 64], [32, 64, 128]]
    assert distinct(found.last) == [[32, 64, 128]]


def test_an_exported_pipeline_is_whole_or_not_there(root: Path) -> None:
    def work() -> None:
        with atomic_directory(root / "shared" / "pipeline") as folder:
            (folder / "unet").mkdir(parents=True)
            (folder / "unet" / "weights").write_text("weights")

    found = outcomes(root, work, text_of("shared/pipeline/unet/weights"))
    assert distinct(found.all) == [None, "weights"]
    assert distinct(found.last) == ["weights"]


def recipe(seed: int) -> Recipe:
    tree = read_yaml(RECIPES / "gaussian.yaml")
    apply_override(tree, f"run.seed={seed}")
    return build(Recipe, tree, "gaussian.yaml")


def test_a_run_has_its_old_recipe_or_its_new_one(root: Path) -> None:
    run_dir = root / "runs" / "one"

    def read(left: Path) -> int | None:
        if (left / "runs" / "one" / "recipe.yaml").is_file():
            return read_recipe(left / "runs" / "one").run.seed
        with pytest.raises(ConfigError, match=r"it has no recipe\.yaml"):
            read_recipe(left / "runs" / "one")
        return None

    for seed, before in ((0, None), (1, 0)):
        found = outcomes(
            root, lambda now=seed: prepare_run_dir(recipe(now), run_dir, accept_changes=True), read
        )
        assert distinct(found.all) == [before, seed]
        assert distinct(found.last) == [seed]
