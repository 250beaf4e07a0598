"""The scripts of `benchmarks/` run, on next to nothing, and compare what they say they compare."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from benchmarks import data, folder, growth, paired, quality, settings, start, step
from benchmarks.literal import Literal
from dida_cli.config import ModelConfig, TrainConfig
from dida_cli.train import Training

TINY_DATA = ["--pictures", "6", "--side", "32", "--batch", "2"]
PAPER = ModelConfig.of("didd", "paper", side=32, width=32, common=8, separate_a=3, separate_b=3)


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


def test_step(capsys: pytest.CaptureFixture[str]) -> None:
    found = answered(capsys, step, "--tiny", "--rounds", 2)
    assert sides(found) == [
        ("`paper` step", "literal step"),
        ("`compact` didd step", "matrix product of 256"),
        ("`compact` layers step", "matrix product of 256"),
    ]
    shares = found["share_of_a_compact_didd_step"]
    assert {"convolution", "convolution backward", "norm", "optimizer"} <= shares.keys()


def literal_of(training: Training) -> Literal:
    settings = training.settings
    literal = Literal(training.model.config, settings.weights, settings.learning_rate, "cpu")
    literal.take_over(training.model, training.critic)
    return literal


@pytest.fixture
def ours() -> Training:
    settings = TrainConfig(batch=2, weights=step.PAPER, critic_target="paper", critic_start=0)
    return Training(PAPER, settings)


def test_the_literal_step_has_our_losses_and_learns_alike(ours: Training) -> None:
    a, b = step.pictures(ours.settings, PAPER)
    literal = literal_of(ours)
    literal.advance(a, b)
    step.check_same(literal_of(ours).terms(a, b), ours, a, b)
    learned = ours.model.decoder[-1].weight
    assert torch.allclose(literal.decoder.main[-2].weight, learned, atol=1e-5)


def test_another_literal_step_is_found_out(ours: Training) -> None:
    a, b = step.pictures(ours.settings, PAPER)
    literal = literal_of(ours)
    literal.advance(a, b)
    with pytest.raises(AssertionError, match="differs"):
        step.check_same(literal.terms(a, b), ours, a, b)


def test_data(capsys: pytest.CaptureFixture[str]) -> None:
    found = answered(capsys, data, *TINY_DATA, "--rounds", 2)
    assert sides(found) == [("step on real data", "step on data in memory")]
    table = ask(capsys, data, *TINY_DATA, "--rounds", 1)
    assert "| step on real data | step on data in memory |" in table


def test_settings(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda loss: loss)  # it takes minutes
    tiny = ["--side", "32", "--batch", "2", "--width", "16"]
    found = answered(capsys, settings, *tiny, "--rounds", 1)
    steps = ["`compact` layers step", "`paper` didd step"]
    names = ["--compile", "accumulate = 2", "channels_last"]
    assert sides(found) == [(f"{step}, {name}", step) for step in steps for name in names]


def test_the_other_layout_is_another_with_the_same_losses() -> None:
    model, plain = ModelConfig(side=32, width=16), TrainConfig(batch=2)
    usual, other = Training(model, plain), settings.in_other_layout(model, plain, "cpu")
    assert all(weight.is_contiguous() for weight in usual.model.parameters())
    assert not all(weight.is_contiguous() for weight in other.model.parameters())
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected, found = (training.advance(pictures, pictures) for training in (usual, other))
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), abs=1e-4), name


def test_start(capsys: pytest.CaptureFixture[str], once: None) -> None:
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


def test_growth(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small: Sequence[object] = ["--varied", "batch", "--values", 2, "--side", 32, "--rounds", 1]
    plot = tmp_path / "growth.png"
    found = json.loads(ask(capsys, growth, *small, "--counts", "--json", "--out", plot))
    assert [point["value"] for point in found["points"]["batch"]] == [4, 8]
    assert all(point["seconds"] > 0 for point in found["points"]["batch"])
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_quality_goes_on_where_it_was(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, domains: Path
) -> None:
    small = ["--data", domains, "--out", tmp_path, "--side", 32, "--pairs", 10, "--every", 1]
    ask(capsys, quality, *small, "--steps", 1)
    table = ask(capsys, quality, *small, "--steps", 2)
    assert "| `compact` |" in table and "| `paper` |" in table
    for kind in ("compact", "paper"):
        lines = quality.lines_of(tmp_path / f"{kind}.jsonl")
        assert [line["step"] for line in lines] == [1, 2]
        assert lines[0]["minutes"] <= lines[1]["minutes"]
        assert not any(map(quality.is_good, lines))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_script_runs_on_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    found = answered(capsys, step, "--tiny", "--rounds", 2, "--device", "cuda")
    assert sides(found)[0] == ("`paper` step", "literal step")
    assert torch.cuda.get_device_name() in found["machine"]
