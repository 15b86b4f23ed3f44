"""Deterministic and stochastic students are kept apart everywhere in one report."""

import functools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.bundle import read_manifest
from pipeline.evaluation.candidates import ReportInputs, SampleSet, columns_of
from pipeline.evaluation.documents import EvaluatedBundle, Report, plan_cells
from pipeline.evaluation.figures.curves import rows_by_network
from pipeline.evaluation.reports.class_conditional import build_report, write_report_files
from pipeline.evaluation.reports.report_summary import VerdictTable, summarise_verdicts
from pipeline.ledger import Artifact, Ledger
from pipeline.page.charts import curve_charts, trade_charts
from pipeline.page.comparison import ComparedRun, overlay_charts, summarise_distances, tables_of
from pipeline.page.view_model import Chart
from pipeline.training.plan import plan_rounds
from stages.evaluation.features import classifier_of
from stages.evaluation.publish import curves_of
from stages.evaluation.sample_sets import SampleInputs
from stages.export.export import model_card_facts
from stages.workspace import Workspace
from tests.chains.test_round_kinds import chain
from tests.support.gate_case import sample_ours
from tests.support.own_readings import read_all
from tests.support.page_content import page

pytestmark = pytest.mark.slow

STUDENTS = (
    "stage-1 student, 4 steps",
    "student, 2 steps",
    "student, 1 step",
    "student, 2 steps, stochastic",
    "student, 1 step, stochastic",
)
WEIGHTS = (0.0, 2.0, 4.0)
EACH_ONCE = Counter((title, w) for title in STUDENTS for w in WEIGHTS)

