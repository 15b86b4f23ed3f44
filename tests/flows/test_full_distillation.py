"""The chain survives kill -9 of its driver wherever it falls, and ends with the same bytes."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
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
    KILLED,
    ROOT,
    SERVERS,
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


@pytest.fixture(autouse=True, scope="module")
def orphans_end() -> Iterator[None]:
    """The embedded Prefect server of a killed driver lives on; end it with the tests."""
    yield
    for group in KILLED:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API of a Prefect server that outlives the runs that use it."""
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as settings, pytest.MonkeyPatch.context() as elsewhere:
        settings.setenv("PREFECT_HOME", str(home))
        with prefect_server(free_port(), home / "server.log") as found:
            for name in ("PREFECT_HOME", "PREFECT_API_URL"):  # other chains have their own
                elsewhere.delenv(name)
            yield found.api_url
            elsewhere.undo()


@pytest.fixture(scope="module")
def undisturbed(prefect: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("whole") / "chain"
    with pytest.MonkeyPatch.context() as settings:
        settings.setenv("PREFECT_API_URL", prefect)
        assert finish(run_dir) == 0, log_of(run_dir).read_text()[-3000:]
    return run_dir


@pytest.mark.needs_ray
@pytest.mark.nightly
def test_killed_in_three_places_it_ends_with_the_same_students(
    undisturbed: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "chain"
    kill_when(run_dir, lambda path: committed(path, "targets", "rounds/00-guidance") >= 2)
    kill_when(run_dir, has_checkpoint("00-guidance"))
    kill_when(run_dir, started("rounds/02-2-to-1/promote"))
    assert finish(run_dir) == 0, log_of(run_dir).read_text()[-3000:]
    # each run ended the Prefect server that the killed one before it had left
    assert len(SERVERS) >= 3
    assert not any(server.is_alive for server in SERVERS)
    assert student_digests(run_dir) == student_digests(undisturbed)
    assert report_of(run_dir) == report_of(undisturbed)
    assert_no_duplicate_points(run_dir)


def assert_no_duplicate_points(run_dir: Path) -> None:
    client = MlflowClient(f"sqlite:///{run_dir.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("stepfold")
    assert experiment is not None
    rounds = client.search_runs([experiment.experiment_id], "tags.kind = 'round'")
    assert sorted(run.data.params["round"] for run in rounds) == ["0", "1", "2"]
    for run in rounds:
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")]
        assert steps == [64 * update for update in range(1, 241)]
    versions = client.search_model_versions("name = 'gaussian'")
    assert len(versions) == 3


@pytest.mark.needs_ray
@pytest.mark.nightly
def test_a_finished_chain_does_nothing_when_run_again(undisturbed: Path) -> None:
    before = {
        file: file.stat().st_mtime_ns for file in (undisturbed / "rounds").rglob("*.safetensors")
    }
    page = (undisturbed / "report/index.html").read_bytes()
    assert finish(undisturbed) == 0
    assert (undisturbed / "report/index.html").read_bytes() == page
    after = {
        file: file.stat().st_mtime_ns for file in (undisturbed / "rounds").rglob("*.safetensors")
    }
    assert before == after


@pytest.mark.needs_ray
@pytest.mark.nightly
def test_encoders_join_a_finished_chain(undisturbed: Path, tmp_path: Path) -> None:
    """They are trained and evaluated; everything else, including the report, is unchanged."""
    run_dir = tmp_path / "chain"
    shutil.copytree(undisturbed, run_dir)
    before, report = student_digests(run_dir), report_of(run_dir)
    encoding = ("--set", "encoding={steps: [2, 1], updates: 20, batch_size: 64}")
    assert finish(run_dir, *encoding, "--accept-changes") == 0, log_of(run_dir).read_text()[-3000:]
    after = student_digests(run_dir)
    assert {path: after[path] for path in before} == before
    assert after.keys() - before.keys() == {"rounds/03-2-to-1-encode/student"}
    assert report_of(run_dir) == report
    assert "encoder and student, 1 + 1 steps" in (run_dir / "encoders/report.md").read_text()
    assert invoke("verify", str(run_dir))[0] == 0


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


@pytest.mark.needs_browser
@pytest.mark.needs_ray
@pytest.mark.nightly
def test_mlflows_pages_show_the_charts_of_the_chain(undisturbed: Path, tmp_path: Path) -> None:
    wanted = ("round 0: guidance", "round 2: 2 -> 1 steps", "chain/distance_to_real_w0")
    with pages_of(undisturbed, tmp_path / "output.txt") as page, open_browser(tmp_path) as driver:
        be_wide(driver, 1800, 1200)
        driver.get(page)
        wait_for_words(driver, *wanted)
        # a curve against sampling steps is drawn, through the students of all three rounds
        drawn = WebDriverWait(driver, 120)
        drawn.until(lambda _: driver.execute_script(POINTS) >= 3, "no curve is drawn")
        keep_picture(driver, "mlflow-chain")
        shown = text_of(driver)
    assert [words for words in wanted if words not in shown] == []


@pytest.mark.needs_browser
@pytest.mark.needs_ray
@pytest.mark.nightly
def test_prefects_pages_show_the_rounds(undisturbed: Path, prefect: str, tmp_path: Path) -> None:
    """The page of the chain lists its rounds; artifacts are progress bars, previews and a table."""
    runs = ask(prefect, "flow_runs/filter")
    chain = next(run for run in runs if run["parent_task_run_id"] is None)
    first = next(run for run in runs if run["name"].startswith("round 0: guidance"))
    pages = prefect.removesuffix("/api")
    with open_browser(tmp_path) as driver:
        be_wide(driver, 1600, 1400)
        open_tab(driver, f"{pages}/runs/flow-run/{chain['id']}", "subflow-runs")
        wait_for_words(driver, first["name"], "round 2: 2 -> 1 steps", "Completed")
        open_tab(driver, f"{pages}/runs/flow-run/{chain['id']}", "artifacts")
        wait_for_words(
            driver, "gaussian: finished rounds", "MLflow: charts of gaussian", "evaluate"
        )
        open_tab(driver, f"{pages}/runs/flow-run/{first['id']}", "artifacts")
        wait_for_words(driver, "gaussian-round-0", f"{first['name']}, train", "PROGRESS")
        driver.get(f"{pages}/artifacts/artifact/{newest(prefect, 'gaussian-rounds')}")
        wait_for_words(driver, "sampling steps", first["name"], "round 2: 2 -> 1 steps")
        keep_picture(driver, "prefect-rounds")
        table = text_of(driver)
    assert table.index(first["name"]) < table.index("round 2: 2 -> 1 steps")


def newest(prefect: str, key: str) -> str:
    """The id of the newest artifact under a key."""
    made = ask(prefect, "artifacts/filter", sort="CREATED_DESC")
    return str(next(each["id"] for each in made if each["key"] == key))


def open_tab(driver: Chrome, page: str, tab: str) -> None:
    driver.get(page)
    found = (By.CSS_SELECTOR, f"li#{tab}")
    WebDriverWait(driver, 120).until(lambda _: driver.find_elements(*found), tab)
    driver.find_element(*found).click()


def wait_for_words(driver: Chrome, *wanted: str) -> None:
    for words in wanted:
        WebDriverWait(driver, 120).until(lambda _, words=words: words in text_of(driver), words)


POINTS = """
return Math.max(0, ...[...document.querySelectorAll(".scatterlayer")].map(
    (layer) => layer.querySelectorAll("path.point").length))
"""


def text_of(driver: Chrome) -> str:
    return str(driver.execute_script("return document.body.innerText"))


@pytest.mark.nightly
@pytest.mark.needs_ray
def test_a_repaired_chain_has_the_bytes_it_had(undisturbed: Path, tmp_path: Path) -> None:
    """Three damages at once: damaged artifacts are computed again, their dependents are kept."""
    run_dir = tmp_path / "chain"
    shutil.copytree(undisturbed, run_dir)
    before = {a.path: a for a in Ledger(run_dir).records()}
    made = {path: (run_dir / path).stat().st_mtime_ns for path in before if "rounds/" in path}
    flip(run_dir / "data/train/shard-00000.tar", 600)
    flip(run_dir / "rounds/00-guidance/student/gaussian/tables.safetensors")
    record = run_dir / "ledger" / f"{before['report'].fingerprint[:32]}.json"
    record.write_text("{")
    assert invoke("verify", str(run_dir))[0] == 1
    assert stepfold("repair", run_dir) == 0
    assert invoke("verify", str(run_dir))[0] == 0
    after = {a.path: a for a in Ledger(run_dir).records()}
    assert after == before
    redone = [path for path in made if (run_dir / path).stat().st_mtime_ns != made[path]]
    assert redone == ["rounds/00-guidance/student"]


def stepfold(name: str, run_dir: Path) -> int:
    command = [sys.executable, "-m", "flows.cli.app", name, str(run_dir)]
    return subprocess.run(command, cwd=ROOT, timeout=600, check=False).returncode


@pytest.mark.needs_ray
@pytest.mark.nightly
def test_a_changed_recipe_keeps_the_rounds_before_the_change(undisturbed: Path) -> None:
    before = student_digests(undisturbed)
    longer = ("--set", "halving.updates=[240, 280]")
    assert finish(undisturbed, *longer) == 2  # refused with a diff
    assert student_digests(undisturbed) == before
    assert finish(undisturbed, *longer, "--accept-changes") == 0
    after = student_digests(undisturbed)
    assert [path for path in before if before[path] != after[path]] == ["rounds/02-2-to-1/student"]
