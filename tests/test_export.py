"""Exported models: as torch computes them, without torch, and nothing foreign is run."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx as onnx_format
import pytest
import torch
from conftest import SMALL, Result, configured, retouching, write_picture
from onnx import TensorProto, helper
from PIL import Image, ImageSequence
from torch import nn

from dida_cli import checkpoint, codes, editor
from dida_cli.codes import Codes
from dida_cli.config import ModelConfig
from dida_cli.errors import DidaError
from dida_cli.export import onnx, write
from dida_cli.players import Network

Dida = Callable[..., Result]
ROOT = Path(__file__).parent.parent
ONE_SIDED = {"a": "hat", "b": ""}
PAPER = {"architecture": "paper"} | SMALL | {"width": 32}
FORMS = {
    "didd": configured("didd", **ONE_SIDED, **SMALL),
    "didd, paper": configured("didd", **PAPER),
    "mask, paper": configured("mask", **ONE_SIDED, **PAPER),
    "layers": configured("layers", **SMALL),
    "retouch": configured("retouch", code=[3, 0], width=4, encoder_width=4, critic_width=4),
}  # every class, norm and side; a compact `mask` has nothing of its own, and exports take seconds


class Pair(NamedTuple):
    """A model and its export."""

    network: Network
    folder: Path

    @property
    def exported(self) -> onnx.Exported:
        return onnx.load(self.folder, "cpu")


def built(config: ModelConfig) -> Network:
    """An untrained model whose norms and masks do something."""
    if config.method == "retouch":
        return checkpoint.baked(retouching(config))
    torch.manual_seed(4)
    model = checkpoint.build(config).eval()
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
        last = getattr(module, "out_channels", 0) == 4 and "encoders" not in name
        if last:
            module.weight.data *= 20  # masks of all values
    return checkpoint.baked(model)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """The model of a form and its export, made once."""
    made: dict[str, Pair] = {}

    def get(form: str) -> Pair:
        if form not in made:
            place = tmp_path_factory.mktemp("exports")
            source, network = place / "model", built(FORMS[form])
            checkpoint.write_folder(source, checkpoint.model_files(network, "# tiny\n"))
            write.export(source, form, place / "export")
            made[form] = Pair(checkpoint.load(source), place / "export")
        return made[form]

    return get


@pytest.fixture(params=FORMS)
def pair(request: pytest.FixtureRequest, exports: Callable[[str], Pair]) -> Pair:
    return exports(request.param)


@pytest.fixture
def small(exports: Callable[[str], Pair]) -> Pair:
    """The export that costs least."""
    return exports("didd")


@pytest.fixture
def copied(small: Pair, tmp_path: Path) -> Path:
    """One of its own, to be spoilt."""
    folder = tmp_path / "spoilt"
    folder.mkdir()
    for path in small.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def same(one: Any, other: Any) -> bool:
    if other is None:
        return one is None
    assert one.dtype == np.float32 and one.shape == tuple(other.shape)
    return bool(np.abs(one - other.numpy()).max() <= 1e-4)


@pytest.mark.parametrize("count", [1, 3])
def test_an_export_computes_what_the_network_does(pair: Pair, count: int) -> None:
    network, exported = pair.network, pair.exported
    side, parts = network.config.side, network.config.parts
    content, guide = torch.rand(2, count, 3, side, side, generator=torch.manual_seed(5)) * 2 - 1
    ours, theirs = exported.encode(content.numpy()), network.encode(content)
    of_guide = exported.encode(guide.numpy()), network.encode(guide)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == tuple(other.shape)
        assert not one.size or same(one, other)

    def edits(own: Codes, other: Codes) -> list[Codes]:
        both = {f"guide_{part}": other for part in parts}
        return [
            own,
            codes.transfer(own, guide_a=other),
            codes.transfer(own, **both),  # type: ignore[arg-type]
            own.without(*parts),
            codes.between(own, codes.transfer(own, guide_a=other.take(0)), 0.7),
        ]

    pairs = zip(edits(ours, of_guide[0]), edits(theirs, of_guide[1]), strict=True)
    for edited, expected in pairs:
        for own in (None, ours):
            made = exported.compose(edited, content.numpy(), own)
            wanted = network.compose(expected, content, None if own is None else theirs)
            assert all(same(*values) for values in zip(made, wanted, strict=True))
    if "masks" in exported.abilities:
        for wanted_parts in (parts, parts[:1]):
            made = codes.segment(exported, content.numpy(), *wanted_parts)
            assert same(made, codes.segment(network, content, *wanted_parts))


def test_abilities_are_those_of_the_graphs(pair: Pair) -> None:
    """What paints needs a picture to paint onto, so that it draws none of codes alone."""
    able, exported = pair.network.abilities, pair.exported.abilities
    assert exported == able - ({"common code"} if "masks" in able else set())


@pytest.mark.parametrize("form", ["mask, paper", "layers", "retouch"])
def test_unchanged_codes_change_nothing(exports: Callable[[str], Pair], form: str) -> None:
    exported = exports(form).exported
    picture = np.random.default_rng(0).random((1, 3, 32, 32), dtype=np.float32)
    made = exported.compose(exported.encode(picture), picture)
    assert np.array_equal(made.image, picture) and not made.mask.any()


def test_where_the_mask_is_0_an_exports_picture_stays_bit_for_bit(
    exports: Callable[[str], Pair],
) -> None:
    exported = exports("retouch").exported
    picture = np.random.default_rng(1).random((2, 3, 32, 32), dtype=np.float32) * 2 - 1
    own = exported.encode(picture)
    made = exported.compose(own.without("a", "b"), picture, own)
    kept = np.broadcast_to(made.mask == 0, picture.shape)
    assert 0.05 < kept.mean() < 0.95
    assert np.array_equal(made.image[kept], picture[kept])


def test_the_commands_make_the_same_pixels(
    dida: Dida, exports: Callable[[str], Pair], tmp_path: Path
) -> None:
    for seed, name in enumerate(("content", "guide")):
        write_picture(tmp_path / f"{name}.png", seed)
    content, guide = tmp_path / "content.png", tmp_path / "guide.png"
    masked: dict[str, tuple[object, ...]] = {
        "transfer": ("--content", content, "--guide-a", guide, "--sheet", tmp_path / "sheet.png"),
        "remove-attribute": (content, "--attribute", "glasses", "--mask-out", tmp_path / "m.png"),
        "segment": (content, "--as", "soft"),
        "interpolate": ("--content", content, "--guide-b", "none", "--guide-b", guide),
    }
    plain = {"interpolate": ("--content", content, "--content", guide, "--steps", 2)}
    for form, commands in (("layers", masked), ("retouch", masked), ("didd, paper", plain)):
        folder = exports(form).folder
        for command, arguments in commands.items():
            made = {}
            for runtime, model in (("onnx", folder), ("torch", folder.parent / "model")):
                out = tmp_path / f"{command}-{runtime}.png"
                chosen = ("--runtime", runtime, "-m", model, "--device", "cpu", "-o", out, "--json")
                result = dida(command, *arguments, *chosen)
                assert (result.code, result.err.replace("sheet:", "")[:5]) in (
                    (0, ""),
                    (0, "dida:"),
                )
                told = json.loads(result.out)
                assert told["device"] == "cpu" and len(told["model_sha256"]) == 64
                with Image.open(out) as picture:
                    shown = ImageSequence.Iterator(picture)  # all of one that moves
                    made[runtime] = np.stack([np.asarray(one.convert("RGB"), int) for one in shown])
            apart = np.abs(made["onnx"] - made["torch"])
            assert (apart <= 1).mean() > 0.999, (form, command)


def test_an_export_with_masks_draws_nothing_between_two_contents(
    dida: Dida, exports: Callable[[str], Pair], picture: Path, tmp_path: Path
) -> None:
    arguments = ("-m", exports("layers").folder, "-c", picture, "-c", picture)
    result = dida("interpolate", *arguments, "-o", tmp_path / "o.png")
    assert result.code == 1 and "avatars-smile-glasses-didd can" in result.err


def test_python_users_run_an_export_too(exports: Callable[[str], Pair], picture: Path) -> None:
    folder = exports("retouch").folder
    made = editor.load(folder, runtime="onnx").remove(picture, "glasses")
    wanted = editor.load(folder.parent / "model").remove(picture, "glasses")
    for one, other in ((made.image, wanted.image), (made.mask, wanted.mask)):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1


WITHOUT_TORCH = """
import sys
{blocked}
from dida_cli.cli import main
for line in sys.stdin:
    try:
        main(line.split())
    except SystemExit as left:
        assert not left.code
