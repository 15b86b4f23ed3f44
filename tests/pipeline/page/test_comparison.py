"""Two runs on one page: what compares shares a column and a chart, what does not is said loudly."""

import json
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from pipeline.evaluation.metric_protocol import MetricProtocol, Reference
from pipeline.evaluation.protocol import Report
from pipeline.page.comparison import (
    Comparison,
    Side,
    comparable,
    nearer,
    side_by_side,
    tables_of,
    warnings_of,
)
from pipeline.page.overlay import overlaid
from pipeline.page.render import render_comparison
from tests.browser import be_dark, be_wide, complaints, fetched, open_browser, too_wide_by
from tests.page_content import look, page
from tests.page_reader import read_page
from tests.pipeline.page.test_verdict import PROTOCOL, row, verdict
from tests.pipeline.page.test_verdict import report as report_of


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
        charts=overlaid(both),
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
        (0, "teacher, DDIM, 8 steps", "2 (2 to 2)"),
        (1, "teacher, DDIM, 8 steps", "2 (2 to 2)"),
        (0, "student, 4 steps", "2.2 (2.2 to 2.2)"),
        (1, "student, 4 steps", "2.1 (2.1 to 2.1)"),
        (0, "student, 1 step", "3 (3 to 3)"),
        (1, "student, 1 step", "2.5 (2.5 to 2.5)"),
    ]
    charts = overlaid(ALIKE)
    assert [chart.w for chart in charts] == [1.0, 3.0]
    names = [trace["name"] for trace in json.loads(charts[0].figure)["data"]]
    assert names == ["first, students", "first, teacher", "second, students", "second, teacher"]


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


def test_a_report_of_before_compares_by_the_protocol_it_has() -> None:
    old = [each.report.model_copy(update={"metrics": ()}) for each in ALIKE]
    assert comparable(*old)
    changed = old[1].model_copy(
        update={"protocol": PROTOCOL.model_copy(update={"classifier_sha256": "ef" * 32})}
    )
    assert not comparable(old[0], changed)


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
    assert len(found.pictures) == 2 * 4 * 2  # four networks a side, the other run's under each


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
        assert len(shown) == (1 if both is ALIKE else 2)
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
