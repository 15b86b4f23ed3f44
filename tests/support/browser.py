"""A headless Chromium that reaches this machine only, with its logs."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1280,1000"),
    # requests to other hosts fail, with an error in the console
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@contextmanager
def open_browser(home: Path) -> Iterator[Chrome]:
    """A browser with a profile of its own below `home`."""
    options = ChromeOptions()
    options.binary_location = _found("chromium")
    for flag in (*FLAGS, f"--user-data-dir={home / 'chromium'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, ChromeService(_found("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise FileNotFoundError(f"{program} is missing; apt-get install chromium chromium-driver")
    return path


def keep_picture(driver: Chrome, name: str) -> None:
    """Save a screenshot as `NAME.png` in the folder STEPFOLD_SCREENSHOTS.

    Without that variable nothing is saved.
    """
    folder = os.environ.get("STEPFOLD_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        assert driver.save_screenshot(str(Path(folder) / f"{name}.png"))


def complaints(driver: Chrome) -> list[str]:
    """Return the pages' warnings and errors since the last call."""
    return [
        f"{entry['level']}: {entry['message']}"
        for entry in driver.get_log("browser")
        if entry["level"] in ("WARNING", "SEVERE")
    ]


def be_dark(driver: Chrome, *, dark: bool) -> None:
    """Emulate a preference for dark or light mode."""
    feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def be_wide(driver: Chrome, width: int, height: int = 900) -> None:
    """Emulate a screen of this width in CSS pixels; below 600 it is a phone."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def too_wide_by(driver: Chrome) -> int:
    """Return the horizontal overflow of a page in CSS pixels."""
    found: int = driver.execute_script(
        "const page = document.documentElement; return page.scrollWidth - page.clientWidth"
    )
    return found


def fetched(driver: Chrome) -> set[str]:
    """Return the pages' network requests since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
    return {url for url in urls if url.startswith(("http", "ws"))}
