"""The page of the user study in a real Chromium, driven as a rater would: keys, taps, a reload."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from chromium import Browser, in_browser, requested, started, to_save_in
from conftest import TINY, Result
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from dida_cli import checkpoint
from dida_cli.config import Domains
from dida_cli.evaluate import study

pytestmark = in_browser
ITEMS, QUESTIONS = 4, 3  # two models, one pair each way

Dida = Callable[..., Result]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser with a profile of its own that logs its console and every request."""
    driver = started(tmp_path_factory.mktemp("profile"), "--window-size=900,1000")
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Browser, tmp_path: Path) -> Iterator[Browser]:
    """The browser without a memory; afterwards nothing went wrong in it or out of it."""
    to_save_in(chromium, tmp_path / "downloads")
    yield chromium
    assert chromium.get_log("browser") == []
    assert {url.partition(":")[0] for url in requested(chromium)} <= {"file", "data", "blob"}
    chromium.execute_script("localStorage.clear()")


@pytest.fixture
def page(dida: Dida, tmp_path: Path) -> Path:
    """A study of two models, plum and fig."""
    options: list[object] = []
    for seed, name in enumerate(("plum", "fig")):
        torch.manual_seed(seed)
        network = checkpoint.build(TINY).eval()
        checkpoint.write_folder(tmp_path / name, checkpoint.model_files(network, "# tiny\n"))
        options += ["-m", tmp_path / name]
    out = tmp_path / "study.html"
    assert dida("study", "make", *options, "--pairs", 1, "-o", out).code == 0
    return out


def press(browser: Browser, *keys: str) -> None:
    for key in keys:
        ActionChains(browser).send_keys(key).perform()


def text(browser: Browser, name: str) -> str:
    return browser.find_element("id", name).text


def chosen(browser: Browser) -> list[int | None]:
    """What is answered on the picture shown, question by question."""
    groups = browser.find_elements("css selector", "[role=radiogroup]")
    radios = [group.find_elements("tag name", "input") for group in groups]
    return [next((i for i, r in enumerate(rs, 1) if r.is_selected()), None) for rs in radios]


def asked(browser: Browser) -> str:
    """The question that has the focus, by its accessible name."""
    focused = browser.switch_to.active_element
    return str(focused.find_element("xpath", "ancestor::fieldset").accessible_name)


def stored(browser: Browser) -> dict[str, Any]:
    (shelf,) = browser.execute_script("return Object.values(localStorage)")
    return json.loads(shelf)  # type: ignore[no-any-return]


def downloaded(folder: Path, browser: Browser) -> Path:
    def finished(_: Browser) -> list[Path]:
        return list(folder.glob("answers-*.json")) if folder.exists() else []

    (path,) = WebDriverWait(browser, 10).until(finished)
    return path


def test_a_study_by_keyboard_alone(browser: Browser, page: Path, dida: Dida) -> None:
    browser.get(page.as_uri())
    assert text(browser, "place") == f"1 of {ITEMS}"
    assert asked(browser).endswith("removed?")
    press(browser, "5")
    assert asked(browser).endswith("added?")
    press(browser, "4", "3")
    assert text(browser, "place") == f"2 of {ITEMS}" and chosen(browser) == [None] * 3
    press(browser, "2")

    browser.refresh()  # answers are there, and so is the place
    assert text(browser, "place") == f"2 of {ITEMS}" and chosen(browser) == [2, None, None]
    assert asked(browser).endswith("added?")
    bar = browser.find_element("id", "bar")
    assert (bar.get_property("value"), bar.get_property("max")) == (4, ITEMS * QUESTIONS)

    press(browser, Keys.ARROW_LEFT, Keys.BACKSPACE)  # to the last question of the first picture
    assert text(browser, "place") == f"1 of {ITEMS}" and chosen(browser) == [5, 4, 3]
    press(browser, "1", Keys.ARROW_RIGHT)  # changed; on past an answer that stays
    assert chosen(browser) == [2, None, None] and asked(browser).endswith("added?")
    press(browser, *"11", *"222", *"333")
    assert text(browser, "thanks") == "Thank you"
    press(browser, Keys.ENTER)  # the export has the focus

    answers = downloaded(page.parent / "downloads", browser)
    shown = browser.find_element("id", "text").get_property("value")
    assert answers.read_text() == shown and browser.switch_to.active_element.is_displayed()
    given = [
        list(ratings.values()) for ratings in json.loads(answers.read_text())["answers"].values()
    ]
    assert given == [[5, 4, 1], [2, 1, 1], [2, 2, 2], [3, 3, 3]]

    key = page.with_suffix(".key.json")
    result = dida("study", "score", answers, "--key", key, "--json")
    assert result.code == 0 and result.err == ""
    items = json.loads(key.read_text())["items"].values()
    for item, ratings in zip(items, given, strict=True):
        scores = json.loads(result.out)["scores"][item["model"]][item["way"]]
        assert [score["mean"] for score in scores.values()] == ratings