assert sys.modules.get("torch") is None
"""


@pytest.mark.parametrize("blocked", ["", "sys.modules['torch'] = None"])
def test_no_command_needs_torch_for_an_export(
    exports: Callable[[str], Pair], tmp_path: Path, blocked: str
) -> None:
    for seed, name in enumerate("xyz"):
        write_picture(tmp_path / f"{name}.png", seed)
    (tmp_path / "m").symlink_to(exports("mask, paper").folder)
    (tmp_path / "p").symlink_to(exports("didd").folder)
    commands = """transfer -c x.png --guide-a y.png -m m -o 1.png --sheet sheet.png
        remove-attribute x.png -m m -o 2.png --mask-out mask.png
        segment x.png --as overlay -m m -o 3.png
        interpolate -c x.png --guide-a y.png --guide-a z.png -m m -o 4.png
        interpolate -c x.png -c y.png --guide-a z.png -m p -o 5.png --json"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_TORCH.format(blocked=blocked)],
        input=commands,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:4] == ["1.png", "2.png", "3.png", "4.png"]
    assert done.stderr == "dida: sheet: sheet.png\n"


def test_the_folder_is_whole_and_says_what_it_is(small: Pair, tmp_path: Path) -> None:
    model, out = small.folder.parent / "model", tmp_path / "new" / "out"
    asked = [str(one) for one in ("export", model, "--format", "onnx", "-o", out)]
    without = "import sys; sys.modules['torchvision'] = None; from dida_cli.cli import main; "
    command = [sys.executable, "-c", f"{without}main({asked})"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{out}\n")
    assert done.stderr.startswith("dida: ") and done.stderr.count("\n") == 1
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "config.json",
        "encode.onnx",
        "compose.onnx",
    }
    assert [path.name for path in out.parent.iterdir()] == ["out"]  # no leavings
    card = (out / "README.md").read_text()
    assert "opset 18" in card and "| compose.onnx | output | image | N, 3, 32, 32 |" in card
    assert card.endswith("# tiny\n")
    for name in ("encode.onnx", "compose.onnx"):
        file = onnx_format.load(out / name)
        onnx_format.checker.check_model(file, full_check=True)
        assert [(one.domain, one.version) for one in file.opset_import] == [("", write.OPSET)]
        content = (out / name).read_bytes()
        assert content == (small.folder / name).read_bytes()  # the same again, byte for byte
        assert str(ROOT).encode() not in content and b"site-packages" not in content


