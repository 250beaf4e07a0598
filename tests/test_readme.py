"""Every command of the README is run, in its order, in one empty folder with the examples."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Result

from dida_cli.cli import finish

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

# Appended to commands that would take long; of an option given twice, the last counts.
SHORTER = {
    "data avatars": "--count 480 --side 32",
    "data check": "--batch 4",
    "train": "--steps 2 --side 32 --batch 4",
    "evaluate": "--pairs 12",
    "study make": "--pairs 1",
}


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    joined = "".join(blocks).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.startswith("dida ")]


def test_every_command_runs(
    dida: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish, "PAIRS", 10)
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
    for line in found:
        words = shlex.split(line, comments=True)[1:]
        name = next((name for name in SHORTER if " ".join(words).startswith(name)), None)
        extra = SHORTER[name].split() if name and "--resume" not in words else []
        result = dida(*words, *extra)
        assert result.code == 0, (line, result.err)


def test_every_picture_and_link_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    assert len(links) > 8
    for link in links:
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link


def test_the_results_are_those_of_the_card() -> None:
    card = (ROOT / "models" / "avatars-smile-glasses" / "README.md").read_text()
    section = README.split("## Results")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) > 5
    for row in rows:
        assert row in card, row
