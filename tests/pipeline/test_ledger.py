"""An artifact exists if its record exists and verifies; a crash leaves it whole or not at all."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.errors import BusyError
from pipeline.identity import identify
from pipeline.ledger import Artifact, Ledger, fingerprint, hash_file, lock_holder, lock_run_dir

KEY = fingerprint({"what": "data"})


class Crash(BaseException):
    """Stands for a process that ends in the middle of its work."""


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
        publish(ledger, key=fingerprint("other"), write=fail)
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
    (tmp_path / "ledger" / f"{KEY[:32]}.json").unlink()
    assert ledger.find(KEY) is None
    assert publish(ledger) == artifact


def test_a_record_without_its_files_is_no_artifact(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    artifact = publish(ledger)
    (tmp_path / "data" / "sub" / "b.txt").unlink()
    assert ledger.find(KEY) is None
    assert ledger.damage(artifact) == f"{tmp_path}/data/sub/b.txt is missing"
    assert ledger.records() == [artifact]


def test_a_file_of_another_size_is_damage(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    artifact = publish(ledger)
    (tmp_path / "data" / "a.txt").write_text("longer")
    assert ledger.find(KEY) is None
    damage = ledger.damage(artifact) or ""
    assert f"{tmp_path}/data/a.txt has 6 bytes" in damage


def test_a_file_of_equal_size_and_other_content_is_damage(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    artifact = publish(ledger)
    (tmp_path / "data" / "a.txt").write_text("0ne")
    assert ledger.find(KEY) is None
    damage = ledger.damage(artifact) or ""
    assert f"{tmp_path}/data/a.txt" in damage
    assert "sha256" in damage


@pytest.mark.parametrize("text", ["", "{", '{"kind": "data"}', "\x00"])
def test_a_damaged_record_is_no_record(tmp_path: Path, text: str) -> None:
    publish(Ledger(tmp_path))
    (tmp_path / "ledger" / f"{KEY[:32]}.json").write_text(text)
    assert Ledger(tmp_path).find(KEY) is None


def test_publishing_again_replaces(tmp_path: Path) -> None:
    def write(folder: Path) -> dict[str, Any]:
        (folder / "new.txt").write_text("new")
        return {"count": 1}

    ledger = Ledger(tmp_path)
    publish(ledger)
    artifact = publish(ledger, write=write)
    assert ledger.find(KEY) == artifact
    assert everything(tmp_path / "data") == ["new.txt"]


def test_another_key_at_the_same_place_ends_the_older_record(tmp_path: Path) -> None:
    def write(folder: Path) -> dict[str, Any]:
        (folder / "new.txt").write_text("new")
        return {}

    ledger, other = Ledger(tmp_path), fingerprint("other")
    publish(ledger)
    newer = publish(ledger, key=other, write=write)
    assert ledger.find(KEY) is None
    assert ledger.find(other) == newer


def test_records_come_oldest_first(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for position, name in enumerate(["c", "a", "b"]):
        artifact = publish(ledger, key=fingerprint(name), path=name)
        record = tmp_path / "ledger" / f"{artifact.fingerprint[:32]}.json"
        os.utime(record, (position, position))
    assert [artifact.path for artifact in ledger.records()] == ["c", "a", "b"]


def test_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.forget(publish(ledger))
    assert ledger.find(KEY) is None
    assert everything(tmp_path) == ["ledger"]


def test_equal_digests_are_equal_bytes_whatever_the_place_and_key(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    first = publish(ledger)
    second = publish(ledger, key=fingerprint("other"), path="elsewhere")
    assert first.digest == second.digest
    (tmp_path / "x").mkdir()

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
        started = datetime.fromtimestamp(psutil.Process(other.pid).create_time(), UTC)
        assert str(caught.value) == (
            f"{tmp_path} is in use by process {other.pid} on {os.uname().nodename}, which started "
            f"at {started:%Y-%m-%d %H:%M:%S} UTC; wait for it, or stop it first"
        )
        other.kill()  # as kill -9 does: nothing is tidied up
    with lock_run_dir(tmp_path):
        assert lock_holder(tmp_path) == identify()
    assert lock_holder(tmp_path) is None


def test_a_failure_lets_go_of_the_run_directory(tmp_path: Path) -> None:
    with pytest.raises(Crash), lock_run_dir(tmp_path):
        raise Crash
    with lock_run_dir(tmp_path):
        pass


def test_a_record_that_cannot_be_read_commits_nothing_and_breaks_nothing(tmp_path):
    ledger = Ledger(tmp_path)

    def write(path):
        path.write_text("content")
        return {}

    for key in ("a" * 40, "b" * 40):
        ledger.publish("thing", key, f"{key[0]}.txt", write)
    (tmp_path / "ledger" / ("a" * 32 + ".json")).write_text('{"kind": "thi')
    assert [artifact.fingerprint for artifact in ledger.records()] == ["b" * 40]
    assert ledger.find("a" * 40) is None
