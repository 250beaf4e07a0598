"""dida train by config files and single settings, its record of them, and its dry run."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Result

from dida_cli import settings
from dida_cli.cli.train import _duration
from dida_cli.data import avatars

Dida = Callable[..., Result]
SMALL = """
[model]
side = 32
width = 16
common = 8
separate_a = 3
separate_b = 2

[training]
steps = 2
batch = 4
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A config file of a training that takes no time."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def record(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "train.json").read_text())
    return found


def everything_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_gives_way_to_options_and_these_to_set(
    dida: Dida, domains: Path, small: Path, tmp_path: Path
) -> None:
    with small.open("a") as file:
        file.write("learning_rate = 0.002\nflip = false\nseed = 5\n[training.weights]\nzero = 3\n")
    run = tmp_path / "run"
    options = ["--data", domains, "--name-a", "stripes", "--batch", 3, "--seed", 6, "--steps", 9]
    sets = ["--set", "training.steps=1", "--set", "training.weights.common=0.4"]
    result = dida("train", "--config", small, *options, *sets, "-o", run)
    assert result.code == 0, result.err
    found = record(run)
    assert found["model"]["domains"] == {"a": "stripes", "b": "b"}
    assert [found["model"][key] for key in ("side", "separate_a", "fit")] == [32, 3, "crop"]
    training = found["training"]
    assert (training["batch"], training["seed"], training["steps"]) == (3, 6, 1)
    assert (training["learning_rate"], training["flip"]) == (0.002, False)
    weights = training["weights"]
    assert (weights["zero"], weights["common"], weights["reconstruction_a"]) == (3, 0.4, 1)


def test_no_flip_and_a_seed_of_zero_win_over_the_file(
    dida: Dida, domains: Path, small: Path, tmp_path: Path
) -> None:
    small.write_text(f"{SMALL}flip = true\nseed = 5\n")
    run = tmp_path / "run"
    arguments = ["--data", domains, "--no-flip", "--seed", 0, "-o", run]
    assert dida("train", "--config", small, *arguments).code == 0
    training = record(run)["training"]
    assert (training["flip"], training["seed"]) == (False, 0)


