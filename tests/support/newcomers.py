"""Packages of other authors, found by their entry points in this process."""

from pathlib import Path
from typing import Any

import pytest

from infra.tracking import TRACKERS
from pipeline.config.data import SOURCE_CONFIGS
from pipeline.config.methods import METHOD_CONFIGS
from pipeline.config.profile import TRACKER_PROPERTIES
from pipeline.config.samplers import SAMPLER_PROPERTIES
from pipeline.config.teacher import NETWORKS
from pipeline.data.sources.source import SOURCES
from pipeline.methods.method import METHODS
from pipeline.models.family import FAMILIES
from pipeline.registry import Registry
from pipeline.sampling.solvers import SAMPLERS
from tests.support.terminal import ROOT

TOYS = ROOT / "tests" / "toys"

REGISTRIES: tuple[Registry[Any], ...] = (
    METHOD_CONFIGS,
    METHODS,
    NETWORKS,
    FAMILIES,
    SOURCE_CONFIGS,
    SOURCES,
    SAMPLER_PROPERTIES,
    SAMPLERS,
    TRACKER_PROPERTIES,
    TRACKERS,
)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the packages in a folder importable, and let all registries scan once more."""
    monkeypatch.syspath_prepend(folder)
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_found", {})
