"""The authors' checkpoints as model folders. The one place of dida that reads pickles.

torch's restricted unpickler builds tensors and containers of them, and runs nothing else. Whatever
is not exactly a checkpoint of one of `KINDS` is refused by name.

A network's layers that hold tensors come in the same order there and here, so they are matched by
order; all widths are read off the tensors, and the side of the picture off the critic. The release
of DIDD takes one step of power iteration before every use of a normed weight: that step is taken
here, once, and the weight is kept divided by its norm. The model's outputs are therefore the first
of the release, whose later ones drift on.
"""

import hashlib
import io
import math
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeGuard

import torch
from torch import Tensor

from dida_cli import checkpoint, methods
from dida_cli.config import Domains, Fit, ModelConfig, short
from dida_cli.errors import DidaError
from dida_cli.paper import layouts
from dida_cli.players import Network

TENSOR = re.compile(r"(?:l([0-9]{1,3})\.0(?:\.module)?|(?:full|main)\.([0-9]{1,3}))\.\w+")
NORMED = ".module"  # ends the name of a layer with spectral norm
COUNTER = "num_batches_tracked"  # of a batch norm: torch 0.4.0 had none, and no output needs it
CRITIC = "disc"
UNUSED = {"ae_opt", "disc_opt", "iters"}  # what training goes on from
STAGES = 10  # no network has more
LEGACY = 4  # pickles in a file of an older torch
LONGEST_NAME = 200  # characters of a class or function that a pickle asks for
STRANGE = "is it the authors' checkpoint?"

Layers = dict[str, dict[str, Tensor]]  # name of a layer -> name of a tensor in it -> the tensor


class Kind(NamedTuple):
    """One of the published programs, and where its files keep which network of ours."""

    what: str
    method: str
    layout: layouts.Layout
    fit: Fit  # its preprocessing of CelebA
    keys: dict[str, str]  # network here -> key in the file
    older: dict[str, str]  # the same in older files, where it differs


_ENCODERS = {"encoders.common": "e1", "encoders.separate_a": "e2"}
KINDS = {
    "didd": Kind(
        what="Domain Intersection and Domain Difference (Benaim et al., ICCV 2019)",
        method="didd",
        layout=layouts.DIDD,
        fit="crop",
        keys={
            "encoders.common": "e_common",
            "encoders.separate_a": "e_separate_A",
            "encoders.separate_b": "e_separate_B",
            "decoder": "decoder",
        },
        older={},
    ),
    "mask": Kind(
        what="Mask Based Unsupervised Content Transfer (Mokady et al., ICLR 2020)",
        method="mask",
        layout=layouts.MASK,
        fit="squash",
        keys=_ENCODERS | {"plain": "d_a", "painter": "d_b"},
        older={"plain": "decoder", "painter": "mustacher"},
    ),
    "press": Kind(
        what="guided content transfer (Press et al., ICLR 2019)",
        method="didd",
        layout=layouts.PRESS,
        fit="crop",
        keys=_ENCODERS | {"decoder": "decoder"},
        older={},
    ),
}


def convert(path: Path, kind: str, domains: Domains, folder: Path) -> None:
    """Write the model of a checkpoint of one of `KINDS` into a new folder.

    Raises DidaError, nothing written, when the folder is taken, the file is no such checkpoint, or
    the domains are not those of its kind.
    """
    checkpoint.check_free(folder)
    saved = read(path)
    try:
        model = network(saved, KINDS[kind], domains)
    except DidaError as error:
        raise DidaError(f"{path}: {error}") from None
    text = card(path, KINDS[kind], model.config, saved.get("iters"))
    checkpoint.write_folder(folder, checkpoint.model_files(model, text))


def read(path: Path) -> dict[Any, Any]:
    """The dictionary that a pickled file holds; nothing that the file asks for is run.

    Raises DidaError when it asks for more than tensors, or is no whole file of torch's.
    """
    if not path.is_file():
        raise DidaError(f"{path}: is no file; give the checkpoint that the authors' code saved")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that no release of torch has written
            _check_no_bomb(path)
            _check_names(path)
            saved = torch.load(path, map_location="cpu", weights_only=True)
    except DidaError:
        raise
    except OSError as error:
        raise DidaError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # a damaged or hostile file fails in any way there is
        if wanted := re.search(r"GLOBAL (\S+)", str(error)):
            raise DidaError(
                f"{path}: asks to run {short(wanted[1])}, which was not done; a released "
                "checkpoint holds tensors alone: get it from its authors"
            ) from None
        raise DidaError(f"{path}: is no whole checkpoint of torch's; get it again") from None
    if not isinstance(saved, dict):
        raise DidaError(f"{path}: holds no networks; is it the authors' checkpoint?")
    return saved


