"""The page that edits in the browser: its folder, and in a real Chromium that it does what the
commands do.

DIDA_PAGE_PICTURE=docs/page.png writes what a newcomer sees into that file.
"""

import base64
import gzip
import io
import os
import re
import shutil
import tempfile
import threading
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chromium import Browser, in_browser, requested, started, to_save_in
from conftest import EXAMPLES, RETOUCH, Result
from filelock import FileLock
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from dida_cli import hub
from dida_cli.cli.page import server
from dida_cli.config import CONFIG, DRAWN_MODEL, PHOTO_MODEL, Domains
from dida_cli.export import page
from dida_cli.export.onnx import COMPOSE, ENCODE

FLAGS = """--force-device-scale-factor=1 --force-color-profile=srgb
--window-size=1280,1000""".split()
LEVELS = 2  # of 255, that the page may be off the command
PHONE = {"width": 375, "height": 740, "deviceScaleFactor": 2, "mobile": True}

Dida = Callable[..., Result]


class Shown:
    """A model's page, served, and the export that its graphs are."""

    def __init__(self, name: str, root: Path) -> None:
        self.folder, self.export = root / "page", root / "export"
        with FileLock(f"{root}.lock"):  # made once, by whichever process comes first
            if not self.export.exists():
                self.make(name)
        self.server = server(self.folder)
        threading.Thread(target=self.server.serve_forever).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}/"

    def make(self, name: str) -> None:
        page.write_page(hub.resolve(name), name, self.folder)
        self.export.mkdir()
        shutil.copy(self.folder / CONFIG, self.export)
        for graph in (ENCODE, COMPOSE):
            packed = (self.folder / f"{graph}.gz").read_bytes()
            (self.export / graph).write_bytes(gzip.decompress(packed))

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Shown]]:
    """The page of a model, made once."""
    made: dict[str, Shown] = {}
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def of(name: str) -> Shown:
        if name not in made:
            made[name] = Shown(name, root / f"page-{name}")
        return made[name]

    yield of
    for one in made.values():
        one.close()


# The folder


def test_the_folder_is_ready_for_a_host(
    dida: Dida, shown: Callable[[str], Shown], tmp_path: Path
) -> None:
    out = tmp_path / "page"
    made = dida("page", "-m", shown(DRAWN_MODEL).export, "-o", out)
    assert (made.code, made.out) == (0, f"{out}\n") and "MB" in made.err
    there = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    ort = {f"ort/{path.name}" for path in (page.PAGE / "ort").iterdir()}
    graphs = {"encode.onnx.gz", "compose.onnx.gz"}
    files = {"index.html", "page.js", "config.json", "examples.json", "README.md"}
    examples = {f"examples/{name}" for name in page.EXAMPLES["drawing"]}
    assert there == files | graphs | ort | examples
    card = (out / "README.md").read_text()
    assert card.startswith('---\ntitle: "dida: smile and glasses"\nsdk: static\n')
    assert "examples/part-a.png" not in card  # which is not here
    assert "Smile and glasses, put on and taken off" in (out / "index.html").read_text()
    again = dida("page", "-m", shown(DRAWN_MODEL).export, "-o", out)
    assert again.code == 1 and "is not empty" in again.err


def test_a_taken_folder_is_refused(dida: Dida, retouch_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "mine.txt").write_text("mine")
    made = dida("page", "-m", retouch_folder, "-o", tmp_path / "page")
    assert made.code == 1 and "is not empty" in made.err
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["mine.txt"]


def test_the_server_says_what_browsers_want_to_hear(shown: Callable[[str], Shown]) -> None:
    address = shown(DRAWN_MODEL).address
    kinds = {"ort/ort.wasm.min.mjs": "text/javascript", "index.html": "text/html"}
    for path, kind in kinds.items():
        with urllib.request.urlopen(address + path) as answer:
            assert answer.headers["Content-Type"].startswith(kind)


