"""Conditions of an evaluation: classes, or captions of held-out images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import CaptionedDigitsData, DigitsData, GaussianConfig
from pipeline.data.shards.reader import SampleShards
from pipeline.data.shards.writer import write_dataset
from pipeline.data.sources.datasets import load_source
from pipeline.data.sources.demo.captioned_digits import read_attributes
from pipeline.data.sources.loaded_source import unlabelled_split
from pipeline.evaluation.features.caption_parts import match_caption_parts
from pipeline.evaluation.metrics.frechet import Moments, frechet_distance
from pipeline.sampling.conditions import choose_conditions, labels_in_shares
from pipeline.sampling.sampler import balanced_labels

CAPTIONED = CaptionedDigitsData(source="captioned_digits", count=60, holdout_count=40)
NO_NETWORK = GaussianConfig(family="gaussian", means=((0.0,),))


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioned")
    write_dataset(folder, load_source(CAPTIONED, 0, NO_NETWORK), CAPTIONED)
    return folder


def captions_of(folder: Path) -> list[str]:
    shards = SampleShards(folder, "heldout")
    return [caption.text for caption in shards.captions(np.arange(len(shards)))]


def test_labels_have_the_shares_of_the_classes_and_more_only_add() -> None:
    assert np.bincount(labels_in_shares(20, np.array([70, 20, 10]))).tolist() == [14, 4, 2]
    assert np.bincount(labels_in_shares(7, np.array([0, 1, 1]))).tolist() == [0, 4, 3]
    for num in (2, 7, 500):
        np.testing.assert_array_equal(labels_in_shares(num, np.full(5, 9)), balanced_labels(num, 5))
    counts = np.random.default_rng(0).integers(1, 100, 12)
    shares = [np.bincount(labels_in_shares(num, counts), minlength=12) for num in range(1, 200)]
    assert np.diff(shares, axis=0).min() == 0
    assert np.abs(shares[-1] - 199 * counts / counts.sum()).max() < 1


def test_a_perfect_sampler_of_unequal_classes_is_near_the_held_out_images(tmp_path: Path) -> None:
    config = DigitsData(source="digits")
    source = load_source(config, 0, NO_NETWORK)
    unequal = replace(source, labels=np.minimum(source.labels, 2), class_names=("0", "1", "rest"))
    write_dataset(tmp_path, unequal, config)
    labels = SampleShards(tmp_path, "heldout").conditions(np.arange(599))["label"].numpy()
    asked = choose_conditions(tmp_path, 300).labels
    assert np.bincount(asked).tolist() == [30, 31, 239]
    np.testing.assert_array_equal(np.bincount(labels), [59, 61, 479])
    # a sampler that draws each class as it is, of which balanced classes make another set
    random, centres = np.random.default_rng(0), 4 * np.eye(3)
    real, perfect, balanced = (
        Moments.of(centres[given] + random.normal(size=(len(given), 3)))
        for given in (labels, asked, balanced_labels(300, 3))
    )
    assert frechet_distance(perfect, real) < 0.1
    assert frechet_distance(balanced, real) > 2


def test_conditions_of_uncaptioned_data_are_classes(tmp_path: Path) -> None:
    config = DigitsData(source="digits")
    write_dataset(tmp_path, load_source(config, 0, NO_NETWORK), config)
    asked = choose_conditions(tmp_path, 25)
    assert asked.prompts is None
    assert asked.network_inputs is asked.labels
    # 58 to 61 held-out images of each: 61 of classes 1, 3 and 5, 60 of classes 4 and 6
    assert np.bincount(asked.labels).tolist() == [2, 3, 2, 3, 3, 3, 3, 2, 2, 2]
    balanced = choose_conditions(tmp_path, 25, is_balanced=True)
    assert np.bincount(balanced.labels).tolist() == [3] * 5 + [2] * 5


def test_conditions_of_captioned_classes_are_held_out_captions(captioned: Path) -> None:
    asked = choose_conditions(captioned, 70)
    assert asked.prompts is not None
    assert asked.network_inputs == asked.prompts
    assert set(asked.prompts) <= set(captions_of(captioned))
    assert [read_attributes(prompt).digit for prompt in asked.prompts] == asked.labels.tolist()
    # four of each digit are held out, so that the fifth question is the first again
    assert asked.prompts[4] == asked.prompts[0]
    assert len(set(asked.prompts[:4])) > 1


def test_conditions_without_classes_are_captions_in_order(tmp_path: Path) -> None:
    source = load_source(CAPTIONED, 0, NO_NETWORK)
    splits = unlabelled_split(100, 0.1, 0, "here")
    bare = replace(source, labels=None, class_names=(), splits=splits)
    write_dataset(tmp_path, bare, CAPTIONED)
    asked = choose_conditions(tmp_path, 12)
    expected = captions_of(tmp_path)[:10]
    assert list(asked.prompts or ()) == [*expected, *expected[:2]]
    assert not asked.labels.any()


def test_real_images_show_what_their_captions_say_and_nothing_else(captioned: Path) -> None:
    captions, shards = captions_of(captioned), SampleShards(captioned, "heldout")
    batch = shards.read(np.arange(len(shards)))
    images, labels = batch.x.permute(0, 2, 3, 1).numpy(), batch.condition["label"].numpy()
    seen = match_caption_parts(images, labels, captions)
    assert set(seen) == {"digit", "ink", "paper", "all"}
    # 9,000 canvases of this kind were read without an error
    assert all(right.all() for right in seen.values())
    others = [captions[-1], *captions[:-1]]
    wrong = match_caption_parts(images, labels, others)
    pairs = zip(captions, others, strict=True)
    said = [(read_attributes(true), read_attributes(other)) for true, other in pairs]
    for part in ("ink", "paper", "digit"):
        assert wrong[part].tolist() == [getattr(a, part) == getattr(b, part) for a, b in said]
    assert wrong["all"].tolist() == [a == b for a, b in said]
