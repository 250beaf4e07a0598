"""A tiny model, a tiny data set, and the command line as a function."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from dida_cli import checkpoint
from dida_cli.cli import main
from dida_cli.config import ModelConfig
from dida_cli.didd import Didd

# Where tests run in several processes, each keeps to its share of the cores, as do its commands.
THREADS = (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) or 1
torch.set_num_threads(THREADS)
os.environ["OMP_NUM_THREADS"] = str(THREADS)

TINY = ModelConfig(side=32, grid=4, width=16, common=8, separate_a=3, separate_b=2)


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def dida(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command in this process: dida("transfer", "-c", path) -> exit code and what it said."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Result(int(left.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def tiny() -> Didd:
    """An untrained network of 32 px, small enough for any test; the same weights every time."""
    torch.manual_seed(0)
    return checkpoint.build(TINY).eval()


@pytest.fixture
def model_folder(tiny: Didd, tmp_path: Path) -> Path:
    """The tiny network as a model folder."""
    checkpoint.write_folder(tmp_path / "tiny", checkpoint.model_files(tiny, "# tiny\n"))
    return tmp_path / "tiny"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture file with something to see in it, 48 x 40."""
    return write_picture(tmp_path / "picture.png", seed=1)


@pytest.fixture
def domains(tmp_path: Path) -> Path:
    """trainA and trainB with nine pictures each, the last held out; testA and testB with two."""
    root = tmp_path / "domains"
    for seed, (name, count) in enumerate(
        {"trainA": 9, "trainB": 9, "testA": 2, "testB": 2}.items()
    ):
        for index in range(count):
            write_picture(root / name / f"{index}.png", seed=100 * seed + index)
    return root


def write_picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((48, 40), Image.Resampling.BILINEAR).save(path)
    return path
