"""The scripts of `benchmarks/` run, on next to nothing, and compare what they say they compare."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import folder, paired, people, removal, start
from dida_cli.evaluate import attributes


def ask(capsys: pytest.CaptureFixture[str], script: ModuleType, *arguments: object) -> str:
    script.main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def answered(
    capsys: pytest.CaptureFixture[str], script: ModuleType, *arguments: object
) -> dict[str, Any]:
    """The JSON answer of a script with pairs, each of which has both sides."""
    found = json.loads(ask(capsys, script, "--json", *arguments))
    assert found["machine"] and found["pairs"]
    for pair in found["pairs"]:
        ratios = [a / b for a, b in zip(pair["ours_values"], pair["base_values"], strict=True)]
        assert pair["ratios"] == ratios and ratios
        assert pair["ratio"]["least"] <= pair["ratio"]["median"] <= pair["ratio"]["most"]
    return found


def sides(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(pair["ours"], pair["base"]) for pair in found["pairs"]]


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole processes are slow to start: each side runs a single time."""
    for script in (start, folder):
        monkeypatch.setattr(script, "in_turns", lambda *sides, rounds: [[side()] for side in sides])


def test_a_table_has_both_sides_and_the_ratio_of_each_round() -> None:
    pair = paired.Pair("ours", "base", "s", [1.0, 2.0, 9.0], [2.0, 2.0, 3.0])
    assert pair.row() == "| ours | base | 2 | 2 | s | **1** | 0.5 to 3 |"
    assert paired.HEAD.count("|") == 2 * pair.row().count("|")


def test_sides_are_measured_in_turns_after_a_round_that_does_not_count() -> None:
    order: list[str] = []

    def side(name: str) -> float:
        order.append(name)
        return float(len(order))

    measured = paired.in_turns(lambda: side("a"), lambda: side("b"), rounds=2)
    assert order == ["a", "b"] * 3
    assert measured == [[3.0, 5.0], [4.0, 6.0]]


def test_start(
    capsys: pytest.CaptureFixture[str],
    once: None,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(start, "DEFAULT_MODEL", str(model_folder))  # exported sooner
    found = answered(capsys, start, "--rounds", 1)
    torch_import = "python -c 'import torch'"
    assert sides(found) == [
        ("dida --help", "python -c 'import typer, rich'"),
        ("dida transfer", torch_import),
        ("dida transfer --runtime onnx", torch_import),
    ]


def test_folder(capsys: pytest.CaptureFixture[str], once: None) -> None:
    found = answered(capsys, folder, "--count", 8, "--rounds", 1)
    assert sides(found) == [("dida transfer, a further picture", "bare forward")]
    assert found["peak_memory_of_the_command"].keys() == {"2 pictures", "8 pictures"}


def test_people(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert not ask(capsys, people, "--count", 2, "-o", tmp_path / "people.png")
    rows = np.asarray(Image.open(tmp_path / "people.png"), dtype=int)
    step = len(rows) // 8  # four rows of each part
    assert rows.shape[1] < 3 * step
    for row in range(0, 8, 2):  # the face is the same, but for the part
        before, after = (rows[one * step : (one + 1) * step] for one in (row, row + 1))
        assert 0.01 < (abs(before - after).max(-1) > 20).mean() < 0.5


def test_removal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    factors = attributes.of_parts(["a", "b"])
    attributes.save(attributes.FactorClassifier(factors), tmp_path, "a judge", factors)
    options = ("--judge", tmp_path, "--count", 6, "--sizes", 256, 320, "--json")
    found = json.loads(ask(capsys, removal, *options))
    assert [one["size"] for one in found] == [256, 320]
    for one in found:
        for kind in ("thick", "dark"):  # thin frames cover little, so leaving them costs little
            left = one["psnr_inside_of_leaving_them"][kind]
            assert one["psnr_inside"][kind] > left + 2, kind
        eyes = one["psnr_of_eyes"], one["psnr_of_eyes_of_leaving_them"]
        assert all(10 < kind[name] < 40 for kind in eyes for name in one["gone"])
        assert eyes[0]["thin"] > eyes[1]["thin"]
        assert 0 <= one["told_apart"] <= 1 and set(one["gone"]) == {"thin", "thick", "dark"}
