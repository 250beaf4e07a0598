"""Checkpoints of the authors' programs become models that give the same codes and pictures."""

import hashlib
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import released
import torch
from conftest import Result
from torch import Tensor, nn

from dida_cli import checkpoint, images, methods
from dida_cli.codes import Codes
from dida_cli.methods import mask
from dida_cli.painter import blend
from dida_cli.players import Network

Run = Callable[..., Result]
ONE = ("--name-a", "smile")
NAMES = {"didd": (*ONE, "--name-b", "glasses"), "mask": ONE, "press": ONE}
OLDER = {"d_a": "decoder", "d_b": "mustacher"}
KINDS: dict[str, Callable[..., dict[str, nn.Module]]] = {
    "didd": released.didd,
    "mask": released.mask,
    "press": released.press,
}
CLOSE = 1e-5


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, apart from that of the tests' other files."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def small(kind: str, sep: int = 4) -> dict[str, Any]:
    """A checkpoint of few channels."""
    return released.saved(KINDS[kind](width=64, sep=sep))


def converted(dida: Run, saved: dict[str, Any], kind: str, **how: Any) -> Network:
    torch.save(saved, "checkpoint", **how)
    said = dida("convert", "checkpoint", "--from", kind, *NAMES[kind], "-o", "model")
    assert said.code == 0, said.err
    assert said.out == "model\n" and said.err.startswith("dida: converted; try: dida transfer -m")
    return checkpoint.load(Path("model"))


def close(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours.reshape(theirs.shape) - theirs).abs().max() <= CLOSE)


def pictures() -> Tensor:
    """Two pictures (2, 3, 128, 128) in [-1, 1]."""
    return torch.rand(2, 3, 128, 128) * 2 - 1


def test_domain_intersection_and_difference(dida: Run, place: Path) -> None:
    nets = released.didd()
    model = converted(dida, released.saved(nets), "didd")
    x = pictures()
    codes = model.encode(x)
    common, a, b = (nets[key](x) for key in ("e_common", "e_separate_A", "e_separate_B"))
    assert all(map(close, codes, (common, a, b)))
    # the first picture's common part with the second's smile and nothing, and the union of both
    theirs = nets["decoder"](
        torch.cat([common[[0, 0]], a[[1, 1]], torch.stack([b[0] * 0, b[1]])], dim=1)
    )
    moved = Codes(codes.common[[0, 0]], codes.a[[1, 1]], torch.stack([codes.b[0] * 0, codes.b[1]]))
    assert close(model.compose(moved).image, theirs)
    # the weights themselves, for most norms after them hide a wrong scale
    used = [m.module.weight for net in nets.values() for m in net.modules() if is_normed(m)]
    kept = [t for name, t in model.state_dict().items() if name.endswith(".weight")]
    assert len(used) == 23 and all(map(close, kept, used))  # the decoder's last has no norm
    assert torch.equal(model.compose(moved).image, model.compose(moved).image)
    assert not torch.equal(nets["e_common"](x), common)  # the release drifts from call to call


def is_normed(module: nn.Module) -> bool:
    return isinstance(module, released.SpectralNorm)


@pytest.mark.parametrize("names", [{}, OLDER], ids=["newer", "older"])
def test_mask_based_content_transfer(dida: Run, place: Path, names: dict[str, str]) -> None:
    nets = released.mask()
    model = converted(dida, released.saved(nets, names), "mask")
    assert isinstance(model, mask.Network)
    x = pictures()
    codes = model.encode(x)
    common, a = nets["e1"](x), nets["e2"](x)
    assert close(codes.common, common) and close(codes.a, a) and not codes.b.numel()
    moved, code = codes._replace(a=codes.a.flip(0)), torch.cat([common, a.flip(0)], dim=1)
    painted, where = nets["d_b"](code, x)
    assert close(model.layer(moved)[1], where)
    assert close(blend(model.layer(moved)[0], x, where), painted)
    base = nets["d_a"](torch.cat([common, 0 * a], dim=1))
    assert close(model.base(moved), base)
    # drawn whole, the layer lies on its own base
    rgb = nets["d_b"](code, torch.zeros_like(x))[0] / where
    assert close(model.compose(moved).image, blend(rgb, base, where))
    # a part is taken off where its mask is a tenth or more, and the guide's is put on
    own = nets["d_b"](torch.cat([common, a], dim=1), x)[1]
    put_on = nets["d_b"](code, torch.where(own >= 0.1, base, x))[0]
    made = model.compose(moved, x, codes).image
    seen = (put_on - x).abs().amax(1, keepdim=True).expand_as(x) > 6 / 127.5
    assert (made - put_on)[seen].abs().max() <= CLOSE
    assert 0.02 < own.mean() < 1 and seen.any()  # there was something to compare


