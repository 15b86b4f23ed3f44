"""Extractors with tiny random weights: inputs, outputs and preprocessing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPModel

from pipeline.errors import ConfigError
from pipeline.evaluation.extractor_metrics import clip_scores
from pipeline.evaluation.features.extractor_weights import find_weights
from pipeline.evaluation.features.extractors import open_extractor, to_uint8_pixels
from tests.support.extractor_weights import write_clip, write_dino, write_inception


def images(count: int, side: int, channels: int) -> np.ndarray:
    drawn = np.random.default_rng(0).uniform(-1.2, 1.2, (count, side, side, channels))
    return drawn.astype(np.float32)


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


def test_inception_supports_other_weights(tmp_path: Path) -> None:
    extractor = open_extractor(find_weights(write_inception(tmp_path / "w.safetensors")))
    assert extractor.read(images(2, 8, 1)).shape == (2, 2048)


def test_clip_score_is_the_cosine_in_hundredths_and_never_below_0() -> None:
    image = np.array([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0]])
    prompt = np.array([[3.0, 4.0], [0.0, 2.0], [-1.0, -1.0]])
    np.testing.assert_allclose(clip_scores(image, prompt), [100, 0, 0], atol=1e-12)
    np.testing.assert_allclose(
        clip_scores(image[2:], np.array([[1.0, 0.0]])), 70.7106781, rtol=1e-8
    )
