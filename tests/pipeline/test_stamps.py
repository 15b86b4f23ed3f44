"""Stamps save reading unchanged files again, and never hide a change."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import stamps
from pipeline.ledger import Artifact, Ledger, fingerprint, lock_run_dir
from pipeline.run_files import STAMP_SUFFIX
from pipeline.stamps import Stamp, read_stamp, status_of, write_stamp
from pipeline.verification.examine import examine

COUNT, SIZE = 10, 100_000
KEYS = [fingerprint(number) for number in range(COUNT)]
KEY = KEYS[0]


@pytest.fixture(autouse=True)
def short_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamps, "MARGIN_NS", 20_000_000)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Ledger(tmp_path_factory.mktemp("published"))
    for number, key in enumerate(KEYS):
        made.publish("data", key, f"data/{number}", writer(number))
    return made.run_dir


@pytest.fixture
def ledger(published: Path, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger whose artifacts are older than the margin, held by this process."""
    made = Ledger(Path(shutil.copytree(published, tmp_path / "run")))
    wait()
    with lock_run_dir(made.run_dir):
        yield made


def writer(number: int) -> Callable[[Path], dict[str, Any]]:
    def write(folder: Path) -> dict[str, Any]:
        (folder / "x").write_bytes(bytes([number]) * SIZE)
        return {}

    return write


def wait() -> None:
    time.sleep(1.5 * stamps.MARGIN_NS / 1e9)


def bytes_read(action: Callable[[], object]) -> int:
    """Bytes that this process reads from files during an action."""

    def count() -> int:
        words = Path("/proc/self/io").read_text(encoding="ascii").split()
        return int(words[words.index("rchar:") + 1])

    before = count()
    action()
    return count() - before


def file_of(ledger: Ledger) -> Path:
    return ledger.run_dir / "data" / "0" / "x"


def stamp_of(ledger: Ledger, key: str = KEY) -> Path:
    return ledger.record_path(key).with_suffix(STAMP_SUFFIX)


def found(ledger: Ledger) -> set[str]:
    return set(ledger.find_all(KEYS))


def test_unchanged_files_are_read_once(ledger: Ledger) -> None:
    assert bytes_read(lambda: found(ledger)) > COUNT * SIZE
    again = Ledger(ledger.run_dir)
    assert bytes_read(lambda: found(again)) < COUNT * SIZE / 10
    assert found(again) == set(KEYS)
    [artifact] = [each for each in ledger.records() if each.fingerprint == KEY]
    assert bytes_read(lambda: ledger.damage(artifact)) < SIZE / 10
    assert again.find(KEY) == artifact


def test_a_moved_run_is_not_read_again_and_a_copied_one_is(ledger: Ledger, tmp_path: Path) -> None:
    found(ledger)
    copied = Ledger(Path(shutil.copytree(ledger.run_dir, tmp_path / "copied")))
    moved = Ledger(ledger.run_dir.rename(tmp_path / "moved"))
    assert bytes_read(lambda: found(moved)) < COUNT * SIZE / 10
    assert bytes_read(lambda: found(copied)) > COUNT * SIZE
    assert found(moved) == found(copied) == set(KEYS)
    ledger.run_dir.mkdir()  # for the lock of the fixture


def rewrite(path: Path) -> None:
    path.write_bytes(b"y" * SIZE)


