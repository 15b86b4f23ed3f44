"""Commit records are what they were when they were written, and lead nowhere else."""

import json
import shutil

import pytest

from pipeline.ledger import Artifact, FileRecord, Ledger

KEY = "0123456789abcdef" * 4
FILE = FileRecord(size=1, sha256="0" * 64)


def test_a_record_that_was_changed_is_no_record(tmp_path):
    ledger = Ledger(tmp_path)
    made = ledger.publish("data", KEY, "data", lambda folder: {"train": 30})
    record = tmp_path / "ledger" / f"{KEY[:32]}.json"
    sound = record.read_text()
    for old, new in (('"train": 30', '"train": 31'), ('"data"', '"date"'), (KEY[:9], "f" * 9)):
        record.write_text(sound.replace(old, new, 1))
        assert ledger.find(KEY) is None
        assert ledger.records() == []
    record.write_text(sound)
    assert ledger.find(KEY) == made


def test_the_record_of_another_artifact_under_this_name_is_none(tmp_path):
    ledger = Ledger(tmp_path)
    other = "f" * 64
    for key in (KEY, other):
        ledger.publish("data", key, key[:4], lambda folder: {})
    records = tmp_path / "ledger"
    shutil.copy(records / f"{other[:32]}.json", records / f"{KEY[:32]}.json")
    assert ledger.find(KEY) is None
    assert [artifact.fingerprint for artifact in ledger.records()] == [other]


def test_a_record_without_a_seal_is_none(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.publish("data", KEY, "data", lambda folder: {})
    record = tmp_path / "ledger" / f"{KEY[:32]}.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"seal": ""}))
    assert ledger.find(KEY) is None
    assert ledger.records() == []


@pytest.mark.parametrize("path", ["/etc", "../other", "a/../b", "a//b", "", "."])
def test_an_artifact_lies_inside_its_run(path):
    with pytest.raises(ValueError, match=r"path .* is not a plain path"):
        Artifact(kind="data", fingerprint=KEY, path=path, files={})
    with pytest.raises(ValueError, match=r"path .* is not a plain path"):
        Artifact(kind="data", fingerprint=KEY, path="x", files={f"{path}/..": FILE})
