"""Lists of prompts as data: every kind of file, and errors by name."""

import json
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from pipeline.config import PromptsData
from pipeline.data.shards.dataset_info import read_info
from pipeline.data.shards.reader import SampleShards
from pipeline.data.shards.writer import write_dataset
from pipeline.data.sources.captions import Caption
from pipeline.data.sources.prompts import identify_prompts, list_prompts, open_prompts
from pipeline.errors import DataError

SAID = ["a red seven", "größe, “quoted”", "🐕 / .. / dog", "a red seven", "the end", "אבג"]


def config_of(path: Path) -> PromptsData:
    return PromptsData(source="prompts", path=str(path), size=8, holdout=0.1, shard_size=4)


def write(path: Path, prompts: list[str]) -> Path:
    match path.suffix:
        case ".txt":
            path.write_text("\n\n".join(prompts) + "\n  \n", encoding="utf-8-sig")
        case ".jsonl":
            lines = [json.dumps({"text": prompt, "other": 1}) for prompt in prompts]
            path.write_text("\n".join(lines), encoding="utf-8")
        case ".csv":
            quoted = ['"' + prompt.replace('"', '""') + '"' for prompt in prompts]
            path.write_text("text\n" + "\n".join(quoted), encoding="utf-8")
        case _:
            parquet.write_table(pyarrow.table({"text": prompts}), path)
    return path


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl", "p.csv", "p.parquet"])
def test_every_kind_of_file_gives_its_sentences_in_order(name: str, tmp_path: Path) -> None:
    config = config_of(write(tmp_path / name, SAID))
    assert list_prompts(config)[0] == SAID
    as_text = config_of(write(tmp_path / "same.txt", SAID))
    assert identify_prompts(config) == identify_prompts(as_text)


def test_other_sentences_are_other_data(tmp_path: Path) -> None:
    one = config_of(write(tmp_path / "one.txt", SAID))
    other = config_of(write(tmp_path / "other.txt", [*SAID[:-1], "gone"]))
    assert identify_prompts(one) != identify_prompts(other)


def test_shards_hold_captions_and_nothing_else(tmp_path: Path) -> None:
    config = config_of(write(tmp_path / "p.txt", SAID))
    source = open_prompts(config, seed=3)
    folder = tmp_path / "data"
    folder.mkdir()
    write_dataset(folder, source, config)
    info = read_info(folder)
    assert (info.encoding, info.captioned, info.num_classes) == (None, True, 0)
    assert info.extensions == ("json",)
    found = []
    for split in ("train", "heldout"):
        samples = SampleShards(folder, split)
        found += samples.captions(np.arange(len(samples)))
    assert sorted(caption.text for caption in found) == sorted(SAID)
    assert found[0] == Caption(text=found[0].text, original_size=(8, 8), crop=(0, 0))
    with pytest.raises(DataError, match="captions without images"):
        samples.read(np.arange(1))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("p.json", b"{}", r"'p.json' .*.txt, .csv, .jsonl, .parquet"),
        ("p.txt", b"fine\n\xff\n", r"cannot be read .*UTF-8"),
        ("p.txt", b"one\ntwo\n", r"holds 2 sample\(s\)"),
        ("p.jsonl", b'{"text": " "}', r"row 1: the caption is empty"),
        ("p.jsonl", b'{"prompt": "a"}', r"row 1: column text is missing"),
        ("p.csv", b"a,text\n1,2,3\n", r"row 1: the number of fields"),
        ("p.parquet", b"no table", r"cannot be read"),
    ],
)
def test_what_is_wrong_is_named(name: str, content: bytes, complaint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        open_prompts(config_of(tmp_path / name), seed=0)


def test_a_sentence_that_cannot_be_used_is_set_aside_within_the_budget(tmp_path: Path) -> None:
    config = config_of(write(tmp_path / "p.jsonl", [*SAID, " "]))
    generous = config.model_copy(update={"max_bad": 0.2})
    prompts, quarantine = list_prompts(generous)
    assert prompts == SAID
    assert [quarantine.place(error) for error in quarantine.found] == ["p.jsonl, row 7"]
    with pytest.raises(DataError, match=r"row 7: the caption is empty.*\n1 of 7 samples"):
        list_prompts(config)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.path: .*gone\.txt is missing"):
        open_prompts(config_of(tmp_path / "gone.txt"), seed=0)


def test_repeated_prompts_are_counted_and_on_one_side_of_the_split(tmp_path: Path) -> None:
    prompts = [f"prompt {number // 2 if number < 10 else number}" for number in range(60)]
    config = config_of(write(tmp_path / "p.txt", prompts))
    source = open_prompts(config, 0)
    (note,) = source.findings.sentences
    assert note.startswith("5 of 60 prompts have the same content as an earlier one")
    assert "(first: 'prompt 0')" in note
    train, heldout = ({prompts[row] for row in source.splits[side]} for side in source.splits)
    assert not train & heldout
    assert identify_prompts(config)["copies"] == 5
