"""A finished chain is resumed, extended, repaired and displayed; a killed one gives its bytes."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from flows.orchestration.server import prefect_server
from pipeline.ledger import Ledger
from tests.support.asking_prefect import ask
from tests.support.browser import be_wide, keep_picture, open_browser
from tests.support.chain import (
    INLINE,
    KILLED,
    ROOT,
    SERVERS,
    SMALLEST,
    committed,
    finish,
    has_checkpoint,
    kill_when,
    log_of,
    report_of,
    started,
    student_digests,
)
from tests.support.doors import free_port
from tests.support.small_run import flip
from tests.support.terminal import command, invoke

pytestmark = pytest.mark.needs_ray

ROUNDS = ("round 0: guidance", "round 1: 2 -> 1 steps")
LAST = "rounds/01-2-to-1"


def resume(run_dir: Path, *more: str) -> None:
    assert finish(run_dir, *INLINE, *more, sets=SMALLEST) == 0, log_of(run_dir).read_text()[-3000:]


def times_of(run_dir: Path, pattern: str) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in run_dir.rglob(pattern)}


def test_a_finished_chain_does_nothing_when_run_again(finished_copy: Path) -> None:
    resume(finished_copy)
    before = times_of(finished_copy / "rounds", "*.safetensors")
    page = (finished_copy / "report/index.html").read_bytes()
    resume(finished_copy)
    assert (finished_copy / "report/index.html").read_bytes() == page
    assert times_of(finished_copy / "rounds", "*.safetensors") == before


def test_encoders_join_a_finished_chain(finished_copy: Path) -> None:
    """Only encoders are trained and evaluated; everything else, the report too, is unchanged."""
    before, report = student_digests(finished_copy), report_of(finished_copy)
    encoding = ("--set", "encoding={steps: [2, 1], updates: 12, batch_size: 32}")
    resume(finished_copy, *encoding, "--accept-changes")
    after = student_digests(finished_copy)
    assert {path: after[path] for path in before} == before
    assert after.keys() - before.keys() == {"rounds/02-2-to-1-encode/student"}
    assert report_of(finished_copy) == report
    assert "encoder and student, 1 + 1 steps" in (finished_copy / "encoders/report.md").read_text()
    assert invoke("verify", str(finished_copy))[0] == 0


def test_a_repaired_chain_has_the_bytes_it_had(finished_copy: Path) -> None:
    """Three damaged artifacts are recomputed, and their dependents are kept."""
    before = {a.path: a for a in Ledger(finished_copy).records()}
    places = [path for path in before if path.startswith("rounds/")]
    made = {path: (finished_copy / path).stat().st_mtime_ns for path in places}
    flip(finished_copy / "data/train/shard-00000.tar", 600)
    flip(finished_copy / "rounds/00-guidance/student/gaussian/tables.safetensors")
    record = finished_copy / "ledger" / f"{before['report'].fingerprint[:32]}.json"
    record.write_text("{")
    assert invoke("verify", str(finished_copy))[0] == 1
    repair = command("repair", str(finished_copy))
    assert subprocess.run(repair, cwd=ROOT, timeout=600, check=False).returncode == 0
    assert invoke("verify", str(finished_copy))[0] == 0
    assert {a.path: a for a in Ledger(finished_copy).records()} == before
    redone = [path for path in places if (finished_copy / path).stat().st_mtime_ns != made[path]]
    assert redone == ["rounds/00-guidance/student"]


def test_a_changed_recipe_keeps_the_rounds_before_the_change(finished_copy: Path) -> None:
    before = student_digests(finished_copy)
    longer = ("--set", "halving.updates=16")
    assert finish(finished_copy, *INLINE, *longer, sets=SMALLEST) == 2  # refused with a diff
    assert student_digests(finished_copy) == before
    resume(finished_copy, *longer, "--accept-changes")
    after = student_digests(finished_copy)
    assert [path for path in before if before[path] != after[path]] == [f"{LAST}/student"]


@pytest.fixture
def no_orphans() -> Iterator[None]:
    """Stop the Prefect server that a killed driver leaves running."""
    yield
    for group in KILLED:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


@pytest.mark.nightly
@pytest.mark.usefixtures("no_orphans")
def test_killed_in_three_places_it_ends_with_the_same_students(
    finished_chain: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "chain"
    for condition in (
        lambda path: committed(path, "targets", "rounds/00-guidance") >= 2,
        has_checkpoint("00-guidance"),
        started(f"{LAST}/promote"),
    ):
        kill_when(run_dir, condition, sets=SMALLEST)
    assert finish(run_dir, sets=SMALLEST) == 0, log_of(run_dir).read_text()[-3000:]
    # each run ended the Prefect server that the killed one before it had left
    assert len(SERVERS) >= 3
    assert not any(server.is_alive for server in SERVERS)
    assert student_digests(run_dir) == student_digests(finished_chain)
    assert report_of(run_dir) == report_of(finished_chain)
    client = MlflowClient(f"sqlite:///{run_dir.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("stepfold")
    assert experiment is not None
    rounds = client.search_runs([experiment.experiment_id], "tags.kind = 'round'")
    assert sorted(run.data.params["round"] for run in rounds) == ["0", "1"]
    for run in rounds:
        points = client.get_metric_history(run.info.run_id, "train/loss")
        steps = [point.step for point in points]
        assert len(set(steps)) == len(steps) >= 3
        assert steps[-1] == 12 * 32
    assert len(client.search_model_versions("name = 'gaussian'")) == 2


@contextlib.contextmanager
def pages_of(run_dir: Path, output: Path) -> Iterator[str]:
    """Run `stepfold ui` on a run; yields the address that it prints."""
    words = ("ui", "--run-dir", str(run_dir), "--port", str(free_port()))
    with output.open("wb") as sink:
        process = subprocess.Popen(command(*words), cwd=ROOT, stdout=sink, stderr=sink)
    try:
        while "Ctrl-C stops it" not in output.read_text():
            assert process.poll() is None, output.read_text()
            time.sleep(0.2)
        yield output.read_text().split()[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


POINTS = """
return Math.max(0, ...[...document.querySelectorAll(".scatterlayer")].map(
    (layer) => layer.querySelectorAll("path.point").length))