def test_a_study_by_taps_on_a_phone(browser: Browser, page: Path) -> None:
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        browser.get(page.as_uri())
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width == 360  # nothing to scroll sideways
        for value, question in ((2, 0), (3, 1), (4, 2)):
            labels = browser.find_elements(
                "css selector", f"fieldset:nth-child({question + 1}) label"
            )
            assert labels[value - 1].size["height"] >= 40 and labels[value - 1].size["width"] >= 40
            labels[value - 1].click()
        assert text(browser, "place") == f"2 of {ITEMS}"
        browser.find_element("id", "back").click()
        assert text(browser, "place") == f"1 of {ITEMS}" and chosen(browser) == [2, 3, 4]
        for _ in range(ITEMS):
            browser.find_element("id", "next").click()
        assert text(browser, "left").startswith("9 of 12 questions are still open.")
        browser.find_element("id", "finish").click()  # some answers are better than none
        answers = downloaded(page.parent / "downloads", browser)
        assert json.loads(answers.read_text())["answers"] == stored(browser)["answers"]
        browser.find_element("id", "missing").click()
        assert text(browser, "place") == f"2 of {ITEMS}"
        press(browser, "1")
        assert not browser.find_element("id", "text").is_displayed()  # it no longer is all
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_radios_work_as_radios_do(browser: Browser, page: Path) -> None:
    """Up and down choose and stay, Tab goes on to the next question, each has its name."""
    browser.get(page.as_uri())
    groups = browser.find_elements("css selector", "[role=radiogroup]")
    for group in groups:
        assert group.accessible_name == group.find_element("tag name", "legend").text
    names = [radio.accessible_name for radio in groups[0].find_elements("tag name", "input")]
    assert names == ["1, not at all", "2", "3", "4", "5, completely"]
    press(browser, Keys.SPACE, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert chosen(browser) == [3, None, None] and asked(browser).endswith("removed?")
    press(browser, Keys.TAB)
    assert asked(browser).endswith("added?")
    seen = browser.switch_to.active_element.find_element("xpath", "following-sibling::span")
    assert seen.value_of_css_property("outline-style") == "solid"  # the focus is to be seen
    press(browser, "5")
    assert chosen(browser) == [3, 5, None] and asked(browser).endswith("preserved?")
    (ratings,) = stored(browser)["answers"].values()
    assert ratings == {"removed": 3, "added": 5}


def test_a_key_held_down_answers_once_and_shortcuts_answer_nothing(
    browser: Browser, page: Path
) -> None:
    browser.get(page.as_uri())
    for repeated in (False, True, True):
        key = {"type": "keyDown", "key": "4", "text": "4", "autoRepeat": repeated}
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", key)
    for modifier in (1, 2, 4):  # Alt, Ctrl, Meta
        key = {"type": "keyDown", "key": "4", "modifiers": modifier}
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", key)
    assert chosen(browser) == [4, None, None]
    press(browser, "0", "6", Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT)  # the first stays
    assert chosen(browser) == [4, None, None] and text(browser, "place") == f"1 of {ITEMS}"


def test_another_person_starts_with_nothing(browser: Browser, page: Path) -> None:
    browser.get(page.as_uri())
    press(browser, "1", *[Keys.ARROW_RIGHT] * (ITEMS * QUESTIONS))
    before = stored(browser)
    browser.find_element("id", "fresh").click()
    browser.switch_to.alert.dismiss()
    assert stored(browser) == before
    browser.find_element("id", "fresh").click()
    browser.switch_to.alert.accept()
    assert text(browser, "place") == f"1 of {ITEMS}" and chosen(browser) == [None] * 3
    press(browser, "2")
    assert stored(browser)["rater"] != before["rater"]


def test_a_browser_that_keeps_nothing_says_so(browser: Browser, page: Path) -> None:
    denied = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }})"
    script = {"source": f"if (location.pathname.endsWith('{page.name}')) {denied}"}
    name = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    try:
        browser.get(page.as_uri())
        assert "keeps nothing" in text(browser, "kept")
        press(browser, "4")
        assert chosen(browser) == [4, None, None] and "keeps nothing" in text(browser, "kept")
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", name)
        browser.refresh()
    assert "kept in this browser" in text(browser, "kept")


def test_dark_where_people_want_dark(browser: Browser, page: Path) -> None:
    browser.get(page.as_uri())
    papers = []
    for scheme in ("light", "dark"):
        wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
        color = browser.find_element("tag name", "body").value_of_css_property("background-color")
        papers.append(sum(map(int, re.findall(r"\d+", color)[:3])))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert papers[0] > 600 > 200 > papers[1]


def test_markup_in_a_domains_name_is_words(browser: Browser, tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    model = checkpoint.build(replace(TINY, domains=Domains(a="smile", b=evil))).eval()
    made, _ = study.make([study.Entrant("m", "0", model)], study.drawn_ways([], 1, 0), seed=0)
    page = tmp_path / "evil.html"
    page.write_text(made)
    browser.get(page.as_uri())
    assert evil in text(browser, "task")


def test_the_policy_lets_nothing_out(chromium: Browser, page: Path) -> None:
    """Even a script that wanted to could not reach a server that is there."""
    reached: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reached.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        chromium.get(page.as_uri())
        said = chromium.execute_async_script(
            "const [url, done] = arguments; const picture = new Image();"
            "picture.onerror = () => fetch(url).then(() => done('out'), () => done('blocked'));"
            "picture.onload = () => done('out'); picture.src = url;",
            f"http://127.0.0.1:{server.server_port}/",
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert said == "blocked" and reached == []
    assert "Content Security Policy" in str(chromium.get_log("browser"))
    chromium.execute_script("localStorage.clear()")
