"""Extractors: identity by content, no unpickling, preprocessing, numbers of other implementations.

Weights are tiny and random; Inception-v3's numbers are torch-fidelity 0.4.0's for the same weights.
"""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPModel

from pipeline.config import ExtractorConfig, ExtractorKind
from pipeline.errors import ConfigError
from pipeline.evaluation.extractor_metrics import clip_scores
from pipeline.evaluation.features.extractor_weights import INCEPTION_SHA256, Weights, find_weights
from pipeline.evaluation.features.extractors import open_extractor, to_uint8_pixels
from pipeline.evaluation.features.inception import InceptionV3, resize_like_tensorflow1
from pipeline.ledger import hash_file
from tests.support.extractor_weights import formula_inception, write_clip, write_dino


@pytest.fixture(scope="module")
def network() -> InceptionV3:
    return formula_inception()


def images(count: int, side: int, channels: int) -> np.ndarray:
    drawn = np.random.default_rng(0).uniform(-1.2, 1.2, (count, side, side, channels))
    return drawn.astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "missing", "command"),
    [
        ("inception", (), "curl -L --create-dirs -o {path} https://github.com/toshas/"),
        ("dinov2", ("config.json", "model.safetensors"), "hf download facebook/dinov2-large "),
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


def test_only_the_published_weights_are_fid(tmp_path: Path) -> None:
    published = Weights("inception", tmp_path / "w.pth", INCEPTION_SHA256, "i" * 64)
    assert (published.name, published.distance) == ("Inception-v3", "FID")
    other = Weights("inception", tmp_path / "w.safetensors", "a" * 64, "i" * 64)
    assert "not FID" in other.name
    assert other.distance == "to real, by inception"


def test_a_pickle_is_loaded_as_tensors_only_and_if_it_is_the_published_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": torch.zeros(3)}, path)
    with pytest.raises(ConfigError, match=f"{hash_file(path).sha256[:12]}.*6726825d0af5.*curl"):
        find_weights(ExtractorConfig(kind="inception", path=str(path)))
    weights = Weights("inception", path, INCEPTION_SHA256, "i" * 64)
    with pytest.raises(ConfigError, match="Inception-v3"):
        open_extractor(weights)
    torch.save({"fc.weight": Path("/")}, path)  # an object that is not a tensor
    with pytest.raises(Exception, match=re.compile("weights_only|Unsupported", re.IGNORECASE)):
        open_extractor(weights)


def test_a_model_of_another_kind_and_a_pickled_model_are_rejected(tmp_path: Path) -> None:
    config = write_dino(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"extractors: clip.*'dinov2'"):
        find_weights(ExtractorConfig(kind="clip", path=str(tmp_path)))
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


def test_pixels_have_eight_bits_and_three_channels() -> None:
    x = np.array([-1.0, -0.5, 0.0, 1.0, 1.3], np.float32).reshape(5, 1, 1, 1)
    assert to_uint8_pixels(x)[:, :, 0, 0].tolist() == [[v] * 3 for v in (0, 64, 128, 255, 255)]
    assert to_uint8_pixels(images(2, 4, 3)).shape == (2, 3, 4, 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_dino_returns_its_pooled_output(channels: int, tmp_path: Path) -> None:
    extractor = open_extractor(find_weights(write_dino(tmp_path)))
    found = extractor.read(images(3, 8, channels))
    assert found.shape == (3, 16)
    assert found.dtype == np.float32
    assert np.ptp(found, axis=0).max() > 0
    with pytest.raises(ConfigError, match="clip"):
        extractor.read_prompts(["a red seven"])


def test_the_preprocessor_configuration_is_applied(tmp_path: Path) -> None:
    usual = open_extractor(find_weights(write_dino(tmp_path))).read(images(2, 8, 3))
    says = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1], "crop_size": {"height": 28}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(says))
    config = write_dino(tmp_path)
    other = open_extractor(find_weights(config)).read(images(2, 8, 3))
    assert np.abs(usual - other).max() > 1e-3


def test_clip_reads_images_and_prompts_into_one_space(tmp_path: Path) -> None:
    extractor = open_extractor(find_weights(write_clip(tmp_path)))
    prompts = ["a red seven", "a blue one on paper ink ink ink ink ink", "unknown"]
    text, seen = extractor.read_prompts(prompts), extractor.read(images(3, 8, 3))
    assert text.shape == seen.shape == (3, 12)
    model = CLIPModel.from_pretrained(tmp_path)
    # <start> a red seven <end>; the longest is cut so that its end stays; unknown words are "?"
    for row, ids in enumerate(([0, 3, 4, 6, 1], [0, 3, 5, 7, 8, 9, 10, 1], [0, 2, 1])):
        with torch.inference_mode():
            alone = model.get_text_features(torch.tensor([ids])).pooler_output
        np.testing.assert_allclose(text[row], alone[0], atol=1e-5)


def test_inception_supports_other_weights(network: InceptionV3, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(network.state_dict(), path)
    extractor = open_extractor(find_weights(ExtractorConfig(kind="inception", path=str(path))))
    assert extractor.read(images(2, 8, 1)).shape == (2, 2048)


def test_clip_score_is_the_cosine_in_hundredths_and_never_below_0() -> None:
    image = np.array([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0]])
    prompt = np.array([[3.0, 4.0], [0.0, 2.0], [-1.0, -1.0]])
    np.testing.assert_allclose(clip_scores(image, prompt), [100, 0, 0], atol=1e-12)
    np.testing.assert_allclose(
        clip_scores(image[2:], np.array([[1.0, 0.0]])), 70.7106781, rtol=1e-8
    )


def pixels(*shape: int) -> torch.Tensor:
    at = torch.arange(math.prod(shape), dtype=torch.float64)
    wave = torch.sin(at * at * 0.001 + 0.3)
    return ((wave + 1) * 127.5).round().to(torch.uint8).reshape(shape)


@pytest.mark.parametrize(
    ("shape", "known"),
    [
        ((2, 3, 8, 8), {0: 0.444357693, 500: 0.0392793082, 1000: 0.0, 2047: 0.714059055}),
        ((1, 3, 40, 32), {0: 0.395963877, 500: 0.0293122493, 1500: 0.0, 2047: 0.867108643}),
    ],
)
@torch.inference_mode()
def test_features_are_those_of_the_published_code(
    network: InceptionV3, shape: tuple[int, ...], known: dict[int, float]
) -> None:
    found = network(pixels(*shape))
    assert found.shape == (shape[0], 2048)
    for place, value in known.items():
        # the two differ by 2e-5 at most over all features: sums in another order
        assert float(found[0, place]) == pytest.approx(value, abs=1e-4)


def test_its_weights_have_the_names_of_the_published_file(network: InceptionV3) -> None:
    names = list(network.state_dict())
    assert len(names) == 566
    assert {
        "Conv2d_1a_3x3.conv.weight",
        "Mixed_5b.branch5x5_2.bn.running_mean",
        "Mixed_7c.branch3x3dbl_3b.conv.weight",
        "fc.bias",
    } <= set(names)


def test_pixels_are_sampled_as_in_tensorflow() -> None:
    ramp = torch.arange(4.0).expand(1, 1, 2, 4)
    found = resize_like_tensorflow1(ramp)[0, 0, 0]
    # output pixel i lies at i * 4 / 299, and nothing lies after the last
    at = torch.arange(299) * 4 / 299
    torch.testing.assert_close(found, at.clamp(max=3.0), atol=1e-5, rtol=0)