"""


@pytest.mark.needs_browser
@pytest.mark.nightly
def test_mlflows_pages_show_the_charts_of_the_chain(finished_copy: Path, tmp_path: Path) -> None:
    wanted = (*ROUNDS, "chain/distance_to_real_w1")
    with (
        pages_of(finished_copy, tmp_path / "output.txt") as page,
        open_browser(tmp_path) as driver,
    ):
        be_wide(driver, 1800, 1200)
        driver.get(page)
        wait_for_words(driver, *wanted)
        # a curve against sampling steps is drawn, through the students of both rounds
        drawn = WebDriverWait(driver, 120)
        drawn.until(lambda _: driver.execute_script(POINTS) >= 2, "no curve is drawn")
        keep_picture(driver, "mlflow-chain")
        shown = text_of(driver)
    assert [words for words in wanted if words not in shown] == []


@pytest.mark.needs_browser
@pytest.mark.nightly
def test_prefects_pages_show_the_rounds(finished_copy: Path, tmp_path: Path) -> None:
    """The page of the chain lists its rounds; artifacts are progress bars, previews and a table."""
    with (
        prefect_server(free_port(), tmp_path / "server.log") as server,
        open_browser(tmp_path) as driver,
    ):
        prefect, pages = server.api_url, server.api_url.removesuffix("/api")
        runs = ask(prefect, "flow_runs/filter")
        chain = next(run for run in runs if run["parent_task_run_id"] is None)
        first = next(run for run in runs if run["name"].startswith(ROUNDS[0]))
        be_wide(driver, 1600, 1400)
        open_tab(driver, f"{pages}/runs/flow-run/{chain['id']}", "subflow-runs")
        wait_for_words(driver, first["name"], ROUNDS[1], "Completed")
        open_tab(driver, f"{pages}/runs/flow-run/{chain['id']}", "artifacts")
        wait_for_words(
            driver, "gaussian: finished rounds", "MLflow: charts of gaussian", "evaluate"
        )
        open_tab(driver, f"{pages}/runs/flow-run/{first['id']}", "artifacts")
        wait_for_words(driver, "gaussian-round-0", f"{first['name']}, train", "PROGRESS")
        made = ask(prefect, "artifacts/filter", sort="CREATED_DESC")
        newest = next(each["id"] for each in made if each["key"] == "gaussian-rounds")
        driver.get(f"{pages}/artifacts/artifact/{newest}")
        wait_for_words(driver, "sampling steps", first["name"], ROUNDS[1])
        keep_picture(driver, "prefect-rounds")
        table = text_of(driver)
    assert table.index(first["name"]) < table.index(ROUNDS[1])


def open_tab(driver: Chrome, page: str, tab: str) -> None:
    driver.get(page)
    found = (By.CSS_SELECTOR, f"li#{tab}")
    WebDriverWait(driver, 120).until(lambda _: driver.find_elements(*found), tab)
    driver.find_element(*found).click()


def wait_for_words(driver: Chrome, *wanted: str) -> None:
    for words in wanted:
        WebDriverWait(driver, 120).until(lambda _, words=words: words in text_of(driver), words)


def text_of(driver: Chrome) -> str:
    return str(driver.execute_script("return document.body.innerText"))
