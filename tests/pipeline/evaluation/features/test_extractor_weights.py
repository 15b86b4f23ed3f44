"""Weights of extractors: named by their content, fetched by one command, and never unpickled."""

import json
import re
from pathlib import Path

import pytest
import torch

from pipeline.config import ExtractorConfig, ExtractorKind
from pipeline.errors import ConfigError
from pipeline.evaluation.features.extractor_weights import INCEPTION_SHA256, Weights, find_weights
from pipeline.evaluation.features.extractors import open_extractor
from pipeline.ledger import hash_file
from tests.support.extractor_weights import write_clip, write_dino


@pytest.mark.parametrize(
    ("kind", "missing", "command"),
    [
        ("inception", "is no file", "curl -L --create-dirs -o {path} https://github.com/toshas/"),
        (
            "dinov2",
            "no config.json and no model.s",
            "hf download facebook/dinov2-large config.json",
        ),
        ("clip", "and no tokenizer.json", "hf download openai/clip-vit-large-patch14 config.json"),
    ],
)
def test_what_is_missing_is_said_with_the_command_that_fetches_it(
    kind: ExtractorKind, missing: str, command: str, tmp_path: Path
) -> None:
    path = tmp_path / "some where"
    config = ExtractorConfig(kind=kind, path=str(path))
    with pytest.raises(ConfigError) as caught:
        find_weights(config)
    said = str(caught.value)
    assert said.startswith(f"evaluation.extractors: {kind}: ")
    assert missing in said
    assert command.format(path=f"'{path}'") in said
    assert f"'{path}'" in said  # a shell takes it as one word


def test_a_pickle_that_is_not_the_published_file_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": torch.zeros(3)}, path)
    sha256 = hash_file(path).sha256
    with pytest.raises(ConfigError, match=f"sha256 {sha256[:12]}.* published .*6726825d0af5"):
        find_weights(ExtractorConfig(kind="inception", path=str(path)))


def test_only_the_published_weights_are_fid(tmp_path: Path) -> None:
    published = Weights("inception", tmp_path / "w.pth", INCEPTION_SHA256, "i" * 64)
    assert (published.name, published.distance) == ("Inception-v3", "FID")
    other = Weights("inception", tmp_path / "w.safetensors", "a" * 64, "i" * 64)
    assert "not FID" in other.name
    assert other.distance == "to real, by inception"


def test_a_published_file_is_read_as_tensors_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": torch.zeros(3)}, path)
    weights = Weights("inception", path, INCEPTION_SHA256, "i" * 64)
    with pytest.raises(ConfigError, match="holds no weights of this Inception-v3"):
        open_extractor(weights)
    torch.save({"fc.weight": Path("/")}, path)  # anything but tensors is not built
    with pytest.raises(Exception, match=re.compile("weights_only|Unsupported", re.IGNORECASE)):
        open_extractor(weights)


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_dino(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds a model of type 'dinov2'; give a clip"):
        find_weights(ExtractorConfig(kind="clip", path=str(tmp_path)))


def test_a_pickled_model_is_no_model(tmp_path: Path) -> None:
    config = write_dino(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"has no model\.safetensors; fetch it with"):
        find_weights(config)


def test_an_extractor_is_known_by_all_that_it_reads(tmp_path: Path) -> None:
    config = write_clip(tmp_path / "clip")
    first = find_weights(config)
    assert first.sha256 == hash_file(tmp_path / "clip" / "model.safetensors").sha256
    (tmp_path / "clip").rename(tmp_path / "moved")
    moved = config.model_copy(update={"path": str(tmp_path / "moved")})
    assert find_weights(moved).identity == first.identity
    tokenizer = tmp_path / "moved" / "tokenizer.json"
    tree = json.loads(tokenizer.read_text())
    tree["model"]["vocab"]["paper"], tree["model"]["vocab"]["red"] = 4, 9
    tokenizer.write_text(json.dumps(tree))
    other = find_weights(moved)
    assert other.sha256 == first.sha256
    assert other.identity != first.identity
