"""`stepfold play` over real HTTP, and in a real browser."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from tests.support.browser import (
    be_wide,
    complaints,
    fetched,
    keep_picture,
    open_browser,
    too_wide_by,
)
from tests.support.doors import Watch
from tests.support.playable import FOUR, playable_run
from tests.support.terminal import command, environment, invoke

pytestmark = pytest.mark.needs_browser

PATIENCE = 240  # seconds, on a machine that is busy


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return playable_run(tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture(scope="module")
def address(run_dir: Path) -> Iterator[str]:
    teacher = str(run_dir / "teacher")
    process = subprocess.Popen(
        command("play", str(run_dir), "--teacher", teacher, "--port", "0"),
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with Watch(process.pid) as watch:
        address = process.stdout.readline().strip()
        assert process.stdout.readline() == "Ctrl-C stops it.\n"
        yield address
    os.kill(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert rest == "Stopped.\n"
    assert watch.doors == set()  # only this machine can connect


def ask(address: str, host: str | None = None, **question: Any) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/json", **({"Host": host} if host else {})}
    request = urllib.request.Request(
        f"{address}/draw", json.dumps(question).encode(), headers=headers
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        body = error.read()
        return error.code, json.loads(body) if body.startswith(b"{") else {}


def test_pictures_come_over_http_and_refusals_in_words(address: str) -> None:
    good = {"who": "student", "student": 2, "w": 2.0, "label": 3, "count": 4}
    status, answer = ask(address, **good)
    assert (status, answer["title"], answer["evaluations"]) == (200, "1 step", 1)
    assert answer["picture"].startswith("data:image/png;base64,")
    assert ask(address, **good)[1]["picture"] == answer["picture"]
    status, answer = ask(address, **{**good, "w": 99})
    assert (status, "w = 99" in answer["error"]) == (400, True)
    status, answer = ask(address, **{**good, "seed": -1})
    assert (status, answer["error"]) == (422, "seed: Input should be greater than or equal to 0")
    assert ask(address, host="elsewhere.invalid", **good)[0] == 400


def test_a_person_draws_with_student_and_teacher(address: str, tmp_path: Path) -> None:
    with open_browser(tmp_path) as driver:
        driver.get(address)
        seen = {}
        for title in ("1 step", "4 steps"):
            choose(driver, title)
            wait_for_pictures(driver)
            figures = driver.find_elements(By.CSS_SELECTOR, "figure")
            student, teacher = [each.text.split("\n") for each in figures]
            assert (student[0], teacher[0]) == (title, "teacher, 64 steps")
            evaluations = int(title[0])
            counted = f"{evaluations} network evaluation{'' if evaluations == 1 else 's'} each"
            assert student[1].endswith(f" ms, 8 samples, {counted}")
            assert teacher[1].endswith(" ms, 8 samples, 128 network evaluations each")
            seen[title] = figures[0].find_element(By.TAG_NAME, "img").get_attribute("src")
        assert seen["1 step"] != seen["4 steps"]
        assert not driver.find_element(
            By.NAME, "student_steps"
        ).is_enabled()  # its own number is all it draws in
        choose(driver, "stage 1")
        wait_for_pictures(driver)
        for who, steps in (("student", "2"), ("teacher", "4")):
            Select(driver.find_element(By.NAME, f"{who}_steps")).select_by_value(steps)
            wait_for_pictures(driver)
        texts = [each.text for each in driver.find_elements(By.CSS_SELECTOR, "figure")]
        assert texts[0].startswith("stage 1, 2 steps\n")
        assert texts[0].endswith("2 network evaluations each")
        assert texts[1].startswith("teacher, 4 steps\n")
        assert texts[1].endswith("8 network evaluations each")
        keep_picture(driver, "play")
        choose(driver, "4 steps")
        wait_for_pictures(driver)
        keep_picture(driver, "play-own-steps")
        driver.find_element(By.ID, "another").click()
        wait_for_pictures(driver)
        image = driver.find_element(By.CSS_SELECTOR, "[data-who=student] img")
        assert image.get_attribute("src") != seen["4 steps"]
        be_wide(driver, 360)
        assert too_wide_by(driver) == 0
        keep_picture(driver, "play-phone")
        assert complaints(driver) == []
        assert fetched(driver) == {f"{address}/", f"{address}/draw"}


def choose(driver: Any, title: str) -> None:
    """Choose a student."""
    labels = driver.find_elements(By.CSS_SELECTOR, ".tabs label")
    next(label for label in labels if label.text == title).click()


def wait_for_pictures(driver: Any) -> None:
    """Wait until both images are shown, for the latest request."""
    deadline = time.monotonic() + PATIENCE
    while driver.find_elements(By.CSS_SELECTOR, "figure.old, img[hidden]"):
        assert time.monotonic() < deadline, driver.find_element(By.TAG_NAME, "main").text
        time.sleep(0.1)


def test_a_port_that_is_taken_and_a_place_without_a_student_are_refused(
    address: str, run_dir: Path, tmp_path: Path
) -> None:
    code, output = invoke("play", str(run_dir / FOUR), "--port", address.rpartition(":")[2])
    assert code == 2
    assert "is in use by another program" in output
    code, output = invoke("play", str(tmp_path))
    assert code == 2
    assert "neither a student's bundle nor a run with students" in output
