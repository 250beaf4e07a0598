"""Tiny models, a tiny data set, and the command line as a function."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from dida_cli import checkpoint, methods
from dida_cli.cli import main
from dida_cli.config import Domains, ModelConfig
from dida_cli.data import frames
from dida_cli.evaluate import attributes, probes, realism, report, told_apart, validation
from dida_cli.players import Network

# Where tests run in several processes, each keeps to its share of the cores, as do its commands.
THREADS = (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) or 1
torch.set_num_threads(THREADS)
os.environ["OMP_NUM_THREADS"] = str(THREADS)

# What takes long and is asked of where it is tested: how many frames are drawn for a training, and
# how long a network learns to tell edits from real pictures.
frames.BANK, told_apart.STEPS = 24, 2
# What judges see and learn elsewhere.
FEW, ITERATIONS, FID, PAIRS = report.FEW, probes.ITERATIONS, realism.fid, validation.PAIRS

SMALL = {
    "grid": 4,
    "width": 16,
    "common": 8,
    "separate": 3,
}  # settings, for methods with such codes


def configured(
    method: str, b: str = "glasses", a: str = "smile", **settings: object
) -> ModelConfig:
    """A config of 32 px with all settings of its method."""
    complete = methods.complete(method, settings)
    return ModelConfig(method=method, domains=Domains(a=a, b=b), side=32, settings=complete)


EXAMPLES = Path(__file__).parent.parent / "examples"
TINY = configured("didd", **SMALL)  # draws pictures whole
MASKED = configured("layers", **SMALL)  # paints by masks
RETOUCH = configured("retouch", code=3, width=4, encoder_width=4, critic_width=4)  # no common code


class Result(NamedTuple):
    code: int
    out: str
    err: str


def without(modules: Sequence[str], *arguments: object) -> str:
    """What a command prints, in a process of its own, in which it loads none of these modules."""
    program = (
        "import sys\nfrom dida_cli.cli import main\n"
        f"try: main({[str(a) for a in arguments]!r})\nexcept SystemExit as e: assert not e.code\n"
        f"sys.exit(' '.join({set(modules)!r} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def quick_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges learn and see next to nothing, but in tests of what they say."""
    monkeypatch.setattr(report, "FEW", 4)
    monkeypatch.setattr(probes, "ITERATIONS", 5)
    monkeypatch.setattr(attributes, "LEAST_STEPS", 3)
    monkeypatch.setattr(attributes, "EPOCHS_OF_PARTS", 1)
    monkeypatch.setattr(realism, "fid", lambda real, made: 0.0)
    monkeypatch.setattr(validation, "PAIRS", 4)


@pytest.fixture
def thorough_judges(monkeypatch: pytest.MonkeyPatch, quick_judges: None) -> None:
    """Scores are made as they are elsewhere."""
    monkeypatch.setattr(report, "FEW", FEW)
    monkeypatch.setattr(probes, "ITERATIONS", ITERATIONS)
    monkeypatch.setattr(realism, "fid", FID)
    monkeypatch.setattr(validation, "PAIRS", PAIRS)


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
def tiny() -> Network:
    """An untrained network of 32 px, small enough for any test; the same weights every time."""
    torch.manual_seed(0)
    return checkpoint.build(TINY).eval()


@pytest.fixture
def model_folder(tiny: Network, tmp_path: Path) -> Path:
    """The tiny network as a model folder."""
    return saved(tiny, tmp_path / "tiny")


@pytest.fixture
def masked_folder(tmp_path: Path) -> Path:
    """An untrained model with masks that are about 0.8 everywhere."""
    return saved(with_masks_of(0.5), tmp_path / "masked")


@pytest.fixture
def retouch_folder(tmp_path: Path) -> Path:
    """A model without a common code, whose masks have all values."""
    return saved(retouching(), tmp_path / "retouch")


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


def with_masks_of(logit: float, config: ModelConfig = MASKED) -> Network:
    """An untrained `layers` network whose masks are all but constant: sigmoid(logit + 1)."""
    torch.manual_seed(3)
    network = checkpoint.build(config).eval()
    last = network.get_submodule("decoder")[-1]  # type: ignore[index]
    with torch.no_grad():
        last.weight[3:] *= 0.01
        last.bias[3:] = logit
    return network


def retouching(config: ModelConfig = RETOUCH) -> Network:
    """An untrained `retouch` network that changes something, and every fourth row not."""
    torch.manual_seed(5)
    return covering(checkpoint.build(config).eval(), -2.0, -30.0, -30.0, -30.0)


def covering(network: Network, *logits: float) -> Network:
    """A `retouch` network that paints untrained colours, by these logits row by row of each 4 x 4,
    and shows nothing of what lies around."""
    last = network.get_submodule("retoucher.last")
    torch.nn.init.normal_(last.weight, std=0.01)  # type: ignore[arg-type]
    with torch.no_grad():
        last.bias[48:64] = -30.0  # type: ignore[index, operator]
        last.bias[64:80] = torch.tensor(logits).repeat_interleave(16 // len(logits))  # type: ignore
    return network


def saved(network: Network, folder: Path) -> Path:
    """A network as a model folder."""
    checkpoint.write_folder(folder, checkpoint.model_files(network, f"# {folder.name}\n"))
    return folder


def machine_made(name: str) -> bytes:
    """A file of data/portraits.zip, of a face that is nobody's."""
    with zipfile.ZipFile(Path(__file__).parents[1] / "data" / "portraits.zip") as pack:
        return pack.read(name)


def write_picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((48, 40), Image.Resampling.BILINEAR).save(path)
    return path
