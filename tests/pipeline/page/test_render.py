"""The page is one file without external requests, for any user text."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.page.render import render
from tests.support.page_content import WHY, page
from tests.support.page_reader import read_page

HOSTILE = "</script><!--<script><script src='https://evil.invalid/x.js'></script><b>&"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.html"


def test_user_text_is_escaped(path: Path) -> None:
    path.write_text(render(page(HOSTILE)), encoding="utf-8")
    found = read_page(path)
    assert found.fetched == []
    assert found.text.count("evil.invalid") >= 12
    assert found.charts["training"]["data"][0]["name"] == HOSTILE
    assert "<!--<script>" not in path.read_text(encoding="utf-8").partition("plotly.js")[0]


def test_everything_is_there(path: Path) -> None:
    path.write_text(render(page("digits")), encoding="utf-8")
    found = read_page(path)
    assert found.weights == ["1", "2.5"]
    # per guidance weight the teacher and three others, each once; one image of encoders
    assert [picture.size for picture in found.pictures] == [found.pictures[0].size] * (2 * 4 + 1)
    for text in ("1 200", "4 000 000", "137.0 MB", "1:01", "1:01:40", "fail"):
        assert text in found.text


def test_decisions_of_the_gate_are_shown_only_with_a_gate(path: Path) -> None:
    gated = page("digits")
    path.write_text(render(gated), encoding="utf-8")
    said = read_page(path).text
    for words in ("passed", "failed " + WHY, "approved by a person " + WHY):
        assert words in said
    assert "A person approved the student of digits." in said
    plain = replace(gated, costs=gated.costs[:1], accepted=())
    path.write_text(render(plain), encoding="utf-8")
    said = read_page(path).text
    assert "stage updates network evaluations" in said
    assert "A person" not in said
