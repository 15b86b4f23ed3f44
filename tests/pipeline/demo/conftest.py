"""A few captioned images to train on."""

from pathlib import Path

import pytest

from pipeline.config import CaptionedDigitsData, ComponentsTraining, UNetConfig
from pipeline.data.shards.reader import SampleShards
from pipeline.data.shards.writer import write_dataset
from pipeline.data.sources.datasets import load_source


@pytest.fixture(scope="session")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioned")
    config = CaptionedDigitsData(source="captioned_digits", count=60, holdout_count=20)
    write_dataset(folder, load_source(config, 0, UNetConfig(family="unet")), config)
    return folder


@pytest.fixture(scope="session")
def train(captioned: Path) -> SampleShards:
    return SampleShards(captioned, "train")


@pytest.fixture(scope="session")
def tiny() -> ComponentsTraining:
    return ComponentsTraining(
        autoencoder_updates=3,
        text_encoder_updates=40,
        batch_size=8,
        autoencoder_channels=(4, 8),
        text_layers=1,
    )
