"""HTML reports of whole runs, from their directories only."""

import io
import shutil
from pathlib import Path

import pytest

from flows.cli.console import open_console
from flows.cli.run import show_summary
from infra.process.machines import describe_machine_with, record_machine
from pipeline.evaluation.documents import read_report
from pipeline.evaluation.reports.comparisons import card_facts
from pipeline.evaluation.reports.report_summary import ReportView
from pipeline.evaluation.tables import format_estimate, metric_of
from pipeline.training.plan import plan_rounds
from stages.report.compare import write_comparison
from stages.report.page import build_page, page_of, remove_page, write_page
from stages.report.stage_costs import costs_of
from stages.report.usage import _Chosen, _usage
from tests.support.page_reader import PageReader, read_page
from tests.support.page_run import PageRun, make_page_run
from tests.support.recipes import shipped_recipe

HOUR = 36.0


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[PageRun, PageRun]:
    """Two runs without their original data."""
    root = tmp_path_factory.mktemp("pages")
    made = make_page_run(root / "first"), make_page_run(root / "second", off=1.12)
    before = costs_of(made[0].run_dir, made[0].recipe, {})
    for each in made:
        shutil.rmtree(each.source)
    assert costs_of(made[0].run_dir, made[0].recipe, {}) == before
    # 4 of the 12 scans of each digit are held out; a guided target evaluates the teacher
    # twice, or once at w = 0 (a quarter of them), an update the student 128 times, and each tuple
    # is drawn twice at most
    guidance = next(row for row in before if row.title.startswith("round 0"))
    passes = 600 * 128 // (2 * 80)
    assert guidance.evaluations == round(1.75 * 3 * 80 * passes) + 600 * 128
    return made


@pytest.fixture(scope="module")
def page(runs: tuple[PageRun, PageRun]) -> PageReader:
    run_dir = runs[0].run_dir
    node = {"Alive": True, "Resources": {"CPU": 16.0, "GPU": 2.0, "accelerator_type:H100": 1.0}}
    record_machine(describe_machine_with([node], is_local=True), run_dir)
    return read_page(write_page(run_dir, runs[0].recipe, HOUR))


def test_the_original_data_may_be_missing(page: PageReader) -> None:
    assert page.fetched == []
    assert (
        "A guided unet teacher, distilled into students that sample in 4, 2 and 1 steps, "
        in page.text
    )
    assert "deterministic and stochastic, and take the guidance weight w" in page.text


def test_every_number_has_its_interval_and_protocol_in_a_table(page: PageReader) -> None:
    numbers = page.text.partition("All metrics")[2]
    heads = ("KID", "precision", "density", "coverage", "PSNR", "SSIM", "accuracy", "FID")
    assert [head for head in heads if head not in numbers] == []
    assert "0.0022 (0.0020 to 0.0024)" in numbers  # KID of the student of four steps
    assert "In the features of InceptionV3 (FID)" in numbers
    assert "9: 89.5% (82.3% to 96.7%)" in numbers  # the worst class of the teacher
    assert "network evaluations 0 1 2 3 4 5 6 7 8 9" in numbers.partition("Accuracy by class")[2]
    protocols = numbers.partition("Metric protocols")[2]
    assert "(Naeem et al. 2020, arXiv:2002.09797)" in protocols


def test_page_markdown_terminal_and_card_show_the_same_numbers(
    runs: tuple[PageRun, PageRun], page: PageReader
) -> None:
    folder = runs[0].run_dir / "report"
    report = read_report(folder)
    view, markdown = ReportView(report), (folder / "report.md").read_text(encoding="utf-8")
    console = open_console(file=io.StringIO(), width=200, color_system=None)
    show_summary(console, runs[0].run_dir, {})
    assert isinstance(console.file, io.StringIO)
    terminal = console.file.getvalue()
    for sentence in view.judgement.sentences:
        assert all(sentence in text for text in (page.text, markdown, view.summary))
        assert sentence in " ".join(terminal.split())
    for table in (*view.tables, *view.by_class, *view.protocols):
        assert table.markdown in markdown
        for row in table.rows:
            assert " ".join(" ".join(row).split()) in page.text
    (row,) = [r for r in report.rows if (r.cell.title, r.cell.w) == ("student, 4 steps", 2.0)]
    value, interval = metric_of(row, "distance_to_real") or (0.0, None)
    cells = next(each for each in view.tables[3].rows if each[0] == row.cell.title)
    assert cells[2] == format_estimate((value, interval))
    line = next(line for line in terminal.splitlines() if line.startswith("student, 4 steps "))
    assert line.split()[4] == f"{value:.3g}"
    facts = card_facts(report, row.cell.round or 0)
    said = facts["w = 2: Frechet distance to held-out images, not FID"]
    assert said.startswith(f"{value:.3g} (teacher ")


def test_ratios_of_the_verdict_have_the_intervals_that_were_measured(page: PageReader) -> None:
    judged = page.text.partition("Verdicts")[2]
    # 1.6 times as far as the teacher, known to 4 %
    assert "distance 1.6 (1.54 to 1.66), required at most 1.2" in judged
    assert "all checks pass distance 1.1 (1.06 to 1.14)" in judged