def test_the_written_config_gives_the_same_training(
    dida: Dida, domains: Path, small: Path, tmp_path: Path
) -> None:
    begun, first, second = (tmp_path / name for name in ("begun", "first", "second"))
    assert dida("train", "--config", small, "--data", domains, "-o", begun).code == 0
    options = ["--data", domains, "--init", begun, "--seed", 3, "--critic-target", "paper"]
    names = ["--name-a", 'a "b"', "--set", "training.clip=1"]
    assert dida("train", "--config", small, *options, *names, "-o", first).code == 0
    result = dida("train", "--config", first / "config.toml", "-o", second)
    assert result.code == 0, result.err
    assert f"begun from {begun}" in result.err
    assert record(first) == record(second)
    for name in ("config.toml", "last/model.safetensors", "log.jsonl"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_the_written_config_keeps_what_an_attribute_list_is_asked_for(
    dida: Dida, small: Path, tmp_path: Path
) -> None:
    avatars.write_set(tmp_path / "faces", count=60, seed=1, side=32, workers=1)
    chosen = ["--a", "Smiling", "--b", "not Smiling", "--without", "Beard"]
    first, second = tmp_path / "first", tmp_path / "second"
    arguments = ["--config", small, "--data", tmp_path / "faces", "--steps", 1]
    assert dida("train", *arguments, *chosen, "-o", first).code == 0
    assert dida("train", "--config", first / "config.toml", "-o", second).code == 0
    data = record(second)["data"]
    assert data == record(first)["data"]
    assert (data["b"], data["having"], data["lacking"]) == ("not Smiling", [], ["Beard"])
    assert record(second)["model"]["domains"] == {"a": "smile", "b": "not smiling"}


def test_a_preset_trains_on_two_folders_too(dida: Dida, domains: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    sets = ["--set", "model.width=32", "--set", "model.common=8", "--set", "model.separate_a=3"]
    small = ["--side", 32, "--batch", 4, "--steps", 1]
    result = dida("train", "--config", "hair-colour", "--data", domains, *small, *sets, "-o", run)
    assert result.code == 0, result.err
    found = record(run)
    assert found["data"] == {"root": str(domains)}
    assert found["model"]["domains"] == {"a": "black", "b": "blond"}
    assert (found["model"]["method"], found["model"]["fit"]) == ("mask", "squash")
    assert found["training"]["weights"]["cycle_separate"] == 0.04
    refused = dida("train", "--config", "hair-colour", "--data", domains, "--set", "data.a=Male")
    assert refused.code == 2 and "name its parts with --name-a" in refused.err


def test_what_cannot_be_configured_is_refused_in_one_line(
    dida: Dida, domains: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = everything_in(tmp_path)

    def refused(*arguments: object) -> str:
        result = dida("train", "--data", domains, *arguments)
        assert result.code == 1 and result.out == "" and result.err.count("\n") == 1
        return result.err

    assert "did you mean training.steps?" in refused("--set", "steps=5")
    assert "no preset 'smal'" in refused("--config", "smal")
    assert "side 48" in refused("--config", small, "--side", 48)
    assert "the weight of mask must be 0 or more" in refused("--set", "training.weights.mask=-1")
    assert "celeba: holds neither" in dida("train", "--config", "beard-smile").err
    assert everything_in(tmp_path) == before


def test_resume_takes_no_other_settings(
    dida: Dida, domains: Path, small: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert dida("train", "--config", small, "--data", domains, "-o", run).code == 0
    for option in (["--config", small], ["--set", "training.steps=9"], ["--dry-run"]):
        result = dida("train", "--resume", run, *option)
        assert result.code == 2 and f"drop {option[0]}" in result.err
    (run / "config.toml").unlink()  # as a run of an earlier version
    assert dida("train", "--resume", run).code == 0


def test_list_presets_tells_each_on_a_line(dida: Dida) -> None:
    result = dida("train", "--list-presets")
    assert result.code == 0
    lines = dict(line.split(maxsplit=1) for line in result.out.splitlines())
    assert lines == settings.presets() and "beard-glasses" in lines


# Dry runs


def test_a_dry_run_tells_the_costs_and_writes_nothing(
    dida: Dida, domains: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (domains / "trainB" / "7.png").unlink()
    before = everything_in(tmp_path)
    result = dida("train", "--config", small, "--data", domains, "--dry-run", "--steps", 10**6)
    assert result.code == 0, result.err
    assert everything_in(tmp_path) == before
    told = result.out
    assert "A 8, B 7 (a, b)" in told
    counts = {n: int(c.replace(",", "")) for n, c in re.findall(r"  (.*?) +([\d,]+) par", told)}
    together = counts.pop("together")
    assert sum(counts.values()) == together
    assert list(counts) == [
        "encoder common",
        "encoder separate_a",
        "encoder separate_b",
        "decoder",
        "critic",
    ]
    assert counts["critic"] == (8 * 4 * 4 + 1) * 512 + 512 + 1
    # Four bytes of each number: five of every weight, four of the critic's, which has no mean.
    state = 4 * (5 * together - counts["critic"]) / 1e6
    assert f"{state:,.1f} MB, twice in a save" in told
    assert f"pictures             {15 * 3 * 32 * 32 / 1e6:,.1f} MB" in told
    (speed,) = re.findall(r"([\d.]+) steps/s at 4 \+ 4", told)
    (days, hours) = re.findall(r"time +(?:(\d+) d )?(\d+) h .*for 1000000 steps", told)[0]
    assert 24 * int(days or 0) + int(hours) == pytest.approx(10**6 / float(speed) / 3600, abs=1.1)


def test_the_peak_is_what_was_measured_and_a_save(dida: Dida, domains: Path, small: Path) -> None:
    told = dida("train", "--config", small, "--data", domains, "--dry-run").out
    peak, state, measured = (
        float(re.findall(f"{word} +(?:about )?([\\d,.]+) MB", told)[0].replace(",", ""))
        for word in ("memory", "Adam", "measured")
    )
    assert peak == pytest.approx(measured + state, abs=0.11)
    assert 100 < measured < 20_000


def test_a_dry_run_draws_no_avatars(
    dida: Dida, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(avatars, "write_set", lambda *_, **__: pytest.fail("draws"))
    result = dida("train", "--dry-run")
    assert result.code == 1 and "avatars: not drawn yet; type dida data avatars" in result.err
    assert not list(tmp_path.iterdir())


def test_a_dry_run_refuses_what_the_training_would(
    dida: Dida, domains: Path, small: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "precious").write_text("x")
    arguments = ["train", "--config", small, "--data", domains, "--dry-run"]
    assert "is not empty" in dida(*arguments, "-o", tmp_path / "taken").err
    assert "fewer than the batch of 9" in dida(*arguments, "--batch", 9).err
    assert "no model 'nobody'" in dida(*arguments, "--init", "nobody").err


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "1 min"), (59 * 60, "59 min"), (3600, "1 h 0 min"), (86_399, "1 d 0 h"), (2e5, "2 d 7 h")],
)
def test_durations_are_told_by_the_two_largest_units(seconds: float, words: str) -> None:
    assert _duration(seconds) == words
