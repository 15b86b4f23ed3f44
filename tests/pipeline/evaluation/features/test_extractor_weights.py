"""Weights of extractors: identity by content, download command, and no unpickling."""

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
        ("inception", (), "curl -L --create-dirs -o {path} https://github.com/toshas/"),
        (
            "dinov2",
            ("config.json", "model.safetensors"),
            "hf download facebook/dinov2-large config.json",
        ),
        ("clip", ("tokenizer.json",), "hf download openai/clip-vit-large-patch14 config.json"),
    ],
)
def test_missing_files_are_named_with_the_download_command(
    kind: ExtractorKind, missing: tuple[str, ...], command: str, tmp_path: Path
) -> None:
    path = tmp_path / "some where"
    config = ExtractorConfig(kind=kind, path=str(path))
    with pytest.raises(ConfigError) as caught:
        find_weights(config)
    message = str(caught.value)
    assert message.startswith(f"evaluation.extractors: {kind}: ")
    assert all(name in message.partition("hf download")[0] for name in missing)
    assert command.format(path=f"'{path}'") in message
    assert f"'{path}'" in message  # quoted for a shell


def test_a_pickle_of_unknown_sha256_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": torch.zeros(3)}, path)
    sha256 = hash_file(path).sha256
    with pytest.raises(ConfigError, match=f"{sha256[:12]}.*6726825d0af5.*curl"):
        find_weights(ExtractorConfig(kind="inception", path=str(path)))


def test_only_the_published_weights_are_fid(tmp_path: Path) -> None:
    published = Weights("inception", tmp_path / "w.pth", INCEPTION_SHA256, "i" * 64)
    assert (published.name, published.distance) == ("Inception-v3", "FID")
    other = Weights("inception", tmp_path / "w.safetensors", "a" * 64, "i" * 64)
    assert "not FID" in other.name
    assert other.distance == "to real, by inception"


def test_the_published_file_is_loaded_as_tensors_only(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": torch.zeros(3)}, path)
    weights = Weights("inception", path, INCEPTION_SHA256, "i" * 64)
    with pytest.raises(ConfigError, match="Inception-v3"):
        open_extractor(weights)
    torch.save({"fc.weight": Path("/")}, path)  # an object that is not a tensor
    with pytest.raises(Exception, match=re.compile("weights_only|Unsupported", re.IGNORECASE)):
        open_extractor(weights)


def test_a_model_of_another_kind_is_rejected(tmp_path: Path) -> None:
    write_dino(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"extractors: clip.*'dinov2'"):
        find_weights(ExtractorConfig(kind="clip", path=str(tmp_path)))


def test_a_pickled_model_is_rejected(tmp_path: Path) -> None:
    config = write_dino(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"model\.safetensors; fetch it with"):
        find_weights(config)


def test_the_identity_covers_all_files_of_an_extractor(tmp_path: Path) -> None:
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