def test_guided_content_transfer(dida: Run, place: Path) -> None:
    nets = released.press()
    model = converted(dida, released.saved(nets), "press")
    x = pictures()
    codes = model.encode(x)
    common, a = nets["e1"](x), nets["e2"](x)
    assert close(codes.common, common) and close(codes.a, a) and not codes.b.numel()
    for part in (1, 0):
        moved = codes._replace(a=part * codes.a.flip(0))
        theirs = nets["decoder"](torch.cat([common, part * a.flip(0)], dim=1))
        assert close(model.compose(moved).image, theirs)


@pytest.mark.parametrize(
    ("kind", "size", "method", "fit", "common"),
    [
        ("didd", 4, "didd", "crop", 56),
        ("mask", 2, "mask", "squash", 60),
        ("mask", 4, "mask", "squash", 60),
        ("press", 2, "didd", "crop", 60),
    ],
)
def test_the_config_tells_sizes_domains_and_preprocessing(
    dida: Run, place: Path, kind: str, size: int, method: str, fit: str, common: int
) -> None:
    nets = KINDS[kind](size=size, width=64, sep=4)
    config = converted(dida, released.saved(nets), kind).config
    settings = config.settings
    assert config.to_json() == {
        "method": method,
        "domains": {"a": "smile", "b": "glasses" if kind == "didd" else ""},
        "side": 64 * size,
        "fit": fit,
        "settings": settings,
    }
    sizes = {"architecture": "paper", "grid": size, "width": 64, "common": common, "separate": 4}
    assert sizes.items() <= settings.items()
    assert methods.complete(method, settings) == settings
    assert (settings["critic_target"], settings["rate"]) == ("paper", 2e-4)


def test_the_card_tells_where_the_weights_come_from(dida: Run, place: Path) -> None:
    converted(dida, small("press"), "press")
    text = Path("model/README.md").read_text()
    assert hashlib.sha256(Path("checkpoint").read_bytes()).hexdigest() in text
    assert "Press et al., ICLR 2019" in text and "| steps | 1234 |" in text
    assert "Moves the smile of one picture" in text and "\n# smile\n" in text


def test_the_folder_is_named_after_the_file_and_edits_pictures(
    dida: Run, place: Path, picture: Path
) -> None:
    torch.save(small("press"), "face.pt")
    assert dida("convert", "face.pt", "--from", "press", *ONE).out == "face.converted\n"
    said = dida(
        *("transfer", "-m", "face.converted", "-c", picture, "--guide-a", picture, "-o", "out.png")
    )
    assert said.code == 0, said.err
    assert images.read(Path("out.png")).size == (128, 128)


def same(one: Network, other: Network) -> bool:
    states = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in states)


def test_what_does_not_change_a_network_does_not_change_the_model(dida: Run, place: Path) -> None:
    saved = small("mask")
    model = converted(dida, saved, "mask")

    def again(changed: dict[str, Any], **how: Any) -> bool:
        Path("model").rename(f"model-{len(list(place.iterdir()))}")
        return same(converted(dida, changed, "mask", **how), model)

    assert again(saved, _use_new_zipfile_serialization=False)  # as torch 0.4 wrote
    assert again({key: saved[key] for key in reversed(saved) if key != "iters"})
    numbers = {**saved, "e1": {}}  # activations not counted, tensors in another order
    for name, tensor in reversed(saved["e1"].items()):
        _, number, leaf = name.split(".")
        numbers["e1"][f"full.{int(number) // 3 * 2 + int(number) % 3}.{leaf}"] = tensor
    assert again(numbers)
    model.load_state_dict(
        {k: 0 * t if "num_batches" in k else t for k, t in model.state_dict().items()}
    )
    uncounted = {
        key: {n: t for n, t in part.items() if "num_batches" not in str(n)}
        for key, part in saved.items()
        if key != "iters"
    }
    assert again(uncounted)  # as torch 0.4.0 wrote


