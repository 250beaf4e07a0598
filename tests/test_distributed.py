"""A training in several processes is the one in a single process; one lost loses nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import Result
from one_of_many import SMALL, fit, recipe
from safetensors.torch import load_file

from dida_cli import run as runs
from dida_cli.distributed import Group
from dida_cli.errors import DidaError
from dida_cli.training import Training, resumed

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ONE = str(Path(__file__).parent / "one_of_many.py")
CLOSE = 1e-5  # of weights that are about 0.1


@pytest.fixture(autouse=True)
def in_double_precision() -> Iterator[None]:
    """Adam and L1 make something of the last digit of a sum; over two processes it is another."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def two(run: Path, stop: int, pause: float = 0) -> subprocess.Popen[str]:
    """Two processes that train in `run` up to the step `stop`."""
    command = [*TORCHRUN, ONE, str(run), str(stop), str(pause)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def finish(training: subprocess.Popen[str]) -> None:
    _, said = training.communicate(timeout=300)
    assert training.returncode == 0, said


def weights(run: Path) -> dict[str, torch.Tensor]:
    state = load_file(run / "last" / "state.safetensors")
    return {
        name: value for name, value in state.items() if name.startswith(("network.", "critic."))
    }


def same(one: Path, other: Path) -> bool:
    here, there = weights(one), weights(other)
    assert here.keys() == there.keys() and len(here) > 20
    return all((here[name] - there[name]).abs().max() <= CLOSE for name in here)


def test_two_processes_are_one_and_a_resume_may_change_their_number(tmp_path: Path) -> None:
    fit(tmp_path / "one", 8, recipe())
    finish(two(tmp_path / "two", 8))
    assert same(tmp_path / "one", tmp_path / "two")
    logs = [runs.read_log(tmp_path / run) for run in ("one", "two")]
    assert [line["step"] for line in logs[1]] == [2, 4, 6, 8]
    for one, both in zip(*logs, strict=True):
        assert one == pytest.approx(both, abs=CLOSE)

    finish(two(tmp_path / "resumed", 3))
    fit(tmp_path / "resumed", 6, recipe())
    finish(two(tmp_path / "resumed", 8))
    assert same(tmp_path / "one", tmp_path / "resumed")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_training_and_what_is_done_is_saved(
    tmp_path: Path, lost: int
) -> None:
    run = tmp_path / "run"
    both = two(run, 100_000, pause=0.02)
    for _ in range(600):
        time.sleep(0.1)
        if len(runs.read_log(run)) > 2:
            break
    step = runs.read_log(run)[-1]["step"]
    os.kill(int(Path(f"{run}-{lost}.pid").read_text()), signal.SIGKILL)
    _, said = both.communicate(timeout=120)
    assert both.returncode != 0
    assert "another process of this training has ended" in said
    assert resumed(recipe(), run / "last").step >= step
    assert not list(run.glob(".saving-*"))


def test_a_batch_in_parts_is_the_whole_batch(tmp_path: Path) -> None:
    fit(tmp_path / "whole", 4, recipe())
    fit(tmp_path / "parts", 4, recipe(accumulate=4))
    assert same(tmp_path / "whole", tmp_path / "parts")


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(DidaError, match="batch of 16 cannot be shared by 3 processes; give anoth"):
        Training(recipe(), group=Group(0, 3))
    with pytest.raises(DidaError, match="by 2 processes of 16 parts"):
        Training(recipe(accumulate=16), group=Group(0, 2))


def test_the_command_trains_in_two_processes(
    tmp_path: Path, dida: Callable[..., Result], domains: Path
) -> None:
    small = [f"--set=settings.{name}={value}" for name, value in SMALL.items()]
    options = "--method didd --side 32 --batch 4 --steps 2 --set training.save_every=2".split()
    train = ["-m", "dida_cli", "train", "--data", str(domains), *options, *small, "--out", "run"]
    command = [*TORCHRUN, *train]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "run\n"  # said once
    assert done.stderr.count("dida: trained") == 1
    assert runs.read_log(tmp_path / "run")[-1]["step"] == 2
    assert (tmp_path / "run" / "sheets" / "step-000002.png").exists()