def _check_no_bomb(path: Path) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > path.stat().st_size:
            raise DidaError(f"{path}: is compressed, which torch's files never are; get it again")


def _check_names(path: Path) -> None:
    """Raises DidaError for a name so long that torch would read it for hours, byte by byte."""
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith("data.pkl")]
                streams: list[BinaryIO] = [io.BytesIO(archive.read(name)) for name in names]
        except OSError as error:  # of places that are not in the file
            raise ValueError("a damaged archive") from error
    else:  # four pickles, one after the other
        streams = [io.BytesIO(path.read_bytes())] * LEGACY
    for stream in streams:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name in ("GLOBAL", "INST") and len(str(argument)) > LONGEST_NAME:
                raise DidaError(
                    f"{path}: asks to run {short(argument)}, which was not done; get it again"
                )


def network(saved: dict[Any, Any], kind: Kind, domains: Domains) -> Network:
    """The model that a checkpoint holds. Raises DidaError naming the first thing wrong in it."""
    keys = _keys(saved, kind)
    if ("encoders.separate_b" in keys) != bool(domains.b):
        wrong = "A alone has a part here: leave out --name-b"
        raise DidaError(wrong if domains.b else "B has a part too: say which, as --name-b glasses")
    found = {module: _layers(key, saved[key]) for module, key in keys.items()}
    model = checkpoint.blank(_config(found, saved[CRITIC], kind, domains))
    values: dict[str, Tensor] = {}
    for module, there in found.items():
        here = _grouped(model.get_submodule(module).state_dict(prefix=f"{module}."))
        if len(there) != len(here):
            raise DidaError(f"{keys[module]} has {len(there)} layers with tensors, not {len(here)}")
        for (name, layer), (target, like) in zip(there.items(), here.items(), strict=True):
            ready = _unnormed(name, layer, like) if name.endswith(NORMED) else layer
            if COUNTER in like:
                ready = {COUNTER: torch.tensor(0)} | ready
            _check(name, ready, like)
            values |= {f"{target}.{leaf}": tensor.detach() for leaf, tensor in ready.items()}
    model.load_state_dict(values, strict=True, assign=True)
    return model.requires_grad_(False)


def _grouped(tensors: dict[str, Tensor]) -> Layers:
    layers: Layers = {}
    for name, tensor in tensors.items():
        layer, _, leaf = name.rpartition(".")
        layers.setdefault(layer, {})[leaf] = tensor
    return layers


def _keys(saved: dict[Any, Any], kind: Kind) -> dict[str, str]:
    """Network here -> its key in this file, where every key is known and none is missing."""
    is_older = any(key in saved for key in kind.older.values())
    keys = kind.keys | (kind.older if is_older else {})
    known = (*keys.values(), CRITIC)
    for key in known:
        if key not in saved:
            raise DidaError(f"{key} is missing; {_hint(saved)}")
        if not isinstance(saved[key], dict):
            raise DidaError(f"{key} holds no tensors; {STRANGE}")
    for key in saved:
        if key not in UNUSED.union(known):
            raise DidaError(f"{short(key)} does not belong there; {_hint(saved)}")
    return keys


def _hint(saved: dict[Any, Any]) -> str:
    """What to type instead, if the keys are those of another kind."""
    for name, kind in KINDS.items():
        for keys in (kind.keys, kind.keys | kind.older):
            if set(saved) - UNUSED == {*keys.values(), CRITIC}:
                return f"its networks are those of --from {name}"
    return STRANGE


def _layers(key: str, tensors: dict[Any, Any]) -> Layers:
    """A network's layers in order; their numbers also count layers without tensors."""
    numbers: dict[str, int] = {}
    for name, tensor in tensors.items():
        match = TENSOR.fullmatch(str(name))
        if not match or not _is_plain(tensor):
            raise DidaError(f"{key}: {short(name)} is no tensor of such a network")
        numbers[name] = int(match[1] or match[2])
    if not numbers:
        raise DidaError(f"{key} holds no tensors; {STRANGE}")
    inorder = sorted(numbers, key=numbers.__getitem__)
    return _grouped({f"{key}.{name}": tensors[name] for name in inorder})