def test_the_code_of_the_card_runs(exports: Callable[[str], Pair], tmp_path: Path) -> None:
    for form in ("didd, paper", "mask, paper", "retouch"):
        folder = exports(form).folder
        code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
        for seed, name in enumerate(("content", "guide")):
            write_picture(folder / f"{name}.png", seed)
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_what_stands_in_the_way_is_kept(dida: Dida, model_folder: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in model_folder.iterdir()}
    result = dida("export", model_folder, "-o", model_folder)
    assert result.code == 1 and "is not empty; choose another folder with --out" in result.err
    assert {path.name: path.read_bytes() for path in model_folder.iterdir()} == before
    (tmp_path / "file").write_text("mine")
    assert dida("export", model_folder, "-o", tmp_path / "file").code == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_other_formats_are_refused(dida: Dida, model_folder: Path) -> None:
    result = dida("export", model_folder, "--format", "tflite")
    assert result.code == 2 and result.err.count("\n") == 1 and "'onnx'" in result.err


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(
    dida: Dida,
    small: Pair,
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    onnx._library.cache_clear()
    arguments: tuple[object, ...] = ("export", small.folder.parent / "model")
    if package == "onnxruntime":
        arguments = ("remove-attribute", picture, "-m", small.folder)
    result = dida(*arguments, "-o", tmp_path / "out.png")
    assert result.code == 1 and result.err.count("\n") == 1
    assert f"the package {package};" in result.err and "pip install 'dida[onnx]'" in result.err
    assert not (tmp_path / "out.png").exists()


def test_a_runtime_and_a_folder_that_do_not_fit_are_refused(
    dida: Dida, small: Pair, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    for runtime, model, words in (
        ("onnx", model_folder, f"is not exported; dida export {model_folder} makes a folder"),
        ("onnx", "avatars-beard", "is not exported; dida export avatars-beard makes a folder"),
        ("torch", small.folder, "is an export, which torch cannot run; drop --runtime torch"),
    ):
        out = tmp_path / "out.png"
        arguments = ("remove-attribute", picture, "-m", model, "-o", out)
        result = dida(*arguments, "--runtime", runtime)
        assert result.code == 1 and words in result.err and result.err.count("\n") == 1
        assert not out.exists()


def test_cuda_is_refused_where_onnxruntime_has_none(small: Pair) -> None:
    with pytest.raises(DidaError, match="no CUDA; use --device cpu"):
        onnx.load(small.folder, "cuda")


def test_an_export_is_told_where_a_model_is_asked_for(dida: Dida, small: Pair) -> None:
    for arguments in (("models", "info", small.folder), ("evaluate", "-m", small.folder)):
        result = dida(*arguments)
        assert result.code == 1 and result.err.count("\n") == 1
        assert "model.safetensors: no such file" in result.err


def graph(
    inputs: dict[str, list[Any]],
    outputs: dict[str, list[Any]],
    value: float = 0,
    copies: int = 1,
) -> bytes:
    """An ONNX file with these inputs and outputs, which are full of one value."""
    kind, first = TensorProto.FLOAT, next(iter(inputs))
    constant = onnx_format.numpy_helper.from_array
    nodes = [
        helper.make_node("Shape", [first], ["batch"], start=0, end=1),
        helper.make_node("Constant", [], ["value"], value=constant(np.float32(value))),
    ]
    for name, (_, *sizes) in outputs.items():
        shape = [1 if isinstance(size, str) else size for size in sizes]
        rest, whole, one = (f"{name}_{word}" for word in ("rest", "whole", "one"))
        nodes += [
            helper.make_node("Constant", [], [rest], value=constant(np.array(shape, np.int64))),
            helper.make_node("Concat", ["batch", rest], [whole], axis=0),
            helper.make_node("Expand", ["value", whole], [one]),
            helper.make_node("Concat", copies * [one], [name], axis=0),
        ]
    made = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info(n, kind, shape) for n, shape in inputs.items()],
        [helper.make_tensor_value_info(n, kind, shape) for n, shape in outputs.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def external() -> bytes:
    """The same with a value that lies in another file."""
    file = onnx_format.load_from_string(graph(IMAGE, CODES))
    values = onnx_format.numpy_helper.from_array(np.float32([1, 2]), "elsewhere")
    values.ClearField("raw_data")
    values.data_location = TensorProto.EXTERNAL
    entry = values.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    file.graph.initializer.append(values)
    return bytes(file.SerializeToString())


IMAGE: dict[str, list[Any]] = {"image": ["N", 3, 32, 32]}
CODES: dict[str, list[Any]] = {"common": ["N", 8, 4, 4], "a": ["N", 3, 4, 4]}
WIDER: dict[str, list[Any]] = {"common": ["N", 9, 4, 4], "a": ["N", 3, 4, 4]}
SPOILT: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "empty": ("encode.onnx", lambda: b"", "not a whole ONNX file"),
    "no protobuf": ("encode.onnx", lambda: b"\xff" * 1000, "not a whole ONNX file"),
    "a text": ("encode.onnx", lambda: b"<html>not found</html>", "not a whole ONNX file"),
    "another file's values": ("encode.onnx", external, "it refers to other files"),
    "other inputs": ("encode.onnx", lambda: graph({"x": ["N", 3, 32, 32]}, CODES), "inputs"),
    "other outputs": ("encode.onnx", lambda: graph(IMAGE, {"y": ["N", 1]}), "outputs"),
    "a fixed batch": (
        "encode.onnx",
        lambda: graph({"image": [1, 3, 32, 32]}, CODES),
        "a free batch",
    ),
    "another side": (
        "encode.onnx",
        lambda: graph({"image": ["N", 3, 64, 64]}, CODES),
        "inputs",
    ),
    "no codes": ("encode.onnx", lambda: graph(IMAGE, {"x": ["N", 3, 4, 4]}), "outputs"),
    "codes of another part": (
        "encode.onnx",
        lambda: graph(IMAGE, CODES | {"b": ["N", 3, 4, 4]}),
        "outputs",
    ),
    "no part's code": (
        "encode.onnx",
        lambda: graph(IMAGE, {"common": ["N", 8, 4, 4]}),
        "outputs",
    ),
    "flat codes": ("encode.onnx", lambda: graph(IMAGE, {"a": ["N", 3]}), "outputs"),
    "codes of any size": (
        "encode.onnx",
        lambda: graph(IMAGE, {"a": ["N", "C", 4, 4]}),
        "a free batch",
    ),
    "huge codes": ("encode.onnx", lambda: graph(IMAGE, {"a": ["N", 10**6, 4, 4]}), "a free batch"),
    "codes of another width": ("compose.onnx", lambda: graph(WIDER, IMAGE), "inputs"),
    "a picture of another side": (
        "compose.onnx",
        lambda: graph(CODES, {"image": ["N", 3, 64, 64]}),
        "outputs",
    ),
    "a mask that needs no picture": (
        "compose.onnx",
        lambda: graph(CODES, IMAGE | {"mask": ["N", 1, 32, 32]}),
        "inputs",
    ),
    "another batch than was given": (
        "compose.onnx",
        lambda: graph(CODES, IMAGE, copies=2),
        "does not give image as it must",
    ),
    "nan": (
        "compose.onnx",
        lambda: graph(CODES, IMAGE, np.nan),
        "does not give image as it must",
    ),
    "no config": ("config.json", lambda: b"{}", "is missing"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_foreign_file_is_one_line(
    dida: Dida, copied: Path, picture: Path, tmp_path: Path, case: str
) -> None:
    name, content, words = SPOILT[case]
    (copied / name).write_bytes(content())
    out = tmp_path / "out.png"
    result = dida("remove-attribute", picture, "-m", copied, "-o", out)
    assert result.code == 1 and result.err.count("\n") == 1, result.err
    assert words in result.err and name in result.err
    assert not out.exists()


def test_a_missing_cut_or_swapped_graph_is_one_line(copied: Path, small: Pair) -> None:
    compose = copied / "compose.onnx"
    whole = compose.read_bytes()
    for end in (1, len(whole) // 2, len(whole) - 1):
        compose.write_bytes(whole[:end])
        with pytest.raises(DidaError, match=r"compose\.onnx"):
            onnx.load(copied)
    compose.write_bytes((copied / "encode.onnx").read_bytes())
    with pytest.raises(DidaError, match="has the inputs"):
        onnx.load(copied)
    compose.write_bytes(whole)
    encode = (copied / "encode.onnx").read_bytes()
    (copied / "encode.onnx").write_bytes(graph(IMAGE, WIDER))
    with pytest.raises(DidaError, match=r"compose\.onnx: has the inputs .*the other graph"):
        onnx.load(copied)
    (copied / "encode.onnx").write_bytes(encode)
    compose.unlink()
    with pytest.raises(DidaError, match=r"compose\.onnx: no such file"):
        onnx.load(copied)
    compose.mkdir()
    with pytest.raises(DidaError, match="is a folder"):
        onnx.load(copied)


def test_a_huge_file_is_not_read(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "MAX_BYTES", 1000)
    with pytest.raises(DidaError, match="too large"):
        onnx.load(copied)