def test_the_page_has_the_encoders_report(page: PageReader) -> None:
    assert "RMS of the round trip with 2 + 2 steps: 0.100 " in page.text
    students, teacher = page.charts["round-trip"]["data"]
    assert (students["x"], teacher["x"]) == ([2, 4, 8], [64])
    assert students["y"] == pytest.approx([0.1, 0.07, 0.055])
    assert students["error_y"]["array"] == pytest.approx([0.008, 0.0056, 0.0044])
    for w in ("0", "2", "4"):
        assert {f"became-{w}", f"kept-{w}"} <= page.charts.keys()
    # those of the report are larger than grids of samples
    assert sum(picture.size[0] > 1000 for picture in page.pictures) == 3
    # edits have no round trip
    assert "student, edit at 0.5, 2 of 4 steps 2 - " in page.text
    assert "at t = 1, where nothing remains of the source." in page.text


def test_every_row_has_its_money_and_all_of_it_is_the_sum(
    runs: tuple[PageRun, PageRun], page: PageReader
) -> None:
    run = runs[0]
    seconds = {"data": 100.0, "rounds/01-8-to-4/train": 50.0, "else": 7.0}
    rows = costs_of(run.run_dir, run.recipe, seconds, HOUR)
    money = {row.title: row.money for row in rows if row.money}
    expected = {"shard the data": 1.0, "round 1: 8 -> 4 steps": 0.5, "other": 0.07}
    assert money == pytest.approx(expected)
    assert "total cost, at 36 per hour 23.25" in page.text
    table = page.text.rpartition(" Cost ")[2]
    assert "other time price shard the data 1:00 0.60 teacher" in table
    assert "38:45 23.25 Price: time of each row at 36 per hour" in table


def test_usage_has_the_shortest_passing_student_and_the_shortest(page: PageReader) -> None:
    use = page.text.rpartition(" Usage ")[2].partition("Provenance")[0]
    assert "4 steps, passes every check at w = 0, 2 and 4" in use
    assert "stepfold sample rounds/01-8-to-4/student --steps 4 --guidance-weight 2" in use
    assert "1 step, fewest steps" in use
    assert "stepfold sample rounds/03-2-to-1/student --steps 1" in use


def test_the_machine_is_that_of_the_run_or_unknown(
    runs: tuple[PageRun, PageRun], page: PageReader
) -> None:
    assert "GPUs of workers 2 x H100" in page.text
    other = build_page(runs[1].run_dir, runs[1].recipe, None)
    assert other.environment[0] == ("machine", "not recorded")
    assert (other.money, other.price) == (None, "")


def test_two_runs_are_shown_as_each_is_by_itself(
    runs: tuple[PageRun, PageRun], page: PageReader, tmp_path: Path
) -> None:
    one, two = ((each.run_dir, each.recipe) for each in runs)
    write_comparison(one, two, tmp_path / "both.html", HOUR)
    both = read_page(tmp_path / "both.html")
    assert both.fetched == []
    assert "different evaluation protocols" not in both.text
    # pass or fail, where it was made, how to draw: all that the one page has
    words = (
        *("all checks pass distance 1.1 (1.06 to 1.14)", "distance 1.23 (1.18 to 1.28), required"),
        *("GPUs of workers 2 x H100", "not recorded"),
        "stepfold sample rounds/01-8-to-4/student --steps 4",
        "stepfold sample rounds/00-guidance/student --steps 16",
    )
    assert [each for each in words if each not in both.text] == []
    shared = {name for name in page.charts if name.startswith(("curve", "inception", "clip"))}
    own = page.charts.keys() - shared
    assert {"training", "trade-recall", "round-trip"} <= own
    assert both.charts.keys() == shared | {f"{name}-{place}" for name in own for place in (0, 1)}
    names = [trace["name"] for trace in both.charts["inception-distance_to_real-2"]["data"]]
    assert [name.partition(", ")[2] for name in names] == [
        *("students", "stochastic students", "teacher") * 2
    ]
    trips = [both.charts[f"round-trip-{place}"]["data"][0]["y"][0] for place in (0, 1)]
    assert trips == pytest.approx([0.1, 0.112])


def test_an_outdated_page_is_removed(tmp_path: Path) -> None:
    place = page_of(tmp_path)
    place.parent.mkdir()
    place.touch()
    remove_page(tmp_path)
    remove_page(tmp_path)
    assert not place.exists()


def test_usage_of_an_exported_script_is_its_command(tmp_path: Path) -> None:
    recipe = shipped_recipe("digits")
    plan = plan_rounds(recipe)[-1]
    folder = f"pipelines/{plan.student_steps}-steps"
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "sample.py").touch()
    assert plan.student_steps is not None
    used = _usage(tmp_path, recipe, _Chosen(plan, plan.student_steps, 1.5, "fewest steps"))
    assert used.lines == (
        f"python {folder}/sample.py --steps {plan.student_steps} --w 1.5 --labels 0 1",
    )
