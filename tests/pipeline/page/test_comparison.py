"""Page of two runs: comparable metrics share columns and charts, others give a warning."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By

from pipeline.evaluation.documents import (
    Agreement,
    AgreementProtocol,
    AgreementReport,
    AgreementRow,
    Report,
)
from pipeline.evaluation.metric_protocol import MetricProtocol, Reference
from pipeline.evaluation.metric_specs import ProtocolContext, paired_metrics
from pipeline.page.comparison import (
    ComparedRun,
    Comparison,
    comparable,
    encoder_sections,
    other_tables_of,
    overlay_charts,
    paired_charts,
    side_by_side,
    summarise_distances,
    tables_of,
    warnings_of,
)
from pipeline.page.render import render_comparison
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
    """Return a report with a student per step count at w = 1 and 3, by distance to real images."""
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


def sides(one: Report, two: Report) -> tuple[ComparedRun, ComparedRun]:
    return ComparedRun("first", page("first"), one), ComparedRun("second", page("second"), two)


def comparison(both: tuple[ComparedRun, ComparedRun]) -> Comparison:
    shown = (look(2.5, "x"), look(2.5, "x"))
    return Comparison(
        sides=both,
        summary=summarise_distances(both),
        warnings=warnings_of(both),
        tables=tables_of(both),
        others=other_tables_of(both),
        charts=overlay_charts(both),
        paired_charts=paired_charts(both),
        encoders=encoder_sections(both),
        rows=shown[0].rows,
        looks=((3.0, side_by_side(*shown)),),
        no_samples_reason="",
        differences=(("guidance.updates", "100", "200"),),
    )


ALIKE = sides(report({4: 2.2, 1: 3.0}), report({4: 2.1, 1: 2.5}))
UNLIKE = sides(report({4: 2.2, 1: 3.0}), report({4: 2.1, 1: 2.5}, samples=5000))


def test_equal_protocols_share_columns_and_charts() -> None:
    assert warnings_of(ALIKE) == ()
    tables = tables_of(ALIKE)
    assert [table.w for table in tables] == [1.0, 3.0]
    assert tables[0].heads[2:] == ("to real", "RMS to its teacher", "recall")
    found = zip(tables[0].sides, tables[0].rows, strict=True)
    assert [(side, row[0], row[2]) for side, row in found] == [
        (0, "teacher, DDIM, 8 steps", "2.000 (2.000 to 2.000)"),
        (1, "teacher, DDIM, 8 steps", "2.000 (2.000 to 2.000)"),
        (0, "student, 4 steps", "2.200 (2.200 to 2.200)"),
        (1, "student, 4 steps", "2.100 (2.100 to 2.100)"),
        (0, "student, 1 step", "3.000 (3.000 to 3.000)"),
        (1, "student, 1 step", "2.500 (2.500 to 2.500)"),
    ]
    charts = overlay_charts(ALIKE)
    assert [chart.w for chart in charts] == [1.0, 3.0]
    names = [trace["name"] for trace in json.loads(charts[0].figure)["data"]]
    assert names == ["first, students", "first, teacher", "second, students", "second, teacher"]


def trade_axis(both: tuple[ComparedRun, ComparedRun], name: str) -> list[list[float] | None]:
    """Return the axis ranges of a metric in both runs' charts against w."""
    pairs = [charts for _, charts in paired_charts(both) if charts[0].name.startswith(name)]
    return [json.loads(chart.figure)["layout"]["yaxis"].get("range") for chart in pairs[0]]


def test_what_guidance_trades_is_seen_on_one_scale_where_it_compares() -> None:
    one, two = trade_axis(ALIKE, "trade-distance_to_real")
    assert one == two == [pytest.approx(2.0 - 0.05), pytest.approx(3.0 + 0.05)]
    assert trade_axis(UNLIKE, "trade-distance_to_real") == [None, None]


def test_numbers_of_two_protocols_share_no_column_and_no_chart() -> None:
    said = warnings_of(UNLIKE)
    metrics, differences = said
    assert metrics.endswith(": to real, RMS to its teacher, recall.")
    assert differences.endswith(": num samples 50 vs. 5000.")
    table = tables_of(UNLIKE)[0]
    assert table.heads[2:4] == ("to real, first only", "to real, second only")
    for side, cells in zip(table.sides, table.rows, strict=True):
        assert [bool(cell) for cell in cells[2:]] == [side == 0, side == 1] * 3
    assert [chart.title.partition(":")[0] for chart in overlay_charts(UNLIKE)] == [
        *("first", "first", "second", "second")
    ]
    assert summarise_distances(UNLIKE) == ()


