"""The command: five lines for people, everything else where it is asked for."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Result, write_picture

Dida = Callable[..., Result]
QUESTIONS = ("target domain", "guide's kind", "part gone", "PSNR inside", "told apart")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two domains of 40 pictures to learn from and five to judge on."""
    root = tmp_path / "pictures"
    counts = {"trainA": 40, "trainB": 40, "testA": 5, "testB": 5}
    for place, (name, count) in enumerate(counts.items()):
        for index in range(count):
            write_picture(root / name / f"{index}.png", seed=100 * place + index)
    return root


def check_lines(out: str) -> None:
    lines = out.splitlines()[:5]
    for line, question in zip(lines, QUESTIONS, strict=True):
        assert line.startswith(question), line
        assert "glasses to smile " in line and "smile to glasses " in line


def test_it_says_five_lines_and_more_when_asked(
    dida: Dida, model_folder: Path, tmp_path: Path
) -> None:
    short = dida("evaluate", "-m", model_folder, "--pairs", 10)
    assert short.code == 0, short.err
    check_lines(short.out)
    assert short.out.count("\n") == 5 and "add --all" in short.err
    report = tmp_path / "report"
    whole = dida("evaluate", "-m", model_folder, "--pairs", 10, "--all", "--report", report)
    assert whole.out.startswith(short.out)
    assert "As people see it" in whole.out and "told_apart_of_real: " in whole.out
    page = (report / "index.html").read_text()
    for name in ("worst.png", "part-a.png", "part-b.png", "classification.png"):
        assert (report / name).exists() and name in page
    assert json.loads((report / "result.json").read_text())["pairs"] == 10


def test_pictures_are_judged_without_labels(
    dida: Dida, model_folder: Path, pictures: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report"
    result = dida("evaluate", "-m", model_folder, "--data", pictures, "--report", report)
    assert result.code == 0, result.err
    check_lines(result.out)
    assert result.out.splitlines()[3].endswith("-")  # no true answer is known
    assert (
        not (report / "worst.png").exists()
        and "worst.png" not in (report / "index.html").read_text()
    )
    found = json.loads(dida("evaluate", "-m", model_folder, "--data", pictures, "--json").out)
    (row, _) = found["directions"].values()
    assert row["classification"]["pairs"] == 5 and row["told_apart"]["asked"] == 6


@pytest.mark.parametrize("option", ["--a", "--b", "--with", "--without"])
def test_labels_are_for_pictures_that_have_some(
    dida: Dida, model_folder: Path, domains: Path, option: str
) -> None:
    for data in ((), ("--data", domains)):
        result = dida("evaluate", "-m", model_folder, option, "Smiling", *data)
        assert result.code == 2 and result.out == "" and result.err.count("\n") == 1
        assert "--a, --b, --with" in result.err and "--without" in result.err
