"""An artifact exists if its record exists and verifies; crashes leave it complete or absent."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BusyError
from pipeline.identity import identify
from pipeline.ledger import (
    Artifact,
    FileRecord,
    Ledger,
    fingerprint,
    hash_file,
    lock_holder,
    lock_run_dir,
)

KEY = fingerprint({"what": "data"})
OTHER = fingerprint("other")


class Crash(BaseException):
    """Simulates the death of the process."""


def write_two(folder: Path) -> dict[str, Any]:
    (folder / "a.txt").write_text("one")
    (folder / "sub").mkdir()
    (folder / "sub" / "b.txt").write_text("two")
    return {"count": 2}


def publish(ledger: Ledger, key: str = KEY, path: str = "data", write=write_two) -> Artifact:
    return ledger.publish("data", key, path, write, parents=("p",))


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_what_was_published_is_found(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    artifact = publish(ledger)
    assert ledger.find(KEY) == artifact
    assert (artifact.kind, artifact.path, artifact.parents) == ("data", "data", ("p",))
    assert artifact.details == {"count": 2}
    assert set(artifact.files) == {"a.txt", "sub/b.txt"}
    assert artifact.files["a.txt"] == hash_file(tmp_path / "data" / "a.txt")
    assert ledger.locate(artifact) == tmp_path / "data"
    assert everything(tmp_path) == [
        "data",
        "data/a.txt",
        "data/sub",
        "data/sub/b.txt",
        "ledger",
        f"ledger/{KEY[:32]}.json",
    ]


def test_a_single_file_is_an_artifact_too(tmp_path: Path) -> None:
    def write(path: Path) -> dict[str, Any]:
        path.write_text("targets")
        return {}

    artifact = publish(Ledger(tmp_path), path="rounds/targets/x.tar", write=write)
    assert list(artifact.files) == ["."]
    assert (tmp_path / "rounds/targets/x.tar").read_text() == "targets"
    assert Ledger(tmp_path).find(KEY) == artifact


def test_nothing_is_found_before_it_is_published(tmp_path: Path) -> None:
    assert Ledger(tmp_path).find(KEY) is None
    assert Ledger(tmp_path).records() == []


@pytest.mark.parametrize("error", [RuntimeError, Crash, KeyboardInterrupt])
def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def fail(folder: Path) -> dict[str, Any]:
        write_two(folder)
        raise error

    with pytest.raises(error):
        publish(Ledger(tmp_path), write=fail)
    assert everything(tmp_path) == []
    assert Ledger(tmp_path).find(KEY) is None


def test_a_failure_while_writing_leaves_the_artifact_before_it(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, Any]:
        raise Crash

    ledger = Ledger(tmp_path)
    before = publish(ledger)
    with pytest.raises(Crash):
        publish(ledger, key=OTHER, write=fail)
    assert ledger.find(KEY) == before


def test_a_kill_leaves_debris_that_the_next_attempt_clears(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        "from pipeline.ledger import Ledger\n"
        "def write(folder):\n"
        "    (folder / 'half').write_text('x')\n"
        "    os._exit(9)\n"
        f"Ledger(pathlib.Path(sys.argv[1])).publish('data', '{KEY}', 'data', write)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert killed.returncode == 9
    assert len(everything(tmp_path)) == 2
    assert Ledger(tmp_path).find(KEY) is None
    publish(Ledger(tmp_path))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_crash_between_files_and_record_leaves_no_artifact(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    artifact = publish(ledger)
    ledger.record_path(KEY).unlink()
    assert ledger.find(KEY) is None
    assert publish(ledger) == artifact


@pytest.mark.parametrize(
    ("name", "content", "damage"),
    [
        ("sub/b.txt", None, "is missing"),
        ("a.txt", "longer", "has 6 bytes"),
        ("a.txt", "0ne", "sha256"),
    ],
)
def test_files_that_are_not_as_recorded_are_damage(
    tmp_path: Path, name: str, content: str | None, damage: str
) -> None:
    ledger = Ledger(tmp_path)
    artifact = publish(ledger)
    path = tmp_path / "data" / name
    path.unlink() if content is None else path.write_text(content)
    assert ledger.find(KEY) is None
    found = ledger.damage(artifact) or ""
    assert found.startswith(str(path))
    assert damage in found
    assert ledger.records() == [artifact]


@pytest.mark.parametrize("text", ["", "{", '{"kind": "data"}', "\x00"])
def test_a_damaged_record_is_no_record_and_hides_no_other(tmp_path: Path, text: str) -> None:
    ledger = Ledger(tmp_path)
    publish(ledger)
    sound = publish(ledger, key=OTHER, path="other")
    ledger.record_path(KEY).write_text(text)
    assert ledger.find(KEY) is None
    assert ledger.records() == [sound]


@pytest.mark.parametrize(
    ("old", "new"), [('"count": 2', '"count": 3'), ('"data"', '"date"'), (KEY[:9], "f" * 9)]
)
def test_a_record_that_was_changed_is_no_record(tmp_path: Path, old: str, new: str) -> None:
    ledger = Ledger(tmp_path)
    artifact = publish(ledger)
    record = ledger.record_path(KEY)
    sound = record.read_text()
    assert old in sound
    record.write_text(sound.replace(old, new, 1))
    assert ledger.find(KEY) is None
    assert ledger.records() == []
    record.write_text(sound)
    assert ledger.find(KEY) == artifact
    record.write_text(json.dumps(json.loads(sound) | {"seal": ""}))
    assert ledger.find(KEY) is None


def test_the_record_of_another_artifact_under_this_name_is_none(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    publish(ledger)
    other = publish(ledger, key=OTHER, path="other")
    shutil.copy(ledger.record_path(OTHER), ledger.record_path(KEY))
    assert ledger.find(KEY) is None
    assert ledger.records() == [other]


@pytest.mark.parametrize("path", ["/etc", "../other", "a/../b", "a//b", "", "."])
def test_an_artifact_lies_inside_its_run(path: str) -> None:
    file = FileRecord(size=1, sha256="0" * 64)
    for place in ({"path": path, "files": {}}, {"path": "x", "files": {f"{path}/..": file}}):
        with pytest.raises(ValueError, match="is not a plain path"):
            Artifact(kind="data", fingerprint=KEY, **place)


def test_publishing_again_replaces_and_another_key_ends_the_older_record(tmp_path: Path) -> None:
    def write(folder: Path) -> dict[str, Any]:
        (folder / "new.txt").write_text("new")
        return {"count": 1}

    ledger = Ledger(tmp_path)
    publish(ledger)
    artifact = publish(ledger, write=write)
    assert ledger.find(KEY) == artifact
    assert everything(tmp_path / "data") == ["new.txt"]
    newer = publish(ledger, key=OTHER)
    assert ledger.find(KEY) is None
    assert ledger.find(OTHER) == newer


def test_records_come_oldest_first(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for position, name in enumerate(["c", "a", "b"]):
        artifact = publish(ledger, key=fingerprint(name), path=name)
        record = ledger.record_path(artifact.fingerprint)
        os.utime(record, (position, position))
    assert [artifact.path for artifact in ledger.records()] == ["c", "a", "b"]


def test_a_removed_artifact_is_gone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.forget(publish(ledger))
    assert ledger.find(KEY) is None
    assert everything(tmp_path) == ["ledger"]


def test_equal_digests_are_equal_bytes_whatever_the_place_and_key(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    first = publish(ledger)
    second = publish(ledger, key=OTHER, path="elsewhere")
    assert first.digest == second.digest

    def renamed(folder: Path) -> dict[str, Any]:
        (folder / "b.txt").write_text("one")
        (folder / "sub").mkdir()
        (folder / "sub" / "b.txt").write_text("two")
        return {}

    assert publish(ledger, path="renamed", write=renamed).digest != first.digest


def test_a_fingerprint_is_of_the_content_and_not_of_its_order() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1, "b": [1, 2]}) != fingerprint({"a": 1, "b": [2, 1]})
    assert fingerprint({"a": 1}) != fingerprint({"a": "1"})
    known = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert fingerprint({}) == known  # sha256 of "{}"


def test_a_run_directory_has_one_holder(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys\n"
        "from pipeline.ledger import lock_run_dir\n"
        "with lock_run_dir(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(BusyError) as caught, lock_run_dir(tmp_path):
            pytest.fail("two processes hold one run directory")
        for known in (str(tmp_path), f"process {other.pid} on {os.uname().nodename}"):
            assert known in str(caught.value)
        other.kill()  # as kill -9 does: nothing is tidied up
    with lock_run_dir(tmp_path):
        assert lock_holder(tmp_path) == identify()
    assert lock_holder(tmp_path) is None


def test_a_failure_lets_go_of_the_run_directory(tmp_path: Path) -> None:
    with pytest.raises(Crash), lock_run_dir(tmp_path):
        raise Crash
    with lock_run_dir(tmp_path):
        pass
