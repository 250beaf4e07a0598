"""What README and docs say is so: every command of README is run, in its order, in one empty folder
with the examples; options, settings and files of docs exist.
"""

import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from conftest import Result

from dida_cli import methods, recipe
from dida_cli.cli import finish
from dida_cli.evaluate import report

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TRAINING = (ROOT / "docs" / "training.md").read_text()
METHODS = (ROOT / "docs" / "methods.md").read_text()
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

# Appended to commands that would take long; of an option given twice, the last counts.
SHORTER = {
    "data avatars": "--count 240 --side 32",
    "data check": "--batch 4",
    "train": "--steps 2 --side 32 --batch 4",
    "evaluate": "--pairs 10",
    "study make": "--pairs 1",
}


def blocks(text: str, kind: str) -> list[str]:
    """What stands in the blocks of a kind: sh, console, python, toml."""
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    joined = "".join(blocks(README, "sh")).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.startswith("dida ")]


def test_every_command_runs(
    dida: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish, "PAIRS", 4)
    monkeypatch.setattr(report, "DIVERSITY", 2)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    found = commands()
    spoken = " ".join(found)
    for command in (
        "transfer",
        "remove-attribute",
        "interpolate",
        "segment",
        "train",
        "evaluate",
        "data",
        "study",
        "models",
        "doctor",
    ):
        assert f"dida {command}" in spoken
    assert "dida data avatars" in spoken  # or train would draw all 24,000
    for line in found:
        words = shlex.split(line, comments=True)[1:]
        name = next((name for name in SHORTER if " ".join(words).startswith(name)), None)
        extra = SHORTER[name].split() if name and "--resume" not in words else []
        result = dida(*words, *extra)
        assert result.code == 0, (line, result.err)


def test_the_python_interface_does_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    (shown,) = blocks(README, "python")
    exec(shown, {})
    assert (tmp_path / "edited.png").exists()


def test_readme_is_read_in_five_minutes() -> None:
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_picture_and_link_exists(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


def documented() -> Iterator[tuple[list[str], list[str]]]:
    """The commands that are shown and not run: their names, and their options."""
    for page in DOCS:
        for line in "".join(blocks(page.read_text(), "console")).splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:2] == ["dida", "--offline"]:
                del words[1]
            if words[:1] == ["dida"]:
                count = 2 if words[1] in ("data", "models", "study", "benchmark") else 1
                options = [word for word in words if re.fullmatch(r"--?[a-z-]+", word)]
                yield words[1 : 1 + count], options


def test_every_option_that_is_shown_exists(
    dida: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    shown = list(documented())
    assert len(shown) > 15
    for names, options in shown:
        told = dida(*names, "--help")
        assert told.code == 0, (names, told.err)
        for option in options:
            assert re.search(rf"(?<!\S){option}\s", told.out), (names, option)


def test_the_recipe_that_is_shown_has_every_key_and_default() -> None:
    (text,) = blocks(TRAINING, "toml")
    values = tomllib.loads(text)
    recipe.parse(values, "docs/training.md")
    assert values.keys() == {field.name for field in fields(recipe.Recipe)}
    assert values["stages"][0].keys() == {field.name for field in fields(recipe.Stage)}
    assert values["training"] == recipe.Training().to_json()


@pytest.mark.parametrize("method", methods.MODULES)
def test_every_setting_of_a_method_is_told_with_its_default(method: str) -> None:
    told: dict[str, str] = {}
    for text in re.findall(r"(?:^\|.*\n)+", METHODS, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
        if head[1] != "setting" or method not in head:
            continue
        for row in rows:
            if values := row[head.index(method)]:
                told |= dict(zip(re.findall(r"`(\w+)`", row[1]), values.split(", "), strict=True))
    defaults = methods.complete(method, {})
    plain = {
        name: value[0] if isinstance(value, list) else value for name, value in defaults.items()
    }
    assert told == {name: str(value) or "none" for name, value in plain.items()}


def test_the_results_are_those_of_the_card() -> None:
    card = (ROOT / "models" / "avatars-smile-glasses" / "README.md").read_text()
    section = README.split("## Results")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) > 5
    for row in rows:
        assert row in card, row
