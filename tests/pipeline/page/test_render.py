"""One file that fetches nothing, whatever is in the words it shows."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.page.charts import training_chart
from pipeline.page.content import Finding, Judgement, Look, Page, Picture, RoundCost, Usage
from pipeline.page.looks import _png
from pipeline.page.render import render
from tests.page_reader import read_page

HOSTILE = "</script><script src='https://evil.invalid/x.js'></script><b>&"


def page(run: str) -> Page:
    images = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32)
    source = _png(images, [[0, 1], [2, 3]])
    teacher = Picture("teacher, DDIM, 8 steps", 16, is_student=False, source=source)
    student = Picture(run, 1, is_student=True, source=source)
    chart = training_chart({run: [{"update": 1.0, "train/loss": 0.5}]})
    assert chart is not None
    return Page(
        run=run,
        what=run,
        facts=(("1", run),),
        judgement=Judgement((run,), (1.0,), ((run, (Finding(False, (run,)),)),), run),
        weights=(1.0, 2.5),
        charts=(chart,),
        looks=(Look(1.0, (run, "b"), teacher, (student,)),),
        pictures=((2.5, source),),
        costs=(RoundCost(run, 1200, 4_000_000, 137_000_000, 61.0, None),),
        total_s=3700.0,
        price=run,
        lineage=((run, "ab" * 32, run),),
        environment=((run, run),),
        usage=(Usage(run, (run,)),),
        protocol=(run,),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.html"


def test_words_of_a_user_stay_words(path: Path) -> None:
    path.write_text(render(page(HOSTILE)), encoding="utf-8")
    found = read_page(path)
    assert found.fetched == []
    assert found.text.count("evil.invalid") >= 12
    assert found.charts["training"]["data"][0]["name"] == HOSTILE


def test_everything_is_there(path: Path) -> None:
    path.write_text(render(page("digits")), encoding="utf-8")
    found = read_page(path)
    assert found.weights == ["1", "2.5"]
    # the teacher beside the student, and under it; and the picture of prompts
    assert [picture.size for picture in found.pictures] == [found.pictures[0].size] * 4
    for said in ("1 200", "4 000 000", "137.0 MB", "1:01", "1:01:40", "no"):
        assert said in found.text