def _is_plain(value: object) -> TypeGuard[Tensor]:
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        return False
    if value.device.type != "cpu" or value.is_quantized:
        return False
    # more numbers than are stored: a few bytes that would be written as gigabytes
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _config(
    found: dict[str, Layers], critic: dict[Any, Any], kind: Kind, domains: Domains
) -> ModelConfig:
    """What the tensors say of a model: every width, and the side of its pictures."""
    codes = {module: _width(layers, -1) for module, layers in found.items()}
    decoder = [*found.values()][-1]  # either, where there are two
    common = codes["encoders.common"]
    grid = _grid(critic, common)
    stages = sum(any(t.ndim == 4 for t in layer.values()) for layer in decoder.values())
    settings = kind.layout.settings | {
        "grid": grid,
        "width": _width(decoder, 0),
        "common": common,
        "separate": codes["encoders.separate_a"],
    }
    return ModelConfig(
        method=kind.method,
        domains=domains,
        side=grid << min(stages, STAGES),
        fit=kind.fit,
        settings=methods.complete(kind.method, settings),
    )


def _width(layers: Layers, index: int) -> int:
    """Channels that a network's first (0) or last (-1) layer puts out."""
    name, layer = [*layers.items()][index]
    bias = layer.get("bias")
    if bias is None or bias.ndim != 1 or not len(bias):
        raise DidaError(f"{name}.bias is missing, or not one number a channel; {STRANGE}")
    return len(bias)


def _grid(critic: dict[Any, Any], common: int) -> int:
    """Side of the grid of codes: the critic reads common x grid x grid numbers."""
    weight = critic.get("classify.0.weight")
    inputs = weight.shape[-1] if _is_plain(weight) and weight.ndim == 2 else 0
    grid = math.isqrt(inputs // common)
    if not inputs or grid**2 * common != inputs:
        raise DidaError(
            f"{CRITIC}.classify.0.weight is missing, or does not read {common} channels on a "
            "square, which tells the side of the pictures"
        )
    return grid


def _unnormed(name: str, layer: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """A layer with spectral norm as one without: its weight divided by its largest singular value.

    As in a forward of the release: one step of power iteration, then sigma = u . (W v).
    """
    normed = like["weight"]
    rows = len(normed)
    u, v = normed.new_empty(rows), normed.new_empty(normed.numel() // rows)
    _check(name, layer, {"weight_bar": normed, "weight_u": u, "weight_v": v, "bias": like["bias"]})
    weight, u = layer["weight_bar"], layer["weight_u"]
    matrix = weight.reshape(rows, -1)
    v = matrix.t().mv(u)
    v = v / (v.norm() + 1e-12)
    u = matrix.mv(v)
    u = u / (u.norm() + 1e-12)
    return {"weight": weight / u.dot(matrix.mv(v)), "bias": layer["bias"]}


def _check(name: str, layer: dict[str, Tensor], like: dict[str, Tensor]) -> None:
    """Raises DidaError naming a missing, misshapen, mistyped, non-finite or extra tensor."""
    for leaf, wanted in like.items():
        tensor = layer.get(leaf)
        if tensor is None:
            raise DidaError(f"{name}.{leaf} is missing; {STRANGE}")
        if tensor.shape != wanted.shape:
            raise DidaError(
                f"{name}.{leaf} has shape {list(tensor.shape)}, not {list(wanted.shape)}"
            )
        if tensor.dtype != wanted.dtype:
            raise DidaError(f"{name}.{leaf} is {tensor.dtype}, not {wanted.dtype}")
        if not tensor.isfinite().all():
            raise DidaError(f"{name}.{leaf} holds values that are not finite; get the file again")
    if extra := layer.keys() - like.keys():
        raise DidaError(f"{name}.{short(min(extra))} does not belong there")


def card(path: Path, kind: Kind, config: ModelConfig, steps: object) -> str:
    """The README of a converted model: what it is, and what it was made from."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    a, b = config.domains.a, config.domains.b
    title = f"{a} <-> {b}" if b else a
    moved = f"the {a} or the {b}" if b else f"the {a}"
    trained = f"\n| steps | {steps} |" if type(steps) is int else ""
    pictures = "largest centred square" if config.fit == "crop" else "squashed whole to a square"
    return f"""---
library_name: dida
tags: [image-to-image, guided-content-transfer]
---
# {title}

Moves {moved} of one picture onto another. Converted by `dida convert`; the weights are their
authors', under their authors' terms.

| | |
|---|---|
| from | {kind.what} |
| file | {short(path.name)}, sha256 {digest} |
| pictures | {config.side} px, {pictures} |{trained}
| scores | not measured yet |
"""