def test_a_model_without_masks_is_refused(dida: Dida, model_folder: Path, tmp_path: Path) -> None:
    made = dida("page", "-m", model_folder, "-o", tmp_path / "page")
    assert made.code == 1 and "has no masks" in made.err and "-m avatars-smile" in made.err
    assert not (tmp_path / "page").exists()


def test_nothing_asked_for_is_wrong_usage(dida: Dida) -> None:
    made = dida("page")
    assert made.code == 2 and "-o FOLDER" in made.err


def test_open_serves_a_page_that_is_gone_afterwards(
    dida: Dida, shown: Callable[[str], Shown], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened: list[str] = []

    def look(address: str) -> None:
        assert address.startswith("http://127.0.0.1:")
        opened.append(address)
        raise KeyboardInterrupt

    monkeypatch.setattr(webbrowser, "open", look)
    made = dida("page", "-m", shown(DRAWN_MODEL).export, "--open")
    assert (made.code, made.out, len(opened)) == (0, "", 1) and opened[0] in made.err
    assert list(tmp_path.iterdir()) == []


def test_examples_are_of_the_repository() -> None:
    for examples in page.EXAMPLES.values():
        assert all((EXAMPLES / name).exists() for name in examples)


def test_markup_in_a_parts_name_is_words(tmp_path: Path) -> None:
    evil = Domains(a="<script>alert(1)</script>", b="glasses")
    text = page.index("<img src=x>", replace(RETOUCH, domains=evil))
    assert "<script>alert" not in text and "<img src=x>" not in text


# In a browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser with a profile of its own that logs its console and every request."""
    driver = started(tmp_path_factory.mktemp("profile"), *FLAGS)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Browser, tmp_path: Path) -> Iterator[Browser]:
    """The browser; afterwards nothing went wrong in it or out of it, and nothing is kept."""
    to_save_in(chromium, tmp_path / "downloads")
    yield chromium
    assert chromium.get_log("browser") == []
    hosts = {url.split("/")[2] for url in requested(chromium) if url.startswith("http")}
    assert {host.partition(":")[0] for host in hosts} <= {"127.0.0.1"}
    kept = "return localStorage.length + sessionStorage.length + document.cookie.length"
    assert chromium.execute_script(kept) == 0


def found(browser: Browser, name: str) -> WebElement:
    return browser.find_element("id", name)


def status(browser: Browser) -> str:
    """What the page says once it is done."""

    def done(_: Browser) -> bool:
        return found(browser, "main").get_attribute("aria-busy") == "false"

    WebDriverWait(browser, 60, 0.05).until(done)
    return found(browser, "status").text


def choose(browser: Browser, role: str, path: Path) -> str:
    found(browser, f"{role}-file").send_keys(str(path))
    return status(browser)


def select(browser: Browser, edit: str) -> str:
    browser.find_element("css selector", f"[name=edit][value='{edit}']").click()
    return status(browser)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=int)


def downloaded(browser: Browser, content: Path, tmp_path: Path) -> np.ndarray:
    """The edit of a picture, as the page gives it for download."""
    path = tmp_path / "downloads" / f"{content.stem}-edited.png"
    path.unlink(missing_ok=True)
    found(browser, "download").click()
    WebDriverWait(browser, 20, 0.05).until(lambda _: path.exists())
    return pixels(path)


def canvas(browser: Browser, name: str) -> np.ndarray:
    """What a canvas shows: (height, width, 4)."""
    script = f"return document.getElementById('{name}').toDataURL('image/png')"
    content = base64.b64decode(browser.execute_script(script).partition(",")[2])
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGBA"), dtype=int)


def drop(browser: Browser, role: str, name: str, content: bytes) -> str:
    """Drop a file as a hand would."""
    browser.execute_script(
        "const [role, name, text] = arguments; const dropped = new DataTransfer();"
        "const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));"
        "dropped.items.add(new File([bytes], name));"
        "const event = {dataTransfer: dropped, bubbles: true, cancelable: true};"
        "document.getElementById(role).dispatchEvent(new DragEvent('drop', event));",
        role,
        name,
        base64.b64encode(content).decode(),
    )
    return status(browser)


