import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import configured
from safetensors.torch import load_file, save_file
from torch import Tensor

from dida_cli import checkpoint, hub
from dida_cli.config import DEFAULT_MODEL
from dida_cli.errors import DidaError
from dida_cli.players import Network


def test_what_is_saved_is_what_is_loaded(tiny: Network, model_folder: Path) -> None:
    loaded = checkpoint.load(model_folder)
    assert not loaded.training and loaded.config == tiny.config
    assert {p.name for p in model_folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }
    saved = tiny.state_dict()
    assert loaded.state_dict().keys() == saved.keys()
    assert all(torch.equal(value, saved[name]) for name, value in loaded.state_dict().items())


def test_a_spectrally_normed_model_is_saved_baked(tmp_path: Path) -> None:
    config = configured("didd", architecture="paper", grid=2, width=64, common=9, separate=3)
    model = checkpoint.build(config).eval()
    picture = torch.rand(1, 3, 32, 32)
    expected = model.compose(model.encode(picture)).image
    checkpoint.write_folder(tmp_path / "m", checkpoint.model_files(model, ""))
    loaded = checkpoint.load(tmp_path / "m")
    assert torch.equal(loaded.compose(loaded.encode(picture)).image, expected)


def changed(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_the_first_wrong_shape_is_named_with_both_shapes(model_folder: Path) -> None:
    changed(model_folder, lambda t: t.update({"decoder.0.bias": torch.zeros(7)}))
    with pytest.raises(DidaError, match=r"decoder\.0\.bias has shape \[7\].*asks for \[16\]"):
        checkpoint.load(model_folder)


def test_a_missing_and_an_extra_tensor_are_named(model_folder: Path) -> None:
    changed(model_folder, lambda t: t.update(spare=torch.zeros(1)))
    with pytest.raises(DidaError, match="spare does not belong"):
        checkpoint.load(model_folder)
    changed(model_folder, lambda t: (t.pop("spare"), t.pop("decoder.0.bias")))
    with pytest.raises(DidaError, match=r"decoder\.0\.bias is missing"):
        checkpoint.load(model_folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused(model_folder: Path, value: float) -> None:
    changed(model_folder, lambda t: t["decoder.0.weight"].view(-1)[5:6].fill_(value))
    with pytest.raises(DidaError, match=r"decoder\.0\.weight holds values that are not finite"):
        checkpoint.load(model_folder)


def test_another_number_type_is_refused(model_folder: Path) -> None:
    changed(
        model_folder,
        lambda t: t.update({"decoder.0.bias": t["decoder.0.bias"].half()}),
    )
    with pytest.raises(DidaError, match=r"decoder\.0\.bias is torch\.float16"):
        checkpoint.load(model_folder)


def test_damaged_files_are_refused_by_name(model_folder: Path) -> None:
    weights = model_folder / "model.safetensors"
    whole = weights.read_bytes()
    huge_header = struct.pack("<Q", 2**60) + whole[8:]
    for contents in (b"", whole[:100], whole[:-1], b"\x80\x04junk" * 100, huge_header):
        weights.write_bytes(contents)
        with pytest.raises(DidaError, match=r"model\.safetensors: not a whole safetensors file"):
            checkpoint.load(model_folder)
    weights.unlink()
    with pytest.raises(DidaError, match=r"model\.safetensors: no such file"):
        checkpoint.load(model_folder)


@pytest.mark.parametrize("contents", [b"", b"{", b"\xff\xfe", b"[" * 50_000, b" " * 200_000])
def test_a_config_that_is_no_json_is_refused(model_folder: Path, contents: bytes) -> None:
    (model_folder / "config.json").write_bytes(contents)
    with pytest.raises(DidaError, match=r"config\.json"):
        checkpoint.load(model_folder)


@pytest.mark.parametrize(
    "config",
    [
        {"architecture": "compact", "method": "layers", "side": 128, "width": 192},
        {"architecture": "compact", "method": "didd"},
    ],
)
def test_a_model_of_a_method_that_went_is_refused_in_one_line(
    model_folder: Path, config: dict[str, object]
) -> None:
    (model_folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DidaError, match=r"config\.json: of a method that .* train the model anew"):
        checkpoint.load(model_folder)


def test_a_config_that_asks_for_a_huge_network_costs_no_memory(model_folder: Path) -> None:
    config = json.loads((model_folder / "config.json").read_text())
    config["settings"] |= {"width": 4096}
    (model_folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DidaError, match="has shape"):
        checkpoint.load(model_folder)


def test_a_failed_write_keeps_the_old_folder_whole(tiny: Network, model_folder: Path) -> None:
    before = {p.name: p.read_bytes() for p in model_folder.iterdir()}
    tensors = {"x": torch.tensor([float("nan")])}
    with pytest.raises(DidaError, match="x is not finite"):
        checkpoint.write_folder(model_folder, {"config.json": b"new", "model.safetensors": tensors})
    with pytest.raises(DidaError, match="cannot be written"):
        checkpoint.write_folder(model_folder, {"no/such/folder": b"new"})
    assert {p.name: p.read_bytes() for p in model_folder.iterdir()} == before
    assert [p.name for p in model_folder.parent.iterdir()] == [model_folder.name]


def test_a_new_folder_moves_the_old_one_aside(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        checkpoint.write_folder(
            tmp_path / "last", {"n": str(number).encode()}, previous=tmp_path / "last-1"
        )
    assert (tmp_path / "last" / "n").read_text() == "3"
    assert (tmp_path / "last-1" / "n").read_text() == "2"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last", "last-1"]


def test_a_run_is_a_model(model_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    model_folder.rename(run / "last-1")
    assert hub.resolve(str(run)) == run / "last-1"  # a crash between two renames leaves this
    shutil.copytree(run / "last-1", run / "last")
    assert hub.resolve(str(run)) == run / "last"
    shutil.copytree(run / "last", run / "model")  # of a training that is over
    assert hub.resolve(str(run)) == run / "model"


def test_unknown_models_are_answered_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(DidaError, match=r"no model 'nope'; use .*avatars-smile-glasses"):
        hub.resolve("nope")
    with pytest.raises(DidaError, match=r"holds no config\.json"):
        hub.resolve(str(tmp_path))
    with pytest.raises(DidaError, match="no model"):
        hub.resolve("../models/avatars-smile-glasses/x")


def test_the_bundled_models_are_all_listed() -> None:
    assert DEFAULT_MODEL in hub.names() and hub.JUDGE not in hub.names()