def rewrite_and_restore_the_time(path: Path) -> None:
    before = path.stat()
    rewrite(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_and_restore_the_time(path: Path) -> None:
    other = path.with_name("other")
    rewrite(other)
    shutil.copystat(path, other)
    other.replace(path)


@pytest.mark.parametrize(
    "change",
    [rewrite, rewrite_and_restore_the_time, replace_and_restore_the_time, Path.unlink],
)
def test_a_changed_file_is_found_in_spite_of_its_stamp(
    ledger: Ledger, change: Callable[[Path], object]
) -> None:
    found(ledger)
    assert stamp_of(ledger).exists()
    change(file_of(ledger))
    assert found(ledger) == set(KEYS[1:])
    wait()
    assert found(ledger) == set(KEYS[1:])


def test_a_file_changed_in_the_instant_of_its_stamp_is_read(ledger: Ledger) -> None:
    artifact = ledger.find(KEY)
    assert artifact
    rewrite(file_of(ledger))
    status = status_of(file_of(ledger))
    # the stamp that a reader leaves if a second change keeps the status: within one clock tick
    racy = Stamp(
        seal=artifact.seal,
        taken_ns=max(status.mtime_ns, status.ctime_ns) + stamps.MARGIN_NS - 1,
        files={"x": status},
    )
    write_stamp(stamp_of(ledger), racy)
    assert read_stamp(stamp_of(ledger)) != racy
    stamp_of(ledger).write_text(racy.model_dump_json())
    assert ledger.find(KEY) is None
    settled = racy.model_copy(update={"taken_ns": racy.taken_ns + 1})
    write_stamp(stamp_of(ledger), settled)
    assert ledger.find(KEY) == artifact  # what a stamp is for


def test_verify_reads_every_byte_whatever_the_stamps_say(ledger: Ledger) -> None:
    artifact = ledger.find(KEY)
    assert artifact
    rewrite(file_of(ledger))
    files = {"x": status_of(file_of(ledger))}
    write_stamp(stamp_of(ledger), Stamp(seal=artifact.seal, taken_ns=2**62, files=files))
    assert ledger.find(KEY) == artifact
    problems = {each.path: wrong for each, wrong in ledger.read_all(ledger.records()) if wrong}
    assert problems == {"data/0": [f"{file_of(ledger)}: sha256 differs from its record"]}
    places = {
        each.place for each in examine(ledger.run_dir).damaged if "sha256" in each.problems[0]
    }
    assert places == {"data/0"}


def truncated(text: str) -> str:
    return text[: len(text) // 2]


@pytest.mark.parametrize(
    "tear", [truncated, lambda _: "", lambda text: "\0" * len(text), lambda _: "{}", None]
)
def test_a_torn_or_lost_stamp_costs_one_reading(
    ledger: Ledger, tear: Callable[[str], str] | None
) -> None:
    found(ledger)
    whole = stamp_of(ledger).read_text()
    if tear:
        stamp_of(ledger).write_text(tear(whole))
    else:
        stamp_of(ledger).unlink()
    assert SIZE < bytes_read(lambda: found(ledger)) < 3 * SIZE
    assert bytes_read(lambda: found(ledger)) < COUNT * SIZE / 10
    assert read_stamp(stamp_of(ledger)) is not None


def test_a_stamp_of_another_record_counts_for_nothing(ledger: Ledger) -> None:
    found(ledger)
    ledger.publish("data", KEY, "data/0", writer(1))
    shutil.copy(stamp_of(ledger, KEYS[1]), stamp_of(ledger))
    assert bytes_read(lambda: ledger.find(KEY)) > SIZE


def test_files_younger_than_the_margin_are_not_stamped(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "MARGIN_NS", 3_600_000_000_000)
    assert found(ledger) == set(KEYS)
    assert list(ledger.run_dir.glob(f"**/*{STAMP_SUFFIX}")) == []


def test_only_the_holder_of_a_run_stamps_it(ledger: Ledger, tmp_path: Path) -> None:
    other = Ledger(Path(shutil.copytree(ledger.run_dir, tmp_path / "other")))
    (other.run_dir / ".lock-holder.json").unlink()
    wait()
    before = sorted(other.run_dir.rglob("*"))
    assert found(other) == set(KEYS)
    assert sorted(other.run_dir.rglob("*")) == before


def test_stamps_are_neither_damage_nor_foreign_and_go_with_their_artifact(ledger: Ledger) -> None:
    found(ledger)
    assert len(list(ledger.run_dir.glob(f"**/*{STAMP_SUFFIX}"))) == COUNT
    assert examine(ledger.run_dir).notes == ()
    artifact: Artifact | None = ledger.find(KEY)
    assert artifact
    ledger.forget(artifact)
    assert not stamp_of(ledger).exists()