Made = tuple[ReportInputs, Report, str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The report's inputs, the report, and its text."""
    run_dir = tmp_path_factory.mktemp("ladders")
    evaluation = "evaluation={num_samples: 30, w: [0, 2, 4], baseline_steps: [1, 2]}"
    recipe, bundles = chain(run_dir, evaluation)
    ledger = Ledger(run_dir)
    (data,) = [each for each in ledger.records() if each.kind == "data"]
    entrants = [
        EvaluatedBundle(
            manifest=read_manifest(run_dir / each.path), path=each.path, digest=each.digest
        )
        for each in bundles
    ]
    cells = plan_cells(recipe, entrants[0], entrants[1:], ["ddim"])
    drawn = sample_ours(Workspace(run_dir, recipe), cells, bundles, SampleInputs(data, None))
    sets = tuple(
        SampleSet(
            cell, each.details["evaluations"], functools.partial(np.load, run_dir / each.path)
        )
        for cell, each in zip(cells, drawn, strict=True)
    )
    at, classifier = ledger.locate(data), ledger.locate(classifier_of(ledger, data))
    own = read_all(at, classifier, sets, recipe.evaluation.num_samples)
    comparison = ReportInputs(recipe, at, own, sets, ())
    report, folder = build_report(comparison), tmp_path_factory.mktemp("report")
    write_report_files(report, comparison, folder)
    return comparison, report, (folder / "report.md").read_text(encoding="utf-8")


def traces(charts: list[Chart] | tuple[Chart, ...], prefix: str) -> list[tuple[str, list[Any]]]:
    """Return the lines of the charts with a name prefix: names and x values."""
    return [
        (trace["name"], trace["x"])
        for chart in charts
        if chart.name.startswith(prefix)
        for trace in json.loads(chart.figure)["data"]
    ]


def lines_of(text: str, head: str) -> list[list[str]]:
    """Return the cells of the table below a heading."""
    lines = text.split(head)[1].splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("|--"))
    rows = []
    for line in lines[first + 1 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_every_student_has_a_row_a_verdict_and_a_head_of_its_own(made: Made) -> None:
    comparison, report, _ = made
    students = [row.cell for row in report.rows if row.cell.role == "student"]
    assert Counter((cell.title, cell.w) for cell in students) == EACH_ONCE
    judged = [each for each in report.verdicts if each.judged == "student"]
    assert Counter((each.title, each.w) for each in judged) == EACH_ONCE
    heads = [
        column.title
        for column in columns_of([each for each in comparison.sets if each.cell.w == 2])
        if column.student
    ]
    assert heads == [
        *("stage-1 student\n4 steps", "student\n2 steps", "student\n1 step"),
        *("stochastic\n2 steps", "stochastic\n1 step"),
    ]


def costs_in(said: VerdictTable) -> list[str]:
    return [sentence for sentence in said.sentences if " needs " in sentence]


def test_rms_is_checked_for_paired_samples_only_and_the_text_explains_it(made: Made) -> None:
    _, report, text = made
    unasked = {
        (verdict.title, check.name)
        for verdict in report.verdicts
        for check in verdict.checks
        if not check.is_bounded and (check.name, verdict.w) != ("effective w", 0)
    }
    assert unasked == {("student, 2 steps, stochastic", "RMS")}
    table = lines_of(text, "## Verdicts")
    found = {line[1]: line for line in table if line[1] in STUDENTS}
    assert [title for title, line in found.items() if "not checked" in line] == [
        "student, 2 steps, stochastic"
    ]
    assert "RMS is not checked for stochastic students" in text
    said = summarise_verdicts(report)
    assert "RMS is not checked for stochastic students" in said.bounds
    assert [title for title, cells in said.rows if "RMS is not checked" in cells[0].details] == [
        "student, 2 steps, stochastic"
    ]


def test_every_student_stands_once_in_every_table(made: Made) -> None:
    text = made[2]
    costs = Counter((line[0], line[1]) for line in lines_of(text, "## At equal cost"))
    names = ("4", "2", "1", "2, stochastic", "1, stochastic")
    assert costs == Counter((f"{w:g}", name) for w in WEIGHTS for name in names)
    verdicts = Counter((line[1], float(line[0])) for line in lines_of(text, "## Verdicts"))
    assert {key: n for key, n in verdicts.items() if key[0] in STUDENTS} == EACH_ONCE
    trade = Counter(line[0] for line in lines_of(text, "Guidance trade-off"))
    assert trade == Counter([*STUDENTS, "teacher, DDIM, 4 steps"])
    by_family = lines_of(text, "w = 0:\n")  # the first one is the sweep's
    assert [line[0] for line in by_family] == ["1", "2", "4"]
    assert [bool(line[3]) for line in by_family] == [True, True, False]
    numbers = text.split("## All metrics")[1]
    for w in WEIGHTS:
        titles = [line[0] for line in lines_of(numbers, f"w = {w:g}\n")]
        assert [title for title in titles if title in STUDENTS] == [*STUDENTS]


def test_every_student_is_a_line_or_a_point_of_its_own_in_every_figure(made: Made) -> None:
    _, report, _ = made
    # report's own figures: a line a network, with a point for each w
    assert [title for title, rows, _ in rows_by_network(report) if len(rows) == 3][1:] == [
        *STUDENTS
    ]
    charts = trade_charts(report)
    names = [name for name, _ in traces(charts, "trade-distance")]
    assert names == ["teacher, DDIM, 4 steps", *STUDENTS]
    assert [x for _, x in traces(charts, "trade-distance")] == [[*WEIGHTS]] * 6
    # against cost: of each ladder a line, with all of its students on it
    for w in WEIGHTS:
        curves = dict(traces(curve_charts(report), f"curve-{w:g}"))
        assert curves["students"] == [1, 2, 4]
        assert curves["stochastic students"] == [1, 2]


def test_what_guidance_trades_is_shown_with_the_intervals_that_are_stored(made: Made) -> None:
    _, report, text = made
    (row,) = [row for row in report.at(2.0) if row.cell.title == "student, 1 step"]
    low, high = row.scores.distance_to_real_interval
    said = f"{row.scores.distance_to_real:.2f} ({low:.2f} to {high:.2f}) / "
    traded = {line[0]: line[3] for line in lines_of(text, "Guidance trade-off")}
    assert traded[row.cell.title].startswith(said)
    costs = {(line[0], line[1]): line[2] for line in lines_of(text, "## At equal cost")}
    assert costs["2", "1"] == f"{row.scores.distance_to_real:.3f} ({low:.3f} to {high:.3f})"
    (chart,) = [each for each in trade_charts(report) if each.name == "trade-distance_to_real"]
    (line,) = [e for e in json.loads(chart.figure)["data"] if e["name"] == row.cell.title]
    at = line["x"].index(2)
    assert line["y"][at] + line["error_y"]["array"][at] == pytest.approx(high)
    assert line["y"][at] - line["error_y"]["arrayminus"][at] == pytest.approx(low)
    assert line["error_x"] == {"visible": False}  # w is no measurement


def test_the_page_summarises_the_last_student_of_each_ladder(made: Made) -> None:
    said = summarise_verdicts(made[1])
    assert [title for title, _ in said.rows] == [*STUDENTS]
    assert [len(cells) for _, cells in said.rows] == [3] * 5
    assert [sentence.partition(" needs")[0] for sentence in costs_in(said)] == [
        *("The 1-step student", "The stochastic 1-step student")
    ]
    assert all(sentence.endswith("at w = 0, 2 and 4.") for sentence in costs_in(said))


def test_no_metric_has_two_values_at_one_step(made: Made) -> None:
    report = made[1]
    chain_points, by_round = curves_of(report)
    for points in (chain_points, *by_round.values()):
        assert max(Counter((name, step) for name, _, step in points).values()) == 1
    told = {name: {s for n, _, s in chain_points if n == name} for name, _, _ in chain_points}
    assert told["chain/distance_to_real_w2"] == {4, 2, 1}
    assert told["chain/distance_to_real_w2_stochastic"] == {2, 1}
    assert sorted(by_round) == [0, 1, 2, 3, 4]
    (row,) = [each for each in report.at(2.0) if each.cell.title == "student, 1 step"]
    worst = min((row.scores.accuracy_by_class or {}).values())
    assert ("chain/worst_class_accuracy_w2", worst, 1) in chain_points
    assert ("eval/class_accuracy_w2", row.scores.class_accuracy, 1) in by_round[2]


def test_two_runs_of_both_ladders_are_compared_ladder_by_ladder(made: Made) -> None:
    report = made[1]
    both = (ComparedRun("one", page("one"), report), ComparedRun("two", page("two"), report))
    for table in tables_of(both):
        lines = Counter((side, row[0]) for side, row in zip(table.sides, table.rows, strict=True))
        assert [title for side, title in lines if side == 0][1:] == [*STUDENTS]
        assert set(lines.values()) == {1}
    assert [said.partition(":")[0] for said in summarise_distances(both)] == [
        "With 1 step",
        "With 1 step, stochastic",
    ]
    names = [name for name, _ in traces(overlay_charts(both), "curve-2")]
    assert names == [
        *("one, students", "one, stochastic students", "one, teacher"),
        *("two, students", "two, stochastic students", "two, teacher"),
    ]


def test_a_card_names_the_class_with_the_lowest_accuracy(made: Made, tmp_path: Path) -> None:
    comparison, report, _ = made
    folder = tmp_path / "report"
    folder.mkdir()
    write_report_files(report, comparison, folder)
    artifact = Artifact(kind="report", fingerprint="0", path="report", files={})
    plan = next(each for each in plan_rounds(comparison.recipe) if each.index == 2)
    facts = model_card_facts(tmp_path, artifact, plan)
    rows = {row.cell.title: row.scores.accuracy_by_class or {} for row in report.at(2.0)}
    shares, teacher = rows["student, 1 step"], rows["teacher, DDIM, 4 steps"]
    worst = min(shares, key=lambda name: shares[name])
    said = facts["w = 2: lowest class accuracy"]
    assert said.startswith(f"{worst}, {shares[worst]:.3g}")
    assert said.endswith(f"(teacher {teacher[worst]:.3g})") or not teacher[worst]


def test_deterministic_students_have_the_same_numbers_beside_stochastic_ones(made: Made) -> None:
    report = made[1]
    rows = tuple(row for row in report.rows if not row.cell.is_stochastic_student)
    alone = report.model_copy(update={"rows": rows})
    told = {name.rpartition("_w")[0] for name, _, _ in curves_of(alone)[0]}
    assert {name for name in told if name.startswith("chain/")} == {
        *("chain/distance_to_real", "chain/distance_to_teacher"),
        *("chain/recall", "chain/rms_to_teacher"),
        *("chain/class_accuracy", "chain/worst_class_accuracy"),
    }
    assert not any("stochastic" in sentence for sentence in costs_in(summarise_verdicts(alone)))
    lines = [traces(curve_charts(each), "curve-0")[0] for each in (report, alone)]
    assert lines[0] == lines[1] == ("students", [1, 2, 4])
