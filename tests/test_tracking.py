"""What a training logs arrives where it is tracked."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from conftest import Result
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dida_cli import run as runs

SETTINGS = ("settings.width=16", "settings.common=8", "training.save_every=20")
SMALL = ["--side", 32, "--batch", 4, *(f"--set={setting}" for setting in SETTINGS)]


def test_tensorboard_gets_the_log_and_the_sheets(
    dida: Callable[..., Result], domains: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = [*SMALL, "--steps", 40, "--track", "tensorboard", "--out", run]
    done = dida("train", "--data", domains, *options)
    assert done.code == 0, done.err
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    logged = {name for line in runs.read_log(run) for name in line} - {"step"}
    assert logged and set(events.Tags()["scalars"]) == logged
    for line in runs.read_log(run):
        (found,) = [e for e in events.Scalars("critic") if e.step == line["step"]]
        assert found.value == pytest.approx(line["critic"], rel=1e-6)
    assert [image.step for image in events.Images("sheet")] == [20, 40]


@pytest.mark.parametrize("kind", ["trackio", "wandb"])
def test_the_dashboards_are_told_by_their_own_words(
    dida: Callable[..., Result],
    domains: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """The library is a stand-in that takes the words both real ones take."""
    told: list[Any] = []
    run = SimpleNamespace(
        log=lambda values, step: told.append((step, set(values))), finish=lambda: told.append("end")
    )
    library = ModuleType(kind)
    monkeypatch.setattr(library, "init", lambda **known: told.append(known) or run, raising=False)
    monkeypatch.setattr(library, "Image", lambda picture: picture, raising=False)
    monkeypatch.setitem(sys.modules, kind, library)
    options = [*SMALL, "--steps", 20, "--track", kind, "--out", tmp_path / "mine"]
    done = dida("train", "--data", domains, *options)
    assert done.code == 0, done.err
    begun, line, sheet, end = told
    assert (
        begun["name"] == "mine"
        and begun["project"] == "dida"
        and begun["config"]["stages"][0]["batch"] == 4
    )
    assert line[0] == 20 and {"critic", "rate"} <= line[1]
    assert sheet == (20, {"sheet"}) and end == "end"


def test_a_library_that_is_not_there_is_named(
    dida: Callable[..., Result], domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    done = dida(
        "train",
        "--data",
        domains,
        *SMALL,
        "--steps",
        2,
        "--track",
        "wandb",
        "--out",
        tmp_path / "r",
    )
    assert done.code == 1
    assert done.err == "dida: --track wandb: it is not installed; pip install wandb\n"
    assert not (tmp_path / "r").exists()
