"""Data sources: known contents and distributions."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from webdataset import TarWriter

from pipeline.config import DigitsData, GaussianConfig, GaussianData, UNetConfig
from pipeline.data.shards.writer import write_dataset
from pipeline.data.sources.datasets import count_source, identify, load_source
from pipeline.errors import ConfigError, DataError
from tests.pipeline.test_config import accepted

UNET = UNetConfig(family="unet")
LAW = GaussianConfig(family="gaussian", means=((-1.0, 0.5, 3.0), (1.0, 0.25, 0.0)), std=0.4)
READER = "teacher={network: {family: unet, text_channels: 16}, bundle: not looked at}"


def test_digits_are_the_scans_of_scikit_learn():
    source = load_source(DigitsData(source="digits"), 0, UNET)
    scans = load_digits()
    assert source.class_names == tuple("0123456789")
    assert source.latent_shape == (1, 8, 8)
    assert np.array_equal(source.labels, scans.target)
    for row in (0, 700, 1796):
        pixels = source.read(row)
        assert pixels.dtype == np.uint8
        assert pixels.shape == (1, 8, 8)
        assert np.abs(pixels[0] - scans.images[row] * 255 / 16).max() <= 0.5
    assert {int(source.read(row).max()) for row in range(100)} <= {239, 255}  # ink 15 and 16
    assert len(source.splits["train"]) + len(source.splits["heldout"]) == 1797
    assert len(source.splits["heldout"]) == 599


def test_gaussian_draws_follow_their_law():
    config = GaussianData(source="gaussian", num_samples=20001)
    source = load_source(config, 7, LAW)
    assert source.latent_shape == (3, 1, 1)
    assert np.bincount(source.labels).tolist() == [10001, 10000]
    samples = np.stack([source.read(row) for row in range(config.num_samples)])
    assert samples.dtype == np.float32
    for label, mean in enumerate(LAW.means):
        own = samples[source.labels == label].reshape(-1, 3)
        # five standard errors of a mean and of a standard deviation of 10,000 draws
        assert np.abs(own.mean(0) - mean).max() < 5 * LAW.std / 100
        assert np.abs(own.std(0) - LAW.std).max() < 5 * LAW.std / 100 / np.sqrt(2)


def test_gaussian_draws_depend_on_the_seed_and_not_on_how_many():
    def samples(seed, count):
        config = GaussianData(source="gaussian", num_samples=count)
        source = load_source(config, seed, LAW)
        return np.stack([source.read(row) for row in range(50)])

    assert np.array_equal(samples(0, 50), samples(0, 64))
    assert not np.array_equal(samples(0, 50), samples(1, 50))


def test_fewer_draws_than_a_split_needs_are_refused():
    with pytest.raises(DataError, match="class '1' has 1 sample"):
        load_source(GaussianData(source="gaussian", num_samples=3), 0, LAW)


def test_gaussian_data_needs_a_gaussian_network():
    with pytest.raises(ConfigError, match=r"needs teacher\.network\.family"):
        identify(GaussianData(source="gaussian"), UNET)


def test_the_identity_of_gaussian_data_holds_its_law_and_not_the_students_tables():
    config = GaussianData(source="gaussian")
    wider = LAW.model_copy(update={"std": 0.5})
    assert identify(config, LAW) != identify(config, wider)
    assert identify(config, LAW) == identify(config, LAW.model_copy(update={"w_nodes": 9}))


def test_captioned_digits_are_known_by_their_section_and_counted(tmp_path):
    recipe = accepted("data={source: captioned_digits, count: 40, holdout_count: 10}", READER)
    source = load_source(recipe.data, 0, UNET)
    assert source.name == "captioned_digits"
    assert (len(source.labels), len(source.class_names)) == count_source(recipe) == (50, 10)
    assert len(source.splits["heldout"]) == round(50 * recipe.data.holdout) == 10
    assert identify(recipe.data, UNET) == recipe.data.model_dump(
        mode="json", exclude={"masks_per_image"}
    )


def captioned_files(folder):
    """The same five images as a folder with a table, and as a tar."""
    (folder / "images").mkdir()
    (folder / "tars").mkdir()
    rows = []
    with (
        (folder / "tars/0.tar").open("wb") as stream,
        TarWriter(stream, encoder=False) as writer,
    ):
        for number in range(5):
            path = folder / "images" / f"{number}.png"
            Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(path)
            rows.append(json.dumps({"file_name": path.name, "text": f"grey {number}"}))
            text = f"grey {number}".encode()
            writer.write({"__key__": str(number), "png": path.read_bytes(), "txt": text})
    (folder / "images/metadata.jsonl").write_text("\n".join(rows))


@pytest.mark.parametrize(
    ("name", "place"), [("captioned_folder", "images"), ("captioned_tars", "tars")]
)
def test_captioned_files_are_known_by_content_and_counted_without_classes(tmp_path, name, place):
    captioned_files(tmp_path)
    recipe = accepted(f"data={{source: {name}, path: {tmp_path / place}, size: 8}}", READER)
    source = load_source(recipe.data, 0, UNET)
    assert source.name == name
    assert count_source(recipe) == (5, 0)
    assert [source.caption(row).text for row in range(5)] == [f"grey {n}" for n in range(5)]
    assert [source.read(row).max() for row in range(5)] == list(range(5))
    identity = identify(recipe.data, UNET)
    assert "path" not in identity
    assert len(identity["content"]["sha256"]) == 64
    gone = recipe.model_copy(update={"data": recipe.data.model_copy(update={"path": "/nowhere"})})
    with pytest.raises(DataError, match="/nowhere is not a folder"):
        count_source(gone)


def test_a_sample_that_is_not_finite_is_refused_by_its_row(tmp_path: Path) -> None:
    config = GaussianData(source="gaussian", num_samples=40)
    source = load_source(config, 0, LAW)
    row = int(source.splits["train"][3])

    def read(index: int) -> np.ndarray:
        assert source.read is not None
        return source.read(index) * (np.nan if index == row else 1)

    with pytest.raises(DataError, match=f"sample {row} of gaussian: contains NaN or infinity"):
        write_dataset(tmp_path, replace(source, read=read), config)