def crowd(path: Path) -> Path:
    """A large picture of a turned face and a small one."""
    made = Image.new("RGB", (1300, 1100), (90, 120, 110))
    with Image.open(EXAMPLES / "person-glasses.jpg") as one:
        turned = one.resize((850, 850), Image.Resampling.BICUBIC).rotate(12, expand=True)
        made.paste(turned, (150, 40))
    with Image.open(EXAMPLES / "person.jpg") as other:
        made.paste(other.resize((150, 150)), (20, 900))
    made.save(path)
    return path


def as_png(name: str, path: Path) -> Path:
    """An example as a file that everybody decodes alike."""
    with Image.open(EXAMPLES / name) as picture:
        picture.convert("RGB").save(path)
    return path


@in_browser
def test_an_example_is_edited(browser: Browser, shown: Callable[[str], Shown]) -> None:
    browser.get(shown(DRAWN_MODEL).address)
    assert status(browser).startswith("Glasses of the guide put on in")
    before, after = canvas(browser, "before"), canvas(browser, "after")
    assert abs(after - before)[..., :3].max() > 100
    browser.find_element("css selector", "#guide-examples [data-file='smile-2.png']").click()
    assert "The model sees no glasses in the guide." in status(browser)
    assert select(browser, "give a").startswith("Smile of the guide put on in")
    found(browser, "play").click()
    assert status(browser) and found(browser, "strength-told").text != "1.00"
    WebDriverWait(browser, 60).until(lambda _: found(browser, "play").text == "Play")
    assert found(browser, "strength-told").text == "0.00"
    assert (canvas(browser, "after") == before).all()  # no strength, no change


@in_browser
@pytest.mark.filterwarnings("ignore:.* sees no smile in its guide")
@pytest.mark.parametrize("name", [DRAWN_MODEL, PHOTO_MODEL])
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_the_page_edits_as_the_commands_do(
    browser: Browser,
    shown: Callable[[str], Shown],
    dida: Dida,
    tmp_path: Path,
    name: str,
    large: bool,
) -> None:
    here, (content, guide) = shown(name), (tmp_path / "content.png", tmp_path / "guide.png")
    if name == PHOTO_MODEL:
        crowd(content) if large else as_png("person-glasses-2.jpg", content)
        as_png("person-glasses.jpg", guide)
    else:
        as_png("portrait.png" if large else "glasses.png", content)
        as_png("glasses-2.png", guide)
    browser.get(here.address)
    status(browser)
    choose(browser, "picture", content)
    drop(browser, "guide", guide.name, guide.read_bytes())
    of_a, of_b, out = ("--guide-a", guide), ("--guide-b", guide), tmp_path / "out.png"
    commands: dict[str, tuple[object, ...]] = {
        "give b": ("transfer", content, *of_b),
        "give a b": ("transfer", content, *of_a, *of_b),
        "off b": ("remove-attribute", content, "--attribute", "b"),
        "off a b": ("remove-attribute", content),
    }
    moved = 0
    for edit, words in commands.items():
        assert " in " in select(browser, edit)
        mask = tmp_path / "mask.png"
        extra = ("--runtime", "onnx", "-m", here.export, "-o", out, "--mask-out", mask)
        assert dida(*words, *extra).code == 0
        was, made, wanted = pixels(content), downloaded(browser, content, tmp_path), pixels(out)
        assert abs(made - wanted).max() <= LEVELS
        moved = max(moved, abs(wanted - was).max())
        where = abs(canvas(browser, "mask")[..., 3] - np.asarray(Image.open(mask), dtype=int))
        assert (where > LEVELS).mean() < 1e-3  # of a change that hardly shows, they may differ
    assert moved > 50
    found(browser, "keep").click()
    strength = "const s = document.getElementById('strength'); s.value = 0.6;"
    browser.execute_script(strength + "s.dispatchEvent(new Event('input', {bubbles: true}))")
    select(browser, "give b")
    options = (*of_b, "--keep", "both", "--strength", 0.6, "-m", here.export, "-o", out)
    assert dida("transfer", content, *options).code == 0
    assert abs(downloaded(browser, content, tmp_path) - pixels(out)).max() <= LEVELS