Change = Callable[[dict[str, Any]], object]


def nan(tensor: Tensor) -> None:
    tensor.view(-1)[-1] = float("nan")


REFUSED: dict[str, tuple[str, Change, str]] = {
    "no network": (
        "didd",
        lambda s: s.pop("e_separate_B"),
        "e_separate_B is missing; is it the authors' checkpoint?",
    ),
    "no critic": ("mask", lambda s: s.pop("disc"), "disc is missing; is it the"),
    "foreign key": ("didd", lambda s: s.update(e_third={}), "e_third does not belong there; is it"),
    "hostile key": (
        "didd",
        lambda s: s.update({"\x1b[2Jx" * 99: 0}),
        "?[2Jx?[2Jx",
    ),
    "another kind": ("press", lambda s: s.update(d_a={}, d_b={}) or s.pop("decoder"), "mask"),
    "network of a number": ("didd", lambda s: s.update(decoder=3), "decoder holds no tensors"),
    "network of nothing": ("didd", lambda s: s.update(decoder={}), "decoder holds no tensors"),
    "no tensor": (
        "didd",
        lambda s: s["decoder"].pop("l2.0.module.weight_u"),
        "decoder.l2.0.module.weight_u is missing",
    ),
    "no last bias": (
        "mask",
        lambda s: s["e2"].pop("full.16.bias"),
        "e2.full.16.bias is missing",
    ),
    "no running mean": (
        "mask",
        lambda s: s["d_b"].pop("main.4.running_mean"),
        "d_b.main.4.running_mean is missing",
    ),
    "extra tensor": (
        "press",
        lambda s: s["e1"].update({"full.0.mean": torch.zeros(1)}),
        "e1.full.0.mean does not belong there",
    ),
    "extra layer": (
        "press",
        lambda s: s["e2"].update({"full.18.bias": torch.zeros(4)}),
        "e2 has 7 layers with tensors, not 6",
    ),
    "batch norm where there is none": (
        "press",
        lambda s: s["e1"].update({"full.1.weight": torch.zeros(32)}),
        "e1 has 7 layers with tensors, not 6",
    ),
    "foreign name": (
        "press",
        lambda s: s["e1"].update({"res.0.weight": torch.zeros(1)}),
        "e1: res.0.weight is no tensor of such a network",
    ),
    "name of a number": (
        "press",
        lambda s: s["e1"].update({7: torch.zeros(1)}),
        "e1: 7 is no tensor",
    ),
    "no value": (
        "press",
        lambda s: s["e1"].update({"full.0.bias": [0.5]}),
        "e1: full.0.bias is no tensor",
    ),
    "sparse": (
        "press",
        lambda s: s["e1"].update({"full.0.bias": torch.zeros(32).to_sparse()}),
        "e1: full.0.bias is no tensor",
    ),
    "shape": (
        "press",
        lambda s: s["e2"].update({"full.3.weight": torch.zeros(64, 32, 4, 4)}),
        "e2.full.3.weight has shape [64, 32, 4, 4], not [16, 16, 4, 4]",
    ),
    "shape of u": (
        "didd",
        lambda s: s["decoder"].update({"l1.0.module.weight_u": torch.zeros(3)}),
        "decoder.l1.0.module.weight_u has shape [3], not [64]",
    ),
    "shape of a bias": (
        "didd",
        lambda s: s["decoder"].update({"l1.0.module.bias": torch.zeros(3, 3)}),
        "decoder.l1.0.module.bias is missing, or not one number a channel",
    ),
    "wide": (
        "didd",
        lambda s: s["e_separate_A"].update({"l6.0.module.bias": torch.zeros(1).expand(9**9)}),
        "e_separate_A: l6.0.module.bias is no tensor of such a network",
    ),
    "two sizes of parts": (
        "didd",
        lambda s: s.update(e_separate_B=small("didd", sep=5)["e_separate_B"]),
        "e_separate_B.l6.0.module.weight_bar has shape [5, 64, 4, 4], not [4, 64, 4, 4]",
    ),
    "half precision": (
        "mask",
        lambda s: s["d_a"].update({"main.0.bias": s["d_a"]["main.0.bias"].half()}),
        "d_a.main.0.bias is torch.float16, not torch.float32",
    ),
    "not finite": (
        "mask",
        lambda s: nan(s["d_a"]["main.1.running_var"]),
        "d_a.main.1.running_var holds values that are not finite",
    ),
    "not finite, normed": (
        "didd",
        lambda s: nan(s["e_common"]["l4.0.module.weight_bar"]),
        "e_common.l4.0.module.weight_bar holds values that are not finite",
    ),
    "norm of nothing": (
        "didd",
        lambda s: s["e_common"]["l4.0.module.weight_u"].zero_(),
        "e_common.l4.0.module.weight holds values that are not finite",
    ),
    "critic without weights": (
        "didd",
        lambda s: s["disc"].pop("classify.0.weight"),
        "disc.classify.0.weight is missing",
    ),
    "critic of an oblong": (
        "didd",
        lambda s: s["disc"].update({"classify.0.weight": torch.zeros(512, 56 * 6)}),
        "disc.classify.0.weight is missing, or does not read 56 channels on a square",
    ),
    "grid of one cell": (
        "didd",
        lambda s: s["disc"].update({"classify.0.weight": torch.zeros(512, 56)}),
        "grid must be 2 cells or more, not 1",
    ),
    "grid too large": (
        "didd",
        lambda s: s["disc"].update({"classify.0.weight": torch.zeros(1, 56 * 8**2)}),
        "side must be 32 to 256 pixels, not 512",
    ),
}


