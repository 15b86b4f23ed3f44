"""Two runs on one page: what compares shares a column and a chart, what does not is said loudly."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By

from pipeline.evaluation.documents import Report
from pipeline.evaluation.metric_protocol import MetricProtocol, Reference
from pipeline.evaluation.metric_specs import Setting, against_pairs
from pipeline.evaluation.reports.agreement import (
    Agreement,
    AgreementProtocol,
    AgreementReport,
    AgreementRow,
)
from pipeline.page.comparison import Comparison, Side, comparable, nearer, side_by_side, warnings_of
from pipeline.page.overlay import beside, encoders_beside, overlaid
from pipeline.page.render import render_comparison
from pipeline.page.side_tables import others_of, tables_of
from tests.pipeline.page.test_summary import PROTOCOL, cell, row, verdict
from tests.pipeline.page.test_summary import report as report_of
from tests.support.browser import be_dark, be_wide, complaints, fetched, open_browser, too_wide_by
from tests.support.page_content import look, page
from tests.support.page_reader import read_page


def metric(key: str, samples: int, extractor: str = "ab" * 32) -> MetricProtocol:
    return MetricProtocol(
        metric=key,
        title=key,
        meaning=key,
        extractor="classifier",
        extractor_sha256=extractor,
        reference=Reference(name="real", split="heldout", data_sha256="cd" * 32, count=60),
        num_samples=samples,
        seed=1,
        resamples=100,
        shape=(8, 8, 1),
        source="",
    )


def report(distances: dict[int, float], samples: int = 50, width: float = 0.0) -> Report:
    """A student of each number of steps at w = 1 and 3, this far from real images."""
    rows = []
    for w in (1.0, 3.0):
        rows.append(row("teacher", 8, w, 2.0))
        for steps, distance in distances.items():
            made = row("student", steps, w, distance)
            interval = (distance - width, distance + width)
            scores = made.scores.model_copy(update={"distance_to_real_interval": interval})
            rows.append(made.model_copy(update={"scores": scores}))
    keys = ("distance_to_real", "recall", "rms_to_teacher")
    return report_of(verdict(1, 1.0, 0.95)).model_copy(
        update={
            "rows": tuple(rows),
            "metrics": tuple(metric(key, samples) for key in keys),
            "protocol": PROTOCOL.model_copy(update={"num_samples": samples}),
        }
    )


def sides(one: Report, two: Report) -> tuple[Side, Side]:
    return Side("first", page("first"), one), Side("second", page("second"), two)


def comparison(both: tuple[Side, Side]) -> Comparison:
    shown = (look(2.5, "x"), look(2.5, "x"))
    return Comparison(
        sides=both,
        told=nearer(both),
        warnings=warnings_of(both),
        tables=tables_of(both),
        others=others_of(both),
        charts=overlaid(both),
        beside=beside(both),
        encoders=encoders_beside(both),
        rows=shown[0].rows,
        looks=((3.0, side_by_side(*shown)),),
        no_looks="",
        differences=(("guidance.updates", "100", "200"),),
    )


ALIKE = sides(report({4: 2.2, 1: 3.0}), report({4: 2.1, 1: 2.5}))
UNLIKE = sides(report({4: 2.2, 1: 3.0}), report({4: 2.1, 1: 2.5}, samples=5000))


def test_equal_protocols_share_columns_and_charts() -> None:
    assert warnings_of(ALIKE) == ()
    tables = tables_of(ALIKE)
    assert [table.w for table in tables] == [1.0, 3.0]
    assert tables[0].heads == ("to real", "RMS to its teacher", "recall")
    assert [(line[0], line[1], line[3][0]) for line in tables[0].lines] == [
        (0, "teacher, DDIM, 8 steps", "2.000 (2.000 to 2.000)"),
        (1, "teacher, DDIM, 8 steps", "2.000 (2.000 to 2.000)"),
        (0, "student, 4 steps", "2.200 (2.200 to 2.200)"),
        (1, "student, 4 steps", "2.100 (2.100 to 2.100)"),
        (0, "student, 1 step", "3.000 (3.000 to 3.000)"),
        (1, "student, 1 step", "2.500 (2.500 to 2.500)"),
    ]
    charts = overlaid(ALIKE)
    assert [chart.w for chart in charts] == [1.0, 3.0]
    names = [trace["name"] for trace in json.loads(charts[0].figure)["data"]]
    assert names == ["first, students", "first, teacher", "second, students", "second, teacher"]


def trade_axis(both: tuple[Side, Side], name: str) -> list[list[float] | None]:
    """From where to where the axis of a number goes in the chart against w of either run."""
    pairs = [charts for _, charts in beside(both) if charts[0].name.startswith(name)]
    return [json.loads(chart.figure)["layout"]["yaxis"].get("range") for chart in pairs[0]]


def test_what_guidance_trades_is_seen_on_one_scale_where_it_compares() -> None:
    one, two = trade_axis(ALIKE, "trade-distance_to_real")
    assert one == two == [pytest.approx(2.0 - 0.05), pytest.approx(3.0 + 0.05)]
    assert trade_axis(UNLIKE, "trade-distance_to_real") == [None, None]


def test_numbers_of_two_protocols_share_no_column_and_no_chart() -> None:
    said = warnings_of(UNLIKE)
    assert said == (
        "Measured in different ways, so not to be compared: to real, RMS to its teacher, recall.",
        "What differs: num samples 50 against 5000.",
    )
    table = tables_of(UNLIKE)[0]
    assert table.heads[:2] == ("to real, first only", "to real, second only")
    for place, _, _, cells in table.lines:
        filled = [bool(cell) for cell in cells]
        assert filled == [place == 0, place == 1] * 3
    assert [chart.title.partition(":")[0] for chart in overlaid(UNLIKE)] == [
        *("first", "first", "second", "second")
    ]
    assert nearer(UNLIKE) == ()


def test_one_metric_with_another_extractor_is_apart_alone() -> None:
    other = report({4: 2.1, 1: 2.5})
    metrics = (other.metrics[0], metric("recall", 50, "ef" * 32), other.metrics[2])
    both = sides(report({1: 3.0}), other.model_copy(update={"metrics": metrics}))
    assert tables_of(both)[0].heads == (
        *("to real", "RMS to its teacher", "recall, first only", "recall, second only"),
    )
    assert comparable(both[0].report, both[1].report)
    assert warnings_of(both)[0].endswith("not to be compared: recall.")


def classless(digit: str, steps: int = 64, **changes: Any) -> AgreementReport:
    """Agreement with a teacher, measured on data of this digest."""
    setting = Setting(50, 1, 2, steps, 100, digit * 64, (8, 8, 1), "c" * 64)
    protocol = AgreementProtocol(num_samples=50, seed=1, yardstick_seed=2, reference_steps=steps)
    scores = Agreement(rms_to_teacher=0.1, rms_to_teacher_interval=(0.1, 0.1))
    made = AgreementRow(cell=cell("student", 1, 2.0), evaluations=1, scores=scores)
    return AgreementReport(
        run="r",
        protocol=protocol,
        rows=(made,),
        pictures=(),
        metrics=tuple(against_pairs(replace(setting, **changes))),
    )


def test_runs_without_classes_compare_on_the_same_data_and_teacher_only() -> None:
    one = classless("d")
    assert comparable(one, classless("d"))
    others = {
        "What differs: data dddddddddddd... against eeeeeeeeeeee....": classless("e"),
        "What differs: reference steps 64 against 32.": classless("d", 32),
        "What differs: teacher cccccccccccc... against ffffffffffff....": classless(
            "d", teacher_sha256="f" * 64
        ),
        "What differs: image shape 8x8x1 against 8x8x3.": classless("d", shape=(8, 8, 3)),
    }
    for differs, other in others.items():
        assert not comparable(one, other)
        both = (Side("one", page("one"), one), Side("two", page("two"), other))
        assert warnings_of(both) == (
            "Measured in different ways, so not to be compared: RMS to its teacher.",
            differs,
        )
        assert nearer(both) == ()


def test_the_nearer_one_is_named_where_intervals_are_apart() -> None:
    assert nearer(ALIKE) == ("In 1 step: second is nearer to real images at w = 1 and 3.",)
    wide = sides(report({1: 3.0}, width=0.3), report({1: 2.5}, width=0.3))
    assert nearer(wide) == ("In 1 step: their intervals overlap at w = 1 and 3.",)
    apart = sides(report({4: 3.0}), report({1: 2.5}))
    assert "has as many steps" in nearer(apart)[0]


def test_words_and_pictures_are_those_of_both(tmp_path: Path) -> None:
    path = tmp_path / "compare.html"
    path.write_text(render_comparison(comparison(UNLIKE)), encoding="utf-8")
    found = read_page(path)
    assert found.fetched == []
    assert "These two were not measured in the same way." in found.text
    assert "guidance.updates 100 200" in found.text
    # what each gate decided, and whether students are good enough
    assert found.text.count("accepted by a person") == found.text.count("A person accepted") == 2
    assert found.text.count("no recall 0.5, asked at least 0.9") == 2
    # four networks a side, none of them twice; and of each run its encoders'
    assert len(found.pictures) == 2 * 4 + 2


@pytest.mark.browser
@pytest.mark.parametrize("both", [ALIKE, UNLIKE], ids=["alike", "unlike"])
def test_both_are_seen_in_a_browser(both: tuple[Side, Side], tmp_path: Path) -> None:
    path = tmp_path / "compare.html"
    path.write_text(render_comparison(comparison(both)), encoding="utf-8")
    with open_browser(tmp_path) as driver:
        driver.get(path.as_uri())
        shown = [
            each
            for each in driver.find_elements(By.CSS_SELECTOR, ".plot")
            if each.is_displayed() and each.find_elements(By.CSS_SELECTOR, "path.js-line")
        ]
        # curves over each other, or one of each; of each run what guidance trades, in four
        # charts, its training and its encoders
        assert len(shown) == (1 if both is ALIKE else 2) + 2 * (4 + 1 + 1)
        ids = [each.get_attribute("id") for each in shown]
        assert len(set(ids)) == len(ids)
        alerts = driver.find_elements(By.CSS_SELECTOR, "[role=alert]")
        assert [each.is_displayed() for each in alerts] == ([] if both is ALIKE else [True])
        pictures = driver.find_elements(By.CSS_SELECTOR, ".other")
        assert sum(each.is_displayed() for each in pictures) == 2
        for dark in (False, True):
            be_dark(driver, dark=dark)
            be_wide(driver, 360)
            driver.execute_async_script("setTimeout(arguments[0], 500)")  # charts follow
            assert too_wide_by(driver) == 0
        assert (complaints(driver), fetched(driver)) == ([], set())
