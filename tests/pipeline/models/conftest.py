"""Tiny stock pipelines, created once for all tests that read or damage them."""

import shutil
from pathlib import Path

import pytest

from tests.support.tiny_pipelines import KINDS, Folder, tiny_pipeline


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines")
    for kind in KINDS:
        tiny_pipeline(kind, folder / kind)
    return folder


@pytest.fixture
def copied(originals: Path, tmp_path: Path) -> Folder:
    """A copy of a pipeline, to be damaged."""

    def copy(kind: str) -> Path:
        return Path(shutil.copytree(originals / kind, tmp_path / kind))

    return copy
