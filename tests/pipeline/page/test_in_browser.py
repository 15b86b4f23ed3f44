"""The page of a run in a real browser, loaded from a file: display and interaction."""

import base64
import io
from collections.abc import Iterator

import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from pipeline.page.render import render
from tests.support.browser import be_dark, be_wide, complaints, open_browser, too_wide_by
from tests.support.page_content import page

pytestmark = pytest.mark.needs_browser


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    place = tmp_path_factory.mktemp("page")
    (place / "index.html").write_text(render(page("digits")), encoding="utf-8")
    with open_browser(place) as driver:
        driver.get((place / "index.html").as_uri())
        yield driver


def shown(driver: Chrome, selector: str) -> list[WebElement]:
    return [each for each in driver.find_elements(By.CSS_SELECTOR, selector) if each.is_displayed()]


def press(driver: Chrome, kind: str, words: str) -> None:
    for label in shown(driver, f"{kind} label"):
        if words in label.text:
            label.click()


def png_data_uri(element: WebElement) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(element.screenshot_as_base64))).convert("L")


def shade(element: WebElement) -> float:
    """Return the displayed grey value in the upper left sample, 0 to 255."""
    image = png_data_uri(element)
    return float(image.getpixel((image.width // 10, image.height // 8)))


def inks(driver: Chrome) -> list[str]:
    """Return the colours of visible axis titles, read at once because charts may be redrawn."""
    found: list[str] = driver.execute_script(
        "return [...document.querySelectorAll('.plot .xtitle')]"
        ".filter(each => each.checkVisibility()).map(each => getComputedStyle(each).fill)"
    )
    return found


def paper(driver: Chrome) -> str:
    return str(driver.execute_script("return getComputedStyle(document.body).backgroundColor"))


def test_it_loads_without_a_complaint_and_draws_its_charts(driver: Chrome) -> None:
    assert complaints(driver) == []
    assert "digits" in driver.title
    charts = shown(driver, ".plot")
    assert len(charts) == 3  # that of the weight chosen, and two for all
    for chart in charts:
        assert chart.find_elements(By.CSS_SELECTOR, "path.js-line")


def test_another_guidance_weight_is_another_picture_and_chart(driver: Chrome) -> None:
    for w in ("1", "2.5"):
        press(driver, ".chooser", f"w = {w}")
        weights = [each.get_attribute("data-w") for each in shown(driver, ".at")]
        # samples and curve; the encoders' picture and table are of w = 1
        assert weights == [w] * (4 if w == "1" else 2)
        (chart,) = shown(driver, ".at .plot")
        assert chart.find_elements(By.CSS_SELECTOR, "path.js-line")
    assert complaints(driver) == []


def test_another_network_is_another_picture_and_pointing_shows_the_teacher(
    driver: Chrome,
) -> None:
    found = []
    for title in ("4 steps", "digits, 1 step"):
        press(driver, ".tabs", title)
        (student,) = shown(driver, ".other")
        assert title in student.text
        image = student.find_element(By.CSS_SELECTOR, ".stack")
        ActionChains(driver).move_to_element(driver.find_element(By.TAG_NAME, "h1")).perform()
        driver.execute_async_script("setTimeout(arguments[0], 400)")  # it fades
        found.append(shade(image))
        ActionChains(driver).move_to_element(image).perform()
        driver.execute_async_script("setTimeout(arguments[0], 400)")
        teacher = shown(driver, ".pair > figure:not(.other) img")[0]
        assert shade(image) == pytest.approx(shade(teacher), abs=2)
    # shades of 0 and -0.8 in [-1, 1], each of 0.1 of noise
    assert found[0] - found[1] > 60


def test_without_scripts_paper_has_the_teacher_and_every_other_network(driver: Chrome) -> None:
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    driver.refresh()
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    pictures = shown(driver, ".pair > figure img")
    said = [picture.get_attribute("alt") or "" for picture in pictures]
    assert [words.startswith("samples of the teacher, DDIM, 8") for words in said] == (
        2 * [True, False, False, False]
    )
    assert all(int(picture.get_attribute("naturalWidth") or 0) > 0 for picture in pictures)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    driver.refresh()
    assert complaints(driver) == []


def test_it_follows_the_preference_for_dark_mode(driver: Chrome) -> None:
    for dark, sheet, ink in (
        (False, "rgb(255, 255, 255)", "rgb(34, 38, 46)"),
        (True, "rgb(21, 24, 30)", "rgb(231, 233, 238)"),
    ):
        be_dark(driver, dark=dark)
        WebDriverWait(driver, 10).until(lambda driver, ink=ink: set(inks(driver)) == {ink})
        assert paper(driver) == sheet
    be_dark(driver, dark=False)


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_is_scrolled_sideways_on_a_phone(driver: Chrome, width: int) -> None:
    be_wide(driver, width)
    driver.execute_async_script("setTimeout(arguments[0], 300)")  # charts follow
    assert too_wide_by(driver) == 0
    for chart in shown(driver, ".plot"):
        assert chart.rect["width"] <= width
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_on_paper_every_weight_is_shown_in_ink_and_no_button(driver: Chrome) -> None:
    be_dark(driver, dark=True)
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")  # while it is on a screen
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert paper(driver) == "rgb(255, 255, 255)"
    titles = inks(driver)
    assert len(titles) == 4
    assert set(titles) <= {"rgb(34, 38, 46)", "rgb(0, 0, 0)"}
    wash = driver.find_element(By.CSS_SELECTOR, ".fail").value_of_css_property("background-color")
    assert wash == "rgba(249, 233, 231, 1)"
    assert shown(driver, ".chooser") == shown(driver, ".tabs") == []
    weights = [each.get_attribute("data-w") for each in shown(driver, ".at")]
    # samples, curves, all numbers and accuracy by class, unfolded; the encoders' picture and table
    assert weights == ["1", "2.5"] * 4 + ["1"] * 2
    assert all(
        chart.find_elements(By.CSS_SELECTOR, "path.js-line") for chart in shown(driver, ".plot")
    )
    driver.execute_script("dispatchEvent(new Event('afterprint'))")
    assert driver.find_elements(By.CSS_SELECTOR, "details[open]") == []
    be_dark(driver, dark=False)
    pdf = driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert base64.b64decode(pdf).startswith(b"%PDF")
    assert complaints(driver) == []