def test_one_metric_with_another_extractor_is_apart_alone() -> None:
    other = report({4: 2.1, 1: 2.5})
    metrics = (other.metrics[0], metric("recall", 50, "ef" * 32), other.metrics[2])
    both = sides(report({1: 3.0}), other.model_copy(update={"metrics": metrics}))
    assert tables_of(both)[0].heads[2:] == (
        *("to real", "RMS to its teacher", "recall, first only", "recall, second only"),
    )
    assert comparable(both[0].report, both[1].report)
    assert warnings_of(both)[0].endswith(": recall.")


def classless(digit: str, steps: int = 64, **changes: Any) -> AgreementReport:
    """Agreement with a teacher, measured on data of this digest."""
    setting = ProtocolContext(50, 1, 2, steps, 100, digit * 64, (8, 8, 1), "c" * 64)
    protocol = AgreementProtocol(num_samples=50, seed=1, noise_floor_seed=2, reference_steps=steps)
    scores = Agreement(rms_to_teacher=0.1, rms_to_teacher_interval=(0.1, 0.1))
    made = AgreementRow(cell=cell("student", 1, 2.0), evaluations=1, scores=scores)
    return AgreementReport(
        run="r",
        protocol=protocol,
        rows=(made,),
        pictures=(),
        metrics=tuple(paired_metrics(replace(setting, **changes))),
    )


def test_runs_without_classes_compare_on_the_same_data_and_teacher_only() -> None:
    one = classless("d")
    assert comparable(one, classless("d"))
    others = {
        ": data dddddddddddd... vs. eeeeeeeeeeee....": classless("e"),
        ": reference steps 64 vs. 32.": classless("d", 32),
        ": teacher cccccccccccc... vs. ffffffffffff....": classless("d", teacher_sha256="f" * 64),
        ": image shape 8x8x1 vs. 8x8x3.": classless("d", shape=(8, 8, 3)),
    }
    for differs, other in others.items():
        assert not comparable(one, other)
        both = (ComparedRun("one", page("one"), one), ComparedRun("two", page("two"), other))
        metrics, difference = warnings_of(both)
        assert metrics.endswith(": RMS to its teacher.")
        assert difference.endswith(differs)
        assert summarise_distances(both) == ()


def test_the_nearer_one_is_named_where_intervals_are_apart() -> None:
    assert summarise_distances(ALIKE) == (
        "With 1 step: second is nearer to real images at w = 1 and 3.",
    )
    wide = sides(report({1: 3.0}, width=0.3), report({1: 2.5}, width=0.3))
    assert "no clear difference at w = 1 and 3" in summarise_distances(wide)[0]
    different = sides(report({4: 3.0}), report({1: 2.5}))
    assert "no students with equal steps" in summarise_distances(different)[0]


def test_texts_and_images_are_those_of_both_runs(tmp_path: Path) -> None:
    path = tmp_path / "compare.html"
    path.write_text(render_comparison(comparison(UNLIKE)), encoding="utf-8")
    found = read_page(path)
    assert found.fetched == []
    assert all(warning in found.text for warning in warnings_of(UNLIKE))
    assert "guidance.updates 100 200" in found.text
    # the decisions of the gates, and the verdicts
    assert found.text.count("approved by a person") == found.text.count("A person approved") == 2
    assert found.text.count("fail recall 0.5, required at least 0.9") == 2
    # four networks per run, each once, and the encoders of each run
    assert len(found.pictures) == 2 * 4 + 2


@pytest.mark.needs_browser
@pytest.mark.parametrize("both", [ALIKE, UNLIKE], ids=["alike", "unlike"])
def test_both_are_seen_in_a_browser(both: tuple[ComparedRun, ComparedRun], tmp_path: Path) -> None:
    path = tmp_path / "compare.html"
    path.write_text(render_comparison(comparison(both)), encoding="utf-8")
    with open_browser(tmp_path) as driver:
        driver.get(path.as_uri())
        shown = [
            each
            for each in driver.find_elements(By.CSS_SELECTOR, ".plot")
            if each.is_displayed() and each.find_elements(By.CSS_SELECTOR, "path.js-line")
        ]
        # shared curves, or one per run; for each run four trade-off charts, training and encoders
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