def refused(dida: Run, place: Path, kind: str, words: str) -> None:
    """Told in one line that names the file, with nothing written."""
    before = sorted(place.rglob("*"))
    said = dida("convert", "checkpoint", "--from", kind, *NAMES[kind], "-o", "new/model")
    assert said.code == 1 and said.out == ""
    assert said.err.startswith("dida: checkpoint: ") and words in said.err
    assert said.err.count("\n") == 1 and said.err[:-1].isprintable() and len(said.err) < 400
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("case", REFUSED)
def test_a_checkpoint_that_is_not_as_released_is_refused(dida: Run, place: Path, case: str) -> None:
    kind, change, words = REFUSED[case]
    saved = small(kind)
    change(saved)
    torch.save(saved, "checkpoint")
    refused(dida, place, kind, words)


def test_the_right_kind_is_told(dida: Run, place: Path) -> None:
    for kind in KINDS:
        torch.save(small(kind), "checkpoint")
        for other in {*KINDS} - {kind}:
            refused(dida, place, other, f"its networks are those of --from {kind}")
    torch.save(released.saved(released.mask(width=64, sep=4), OLDER), "checkpoint")
    refused(dida, place, "press", "mustacher does not belong there; its networks are those of")


class Runs:
    """Unpickled, makes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def test_a_file_that_would_run_something_is_refused_unrun(dida: Run, place: Path) -> None:
    saved = small("press")
    name = f"{os.mkdir.__module__}.mkdir"
    for hidden in (saved | {"iters": Runs()}, saved | {"e1": {"full.0.bias": Runs()}}):
        for zipped in (True, False):
            torch.save(hidden, "checkpoint", _use_new_zipfile_serialization=zipped)
            refused(dida, place, "press", f"asks to run {name}, which was not done")
    torch.save(saved | {"e1": nn.Conv2d(3, 3, 1)}, "checkpoint")
    refused(dida, place, "press", "asks to run torch.nn.modules.conv.Conv2d, which was not done")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        Path("checkpoint").write_bytes(pickle.dumps(Runs(), protocol))
        refused(dida, place, "press", "")
    assert not Path("executed").exists()


def test_a_file_that_is_no_checkpoint_is_refused(dida: Run, place: Path) -> None:
    file = Path("checkpoint")
    refused(dida, place, "mask", "is no file")
    file.mkdir()
    refused(dida, place, "mask", "is no file")
    file.rmdir()
    damaged = [b"", b"hello" * 100, b"\x80\x02}", b"PK\x03\x04", pickle.dumps({"a": 1}, 2)]
    for zipped in (True, False):
        torch.save(small("mask"), file, _use_new_zipfile_serialization=zipped)
        whole = file.read_bytes()
        damaged += [whole[:-50], whole[:1000], whole[:20] + whole[40:]]
    for contents in damaged:
        file.write_bytes(contents)
        refused(dida, place, "mask", "is no whole checkpoint of torch's; get it again")
    for value in ([1, 2], torch.zeros(3), None):
        torch.save(value, file)
        refused(dida, place, "mask", "holds no networks")


def test_a_file_that_unpacks_to_more_than_it_holds_is_refused(dida: Run, place: Path) -> None:
    torch.save({"e1": torch.zeros(100_000)}, "plain")
    with (
        zipfile.ZipFile("plain") as plain,
        zipfile.ZipFile("checkpoint", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    refused(dida, place, "mask", "is compressed, which torch's files never are")


def test_a_folder_that_is_taken_is_left_alone(dida: Run, place: Path) -> None:
    torch.save(small("press"), "checkpoint")
    arguments = ("convert", "checkpoint", "--from", "press", *ONE, "-o", "model")
    folder = Path("model")
    folder.mkdir()
    (folder / "config.json").write_text("mine")
    said = dida(*arguments)
    assert said.code == 1
    assert said.err == "dida: model: is not empty; choose another folder with --out\n"
    assert [p.read_text() for p in folder.iterdir()] == ["mine"]
    (folder / "config.json").unlink()
    assert dida(*arguments).code == 0  # an empty one may be filled
    assert json.loads((folder / "config.json").read_text())["side"] == 128
    assert dida(*arguments[:-1], "checkpoint").code == 1
    assert zipfile.is_zipfile("checkpoint")


def test_wrong_usage_is_told(dida: Run, place: Path) -> None:
    said = dida("convert", "checkpoint", "--from", "munit", *ONE)
    assert said.code == 2 and "'didd', 'mask', 'press'" in said.err
    assert dida("convert", "checkpoint", *ONE).code == 2
    assert dida("convert", "checkpoint", "--from", "mask").code == 2
    said = dida("convert", "x", "--from", "didd", "--name-a", "smile", "--name-b", "smile")
    assert said.code == 1 and "give them different names" in said.err


def test_each_domain_that_has_a_part_and_no_other_gets_a_name(dida: Run, place: Path) -> None:
    for kind in KINDS:
        torch.save(small(kind), "checkpoint")
        wrong = ONE if kind == "didd" else (*ONE, "--name-b", "no smile")
        said = dida("convert", "checkpoint", "--from", kind, *wrong, "-o", "model")
        assert said.code == 1 and said.err.startswith("dida: checkpoint: ")
        assert "--name-b" in said.err and not Path("model").exists()


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_name_that_torch_would_read_for_hours_is_refused_at_once(
    dida: Run, place: Path, is_zip: bool
) -> None:
    name = b"a" * 5000
    hostile = b"\x80\x02c" + name + b"\nb\n."
    if is_zip:
        torch.save(small("didd"), "whole")
        with zipfile.ZipFile("whole") as whole, zipfile.ZipFile("checkpoint", "w") as made:
            for one in whole.namelist():
                made.writestr(one, hostile if one.endswith("data.pkl") else whole.read(one))
    else:
        heads = [pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {"little": True})]
        Path("checkpoint").write_bytes(b"".join(heads) + hostile)
    said = dida("convert", "checkpoint", "--from", "didd", *NAMES["didd"], "-o", "model")
    assert said.code == 1 and said.err.count("\n") == 1 and len(said.err) < 400
    assert "asks to run aaa" in said.err and not Path("model").exists()


def test_a_tensor_larger_than_what_is_stored_is_refused(dida: Run, place: Path) -> None:
    saved = small("didd")
    name, tensor = next(item for item in saved["decoder"].items() if item[1].ndim == 4)
    saved["decoder"][name] = tensor.new_zeros(1).expand(tensor.shape)
    torch.save(saved, "checkpoint")
    said = dida("convert", "checkpoint", "--from", "didd", *NAMES["didd"], "-o", "model")
    assert said.code == 1 and "is no tensor of such a network" in said.err
    assert not Path("model").exists()
