"""Tiny stock pipelines with their bundles, created once per session."""

import pytest

from tests.support.stock_bundles import Make, Tiny, tiny


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Make:
    found: dict[str, Tiny] = {}

    def make(kind: str) -> Tiny:
        if kind not in found:
            found[kind] = tiny(kind, tmp_path_factory.mktemp(kind))
        return found[kind]

    return make
