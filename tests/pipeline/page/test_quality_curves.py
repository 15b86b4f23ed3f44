"""Quality curves of the page contain exactly the numbers of the report."""

import json

import pytest

from pipeline.evaluation.documents import ExtractorMetrics, ExtractorRow, Role, SampleSpec
from pipeline.evaluation.metric_specs import ProtocolContext, teacher_metric
from pipeline.evaluation.scores import ExtractorScores
from pipeline.page.charts import curve_charts
from pipeline.page.view_model import Chart
from tests.pipeline.page.test_summary import report, verdict

SETTING = ProtocolContext(10, 0, 7, 8, 100, None, (8, 8, 3))
CLIP = ("CLIP (not FID)", "c" * 64)


def row(role: Role, steps: int, w: float, distance: float) -> ExtractorRow:
    cell = SampleSpec(
        role=role,
        bundle="rounds/00/student" if role == "student" else "teacher",
        digest="d" * 64,
        round=0 if role == "student" else None,
        sampler="ddim",
        steps=steps,
        w=w,
        seed=0,
    )
    scores = ExtractorScores(
        distance_to_teacher=distance,
        distance_to_teacher_interval=(distance - 1, distance + 2),
        clip_score=20 + distance,
        clip_score_interval=(20, 30),
    )
    return ExtractorRow(cell=cell, evaluations=steps, scores=scores)


def panel() -> ExtractorMetrics:
    clip = SETTING.metric("clip_score", CLIP, SETTING.paired)
    rows = [
        row(role, steps, w, distance + w)
        for w in (0.0, 2.0)
        for role, steps, distance in (("teacher", 8, 3), ("student", 4, 5), ("student", 1, 6))
    ]
    metrics = (teacher_metric(SETTING, CLIP), clip)
    return ExtractorMetrics(extractor=CLIP[0], kind="clip", metrics=metrics, rows=tuple(rows))


def panel_charts() -> dict[str, Chart]:
    """The charts of a report that has this panel, by name."""
    found = report(verdict(1, 1.0, 0.95)).model_copy(update={"panels": (panel(),)})
    return {chart.name: chart for chart in curve_charts(found) if chart.kind == "panel"}


def test_an_extractor_has_a_chart_for_each_of_its_numbers_and_weights() -> None:
    charts = panel_charts()
    assert list(charts) == [
        *("clip-distance_to_teacher-0", "clip-distance_to_teacher-2"),
        *("clip-clip_score-0", "clip-clip_score-2"),
    ]
    assert [chart.w for chart in charts.values()] == [0, 2, 0, 2]
    assert all("CLIP (not FID)" in chart.title for chart in charts.values())
    figure = json.loads(charts["clip-distance_to_teacher-2"].figure)
    students, teacher = figure["data"]
    # from the cheapest to the dearest, each with its interval
    assert (students["x"], students["y"]) == ([1, 4], [8, 7])
    assert (students["error_y"]["array"], students["error_y"]["arrayminus"]) == ([2, 2], [1, 1])
    assert (teacher["x"], teacher["y"]) == ([8], [5])
    assert figure["layout"]["yaxis"]["type"] == "log"


@pytest.mark.parametrize("w", [0, 2])
def test_a_score_that_is_a_hundred_cosines_has_a_plain_axis(w: int) -> None:
    charts = panel_charts()
    axis = json.loads(charts[f"clip-clip_score-{w}"].figure)["layout"]["yaxis"]
    assert axis.get("type", "linear") == "linear"
    assert axis["title"]["text"] == "CLIP score"
