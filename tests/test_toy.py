"""The house's promise: a method is one file. `toy.py` is one, and nothing else knows of it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from conftest import Result
from safetensors.torch import load_file
from trained import Noise, fit, recipe_for

from dida_cli import checkpoint, images, methods
from dida_cli import train as core
from dida_cli.cli import finish, main
from dida_cli.config import Domains, ModelConfig
from dida_cli.data import avatars

Dida = Callable[..., Result]
RECIPE = """
method = "toy"
data = "{data}"
[parts.a]
name = "smile"
with = "Smiling"
without = "not Smiling"
[parts.b]
name = "glasses"
with = "Eyeglasses"
without = "not Eyeglasses"
[[stages]]
side = 32
steps = 6
batch = 2
[training]
save_every = 2
score_every = 0
[settings]
common = 3
"""


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """All that it takes: a name and a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(methods.MODULES, "toy", "toy")
        patch.setattr(finish, "PAIRS", 6)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `dida train` makes of it and a few drawn faces."""
    folder = tmp_path_factory.mktemp("toy")
    avatars.write_set(folder / "faces", count=60, seed=1, side=32, workers=1)
    (folder / "toy.toml").write_text(RECIPE.format(data=folder / "faces"))
    with pytest.raises(SystemExit) as left:
        main(["train", str(folder / "toy.toml"), "-o", str(folder / "run")])
    assert not left.value.code
    return folder / "run"


@pytest.fixture(scope="module")
def faces(run: Path) -> list[Path]:
    return sorted((run.parent / "faces" / "images").iterdir())


def test_it_trains_resumes_saves_and_loads(tmp_path: Path) -> None:
    config = ModelConfig(method="toy", domains=Domains(a="hat", b="beard"), side=32)
    wanted = recipe_for(config, steps=(40, 4))
    fit(tmp_path / "whole", wanted)
    for stop in (3, 40, 42, 44):
        fit(tmp_path / "parts", wanted, stop)
    states = [load_file(tmp_path / run / "last" / core.run.STATE) for run in ("whole", "parts")]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    first, *_, last = core.run.read_log(tmp_path / "whole")
    assert last["rebuild"] < first["rebuild"] and last["pictures"] == 16
    network = checkpoint.load(tmp_path / "whole" / "last")
    assert isinstance(network, toy.Network) and network.config.settings["common"] == 2
    assert network.abilities == {"two parts", "common code"}
    picture = Noise(wanted)(0)["a"].has
    assert network.compose(network.encode(picture)).image.shape == picture.shape


def test_it_edits_pictures(dida: Dida, run: Path, faces: list[Path], tmp_path: Path) -> None:
    content, guide, *_ = faces
    for command, more in (
        ("transfer", ["-m", run, "--content", content, "--guide-a", guide]),
        (
            "interpolate",
            ["-m", run, "--content", content, "--guide-a", guide, "--guide-a", content],
        ),
        ("remove-attribute", ["-m", run, content, "--attribute", "glasses"]),
    ):
        result = dida(command, *more, "-o", tmp_path / f"{command}.png")
        assert result.code == 0, result.err
        assert (tmp_path / f"{command}.png").exists()
    refused = dida("segment", "-m", run, content, "-o", tmp_path / "no.png")
    assert refused.code != 0 and "mask" in refused.err and not (tmp_path / "no.png").exists()


def test_it_is_exported(dida: Dida, run: Path, faces: list[Path], tmp_path: Path) -> None:
    result = dida("export", run, "-o", tmp_path / "onnx")
    assert result.code == 0, result.err
    edit = ["--content", faces[0], "--guide-b", faces[1]]
    made = []
    for model, name in ((run, "torch.png"), (tmp_path / "onnx", "onnx.png")):
        result = dida("transfer", "-m", model, *edit, "-o", tmp_path / name)
        assert result.code == 0, result.err
        made.append(np.asarray(images.read(tmp_path / name)).astype(int))
    assert np.abs(made[0] - made[1]).max() <= 1


def test_it_is_scored(run: Path) -> None:
    card = (run / "model" / "README.md").read_text()
    for words in ("| method | toy, 32 px, ", "given to the target domain", "told apart"):
        assert words in card
    assert (run / "model" / "examples" / "worst.png").exists()
