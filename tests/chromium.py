"""A real Chromium for tests of pages, which logs its console and every request."""

import json
import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = """--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run
--disable-background-networking --disable-component-update --disable-sync""".split()

Browser = webdriver.Chrome
in_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="needs Chromium: apt-get install chromium chromium-driver",
)


def started(profile: Path, *flags: str) -> Browser:
    """A browser with a profile of its own, an empty folder; whoever starts it quits it."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in [*FLAGS, *flags, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(DRIVER))


def to_save_in(browser: Browser, folder: Path) -> None:
    """Let it save downloads there, and forget what it has logged."""
    downloads = {"behavior": "allow", "downloadPath": str(folder)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    browser.get_log("browser"), browser.get_log("performance")


def requested(browser: Browser) -> list[str]:
    """Every address the browser asked for since the last look."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event for event in events if event["method"] == "Network.requestWillBeSent"]
    return [event["params"]["request"]["url"] for event in sent]