@in_browser
def test_what_cannot_be_edited_is_said_in_one_line(
    browser: Browser, shown: Callable[[str], Shown], tmp_path: Path
) -> None:
    browser.get(shown(PHOTO_MODEL).address)
    status(browser)
    before = canvas(browser, "before")
    said = drop(browser, "picture", "broken.png", b"\x89PNG nothing")
    assert said.startswith("broken.png: not a picture that this browser reads")
    assert "error" in found(browser, "status").get_attribute("class")
    Image.new("1", (8000, 6000)).save(tmp_path / "huge.png")
    said = choose(browser, "picture", tmp_path / "huge.png")
    assert said == "huge.png: larger than 40 megapixels; scale it down first"
    Image.new("RGB", (200, 300), "green").save(tmp_path / "green.png")
    assert "green.png: no face is found in it" in choose(browser, "guide", tmp_path / "green.png")
    assert (canvas(browser, "before") == before).all()  # what was there is still there
    assert select(browser, "off b").startswith("Glasses taken off in")
    assert "error" not in found(browser, "status").get_attribute("class")


@in_browser
def test_a_drawing_model_warns_of_a_photo(
    browser: Browser, shown: Callable[[str], Shown], tmp_path: Path
) -> None:
    browser.get(shown(DRAWN_MODEL).address)
    assert "photo" not in status(browser)
    photo = as_png("person.jpg", tmp_path / "photo.png")
    assert "photo.png: it looks like a photo" in choose(browser, "picture", photo)


@in_browser
def test_a_phone_and_a_keyboard_are_enough(browser: Browser, shown: Callable[[str], Shown]) -> None:
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    try:
        browser.get(shown(DRAWN_MODEL).address)
        status(browser)
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width == PHONE["width"]  # nothing to scroll sideways
        reached = []
        for _ in range(25):
            ActionChains(browser).send_keys(Keys.TAB).perform()
            focused = browser.switch_to.active_element
            assert focused.accessible_name or focused.tag_name == "body"
            reached.append(focused.get_attribute("id") or focused.get_attribute("name"))
        wanted = {"picture-file", "guide-file", "edit", "keep", "split", "strength", "play"}
        assert wanted | {"show-mask", "download"} <= set(reached)
        found(browser, "split").send_keys(Keys.HOME)
        stack = found(browser, "stack")
        assert "--split: 0%" in (stack.get_attribute("style") or "")
        browser.find_element("css selector", "[name=edit]:checked").send_keys(Keys.ARROW_DOWN)
        assert "Smile and glasses of the guide put on" in status(browser)
        images = browser.find_elements("css selector", "img, canvas")
        assert all(image.accessible_name for image in images if image.is_displayed())
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@in_browser
def test_light_and_dark(browser: Browser, shown: Callable[[str], Shown]) -> None:
    browser.get(shown(DRAWN_MODEL).address)
    status(browser)
    papers = []
    for scheme in ("light", "dark"):
        wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
        color = browser.find_element("tag name", "body").value_of_css_property("background-color")
        papers.append(sum(map(int, re.findall(r"\d+", color)[:3])))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert papers[0] > 600 > 200 > papers[1]


@in_browser
def test_what_a_newcomer_sees(browser: Browser, shown: Callable[[str], Shown]) -> None:
    here = shown(PHOTO_MODEL)
    size = sum(path.stat().st_size for path in here.folder.rglob("*"))
    assert size < 15_000_000
    browser.get(here.address)
    assert status(browser).startswith("Glasses of the guide put on in")
    if wanted := os.environ.get("DIDA_PAGE_PICTURE"):
        whole = {"width": 1200, "height": 990, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", whole)
        browser.save_screenshot(wanted)
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
