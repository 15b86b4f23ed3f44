"""A complete report from generated samples: numbers, tables, figures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation.candidates import SampleSet
from pipeline.evaluation.documents import read_report
from pipeline.evaluation.reports.class_conditional import build_report, write_report_files
from pipeline.evaluation.reports.comparisons import best_baseline
from pipeline.evaluation.reports.report_summary import write_report
from pipeline.sampling.sampler import balanced_labels
from tests.support.assessed import Made, make, returning
from tests.support.own_readings import read_all

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make("digits.yaml", tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def gaussian(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make("gaussian.yaml", tmp_path_factory.mktemp("gaussian"))


def test_every_set_but_the_noise_floor_has_a_row(digits: Made) -> None:
    _, report, _ = digits
    found = [(row.cell.title, row.evaluations) for row in report.at(2.0)]
    assert found == [
        ("teacher, DDIM, 8 steps", 16),
        ("stage-1 student, 4 steps", 4),
        ("student, 2 steps", 2),
        ("teacher, DDIM, 2 steps", 4),
        ("teacher, DDIM, 1 step", 2),
        ("teacher, DPM-Solver++, 2 steps", 4),
        ("teacher, DPM-Solver++, 1 step", 2),
        ("teacher, UniPC, 2 steps", 4),
        ("teacher, UniPC, 1 step", 2),
    ]
    assert [row.evaluations for row in report.at(0.0)] == [8, 4, 2, 2, 1, 2, 1, 2, 1]


def test_the_teacher_is_at_its_noise_floor_and_a_student_of_its_steps_at_w_0_is_the_teacher(
    gaussian: Made,
) -> None:
    _, report, _ = gaussian
    for row in report.rows:
        if row.cell.role == "teacher":
            assert row.scores.rms_to_teacher == 0
            assert row.scores.distance_to_teacher > 0  # other noise
    teacher, student = report.at(0.0)[:2]
    assert student.cell.steps == teacher.cell.steps
    assert student.scores.rms_to_teacher == pytest.approx(0, abs=1e-5)
    near = pytest.approx(teacher.scores.distance_to_real, rel=1e-3)
    assert student.scores.distance_to_real == near
    exact = next(v for v in report.verdicts if v.judged == "student" and v.w == 0)
    assert exact.passed
    assert exact.floor_factor == pytest.approx(1, rel=0.01)


def test_an_untrained_network_is_far_from_the_data_and_real_images_are_near(digits: Made) -> None:
    _, report, _ = digits
    for row in report.rows:
        assert row.scores.distance_to_real > 5 * report.real.distance_to_real
    assert report.real.nearest_training > 0.05  # the nearest other one
    assert report.real.distance_to_teacher is None
    assert report.real.rms_to_teacher is None
    low, high = report.real.distance_to_real_interval
    assert low < report.real.distance_to_real < high


def test_a_budget_excludes_more_expensive_baselines(digits: Made) -> None:
    _, report, _ = digits
    assert best_baseline(report, 2.0, 1) is None
    assert best_baseline(report, 2.0, 2).evaluations == 2
    all_rows = [row for row in report.at(2.0) if row.cell.role != "student"]
    best = best_baseline(report, 2.0, 1000)
    assert best == min(all_rows, key=lambda row: row.scores.distance_to_real)


def test_the_same_samples_give_the_same_bytes(digits: Made, tmp_path: Path) -> None:
    comparison, report, folder = digits
    again = build_report(comparison)
    assert again == report
    write_report_files(again, comparison, tmp_path)
    first, second = (
        {path.name: path.read_bytes() for path in place.iterdir()} for place in (folder, tmp_path)
    )
    assert first == second


def test_negative_controls_fail(gaussian: Made) -> None:
    _, report, folder = gaussian
    controls = {(v.judged, v.w): v for v in report.verdicts if v.judged != "student"}
    assert set(controls) == {("class means", 0.0), ("class means", 2.0), ("w forced to 0", 2.0)}
    # at w = 2 the teacher itself covers almost none of the data, so that a ratio to it says nothing
    assert "recall" in controls["class means", 0.0].failed
    assert all("RMS" in verdict.failed for verdict in controls.values())
    ignorant = controls["w forced to 0", 2.0]
    assert {"RMS", "effective w"} <= set(ignorant.failed)
    # its few steps make the samples as narrow as those of its teacher at 1
    assert ignorant.scores.effective_w < 1.2
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "3 of 3 negative controls" in page


def test_the_report_is_content_only_and_names_its_features(digits: Made) -> None:
    _, report, folder = digits
    text = (folder / "report.json").read_text(encoding="utf-8")
    assert read_report(folder) == report
    assert str(folder.parent) not in text
    assert json.loads(text)["protocol"]["features"] == (
        "features of a classifier trained on the real training split (not FID)"
    )
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "trained on the real training split (not FID)" in page
    assert "a reason" in page
    assert "| stage-1 student, 4 steps | 4 |" in page


def test_every_number_has_an_interval_and_a_protocol(digits: Made) -> None:
    _, report, folder = digits
    known = {metric.metric for metric in report.metrics}
    for scores in [report.real, *(row.scores for row in report.rows)]:
        in_parts = {"prompt_accuracy", "accuracy_by_class"}
        numbers = scores.model_dump(exclude=in_parts)
        named = [name for name in numbers if not name.endswith("_interval")]
        for name in (name for name in named if numbers[name] is not None):
            low, high = numbers[f"{name}_interval"]
            assert low <= numbers[name] <= high, name
            assert name in known
        shares, intervals = scores.accuracy_by_class, scores.accuracy_by_class_interval
        assert tuple(shares) == tuple(intervals) == report.class_names
        assert all(intervals[name][0] <= shares[name] <= intervals[name][1] for name in shares)
        # classes are balanced, so that their mean is the share of all
        assert scores.class_accuracy == pytest.approx(np.mean([*shares.values()]), abs=1e-5)
    assert "accuracy_by_class" in known
    assert report.rows[0].scores.kid_to_real is not None
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "the data set's own classifier (not FID)" in page
    assert all(f"| {metric.identity} |" in page for metric in report.metrics)


def test_a_sampler_that_is_always_wrong_in_one_class_is_shown_to_be(
    gaussian: Made, tmp_path: Path
) -> None:
    comparison, report, folder = gaussian
    asked = balanced_labels(60, 3)

    def wrong(each: SampleSet) -> SampleSet:
        images = each.load().copy()
        if each.cell.role == "student":
            images[asked == 1] = images[asked == 0]
        return replace(each, load=returning(images))

    sets = tuple(map(wrong, comparison.sets))
    own = read_all(comparison.data, folder.parent / "classifier", sets, 60)
    worse = build_report(replace(comparison, sets=sets, own=own))
    found, before = ([row.scores for row in made.at(2.0)[:2]] for made in (worse, report))
    assert found[0].accuracy_by_class == before[0].accuracy_by_class
    shares = before[1].accuracy_by_class
    assert min(shares.values()) > 0.9
    assert found[1].accuracy_by_class == {**shares, "1": 0.0}
    # Wilson's interval of 0 of 20
    assert found[1].accuracy_by_class_interval["1"] == (0.0, pytest.approx(0.161, abs=1e-3))
    assert found[1].class_accuracy == pytest.approx((shares["0"] + shares["2"]) / 3, abs=1e-5)
    write_report(worse, tmp_path)
    page = (tmp_path / "report.md").read_text(encoding="utf-8").partition("### w = 2")[2]
    assert "| 1: 0.0% (0.0% to 16.1%) |\n" in page
    assert "| network | evaluations | 0 | 1 | 2 |\n" in page.partition("Accuracy by class")[2]


def test_the_sweep_marks_the_lowest_distance_of_each_cost(digits: Made) -> None:
    _, report, folder = digits
    page = (folder / "report.md").read_text(encoding="utf-8")
    heads = "| evaluations | teacher, DDIM | distilled students | teacher, DPM-Solver++ | teacher, "
    assert f"{heads}UniPC |" in page
    rows = report.at(2.0)
    least = min(row.scores.distance_to_real for row in rows if row.evaluations == 2)
    lines = page.split("## Guidance sweep")[1].split("w = 2:")[1].splitlines()
    line = next(each for each in lines if each.startswith("| 2 |") and each.count("|") == 6)
    assert f"**{least:.2f}" in line
    assert "| stage-1 student, 4 steps | 4 | " in page.split("Guidance trade-off")[1]


@pytest.mark.parametrize("made", ["digits", "gaussian"])
def test_figures_exist_and_are_not_blank(made: str, request: pytest.FixtureRequest) -> None:
    _, report, folder = request.getfixturevalue(made)
    curves = ("curve.png", "tradeoff.png", "pareto.png")
    assert report.pictures == ("grid-w0.png", "grid-w2.png", *curves)
    for name in report.pictures:
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 300
            assert picture.convert("L").getextrema()[0] < 100  # something is drawn
            assert not picture.info.get("Software")
