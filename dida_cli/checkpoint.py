"""A model is a folder: config.json + model.safetensors + README.md. Strict, atomic, verified.

Only safetensors is ever read. The header is compared with what the config asks for before a byte
of weights is loaded, so a foreign or hostile file costs no memory.
"""

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dida_cli import methods
from dida_cli.config import (
    CARD,
    CONFIG,
    WEIGHTS,
    ModelConfig,
    in_one_line,
    read_config,
    read_header,
    short,
)
from dida_cli.errors import DidaError
from dida_cli.nets import bake_spectral
from dida_cli.players import Network

DTYPES = {  # that are held
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
}


def build(config: ModelConfig) -> Network:
    """A network with fresh weights. Raises DidaError where no network is as its config says."""
    return methods.find(config.method).Network(config)


def blank(config: ModelConfig, where: str = CONFIG) -> Network:
    """A network without spectral norms, as models are kept; shapes only, no memory.

    Raises DidaError as `build` does, naming `where` the config stands.
    """
    try:
        with torch.device("meta"):
            model = build(config)
            bake_spectral(list(model.modules()))
    except DidaError as error:  # may quote the file at length
        raise DidaError(f"{where}: {short(error)}") from None
    return model.eval().requires_grad_(False)


def baked(model: Network) -> Network:
    """A copy of a network in eval mode whose spectral norms have become part of the weights.

    Built anew, for torch takes the norms off a whole class: a deep copy's going would be its own.
    """
    still = blank(model.config)
    values = {}
    for name in still.state_dict():
        owner, _, leaf = name.rpartition(".")
        values[name] = getattr(model.get_submodule(owner), leaf).detach().clone()
    still.load_state_dict(values, strict=True, assign=True)
    return still


def model_files(model: Network, card: str) -> dict[str, bytes | dict[str, Tensor]]:
    """The three files of a model folder, for `write_folder`."""
    config = json.dumps(model.config.to_json(), indent=2) + "\n"
    weights = dict(baked(model).state_dict())
    return {CONFIG: config.encode(), CARD: card.encode(), WEIGHTS: weights}


def read_card(folder: Path) -> tuple[str, str]:
    """A model's card: what the Hub reads of it, which stands first in any made of it; the rest."""
    path = folder / CARD
    with in_one_line(path, "a readable card"):
        head, body = "", path.read_text(encoding="utf-8") if path.exists() else ""
    if body.startswith("---\n") and (end := body.find("\n---\n", 4)) > 0:
        head, body = body[: end + 5], body[end + 5 :]
    return head, body.strip() or "It has none."


def load(folder: Path, device: str = "cpu") -> Network:
    """The model of a folder, in eval mode. Raises DidaError naming the first thing wrong."""
    model = blank(read_config(folder / CONFIG), str(folder / CONFIG))
    tensors = read_tensors(folder / WEIGHTS, model.state_dict(), device)
    model.load_state_dict(tensors, strict=True, assign=True)
    return model.requires_grad_(False)


def read_tensors(path: Path, like: Mapping[str, Tensor], device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a safetensors file: names, shapes and types as in `like`, every value finite.

    Raises DidaError naming the first missing, extra, misshapen, mistyped or non-finite tensor.
    """
    with in_one_line(path, "a whole safetensors file", SafetensorError):
        _check_header(path, like)
        with safe_open(path, framework="pt", device=device) as file:
            # Cloned: a view of the file would change, or end the process, with the file.
            tensors = {name: file.get_tensor(name).clone() for name in like}
    if name := _not_finite(tensors):
        raise DidaError(f"{path}: tensor {name} holds values that are not finite; get it again")
    return tensors


def _check_header(path: Path, like: Mapping[str, Tensor]) -> None:
    header = read_header(path)
    if missing := sorted(like.keys() - header.keys()):
        raise DidaError(f"{path}: tensor {missing[0]} is missing; is it a model of dida?")
    if extra := sorted(header.keys() - like.keys() - {"__metadata__"}):
        name = short(extra[0])
        raise DidaError(f"{path}: tensor {name} does not belong to this config; wrong file?")
    for name, tensor in like.items():
        match header[name]:
            case {"shape": list(sides), "dtype": str(code)}:
                kind = DTYPES.get(code, code)
            case _:
                raise ValueError(f"its header gives {name} no shape and type")
        if sides != list(tensor.shape):
            raise DidaError(
                f"{path}: tensor {name} has shape {short(sides)}, config.json asks for "
                f"{list(tensor.shape)}; the two files do not belong together"
            )
        if kind != tensor.dtype:
            raise DidaError(f"{path}: tensor {name} is {short(kind)}, not {tensor.dtype}")


def _not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with a value that is not finite."""
    return next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)


def check_free(folder: Path) -> None:
    """Raises DidaError when something stands where a new folder is to go."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DidaError(f"{folder}: is not empty; choose another folder with --out")


def write_folder(
    folder: Path, files: Mapping[str, bytes | dict[str, Tensor]], previous: Path | None = None
) -> None:
    """Write all files into a new folder and rename it to `folder`, at once or not at all.

    A file's name may have a folder before it: examples/worst.png. What stood at `folder` moves to
    `previous`, or is deleted. Everything reaches the disk before the rename, so that a crash leaves
    the old or the new; between the two renames the old is at `previous`, or hidden beside until the
    next write. Raises DidaError, the old one kept.
    """
    prefix = f".{folder.name}."
    retired = previous or folder.with_name(f"{prefix}old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _bring_back(retired, folder)
        for stale in folder.parent.glob(f"{glob.escape(prefix)}*"):
            shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            dir=folder.parent, prefix=prefix, ignore_cleanup_errors=True
        ) as place:
            new = Path(place)
            new.chmod(0o755)
            for name, contents in files.items():
                (new / name).parent.mkdir(exist_ok=True)
                _write_file(new / name, contents)
            for inside in {new, *((new / name).parent for name in files)}:
                _sync(inside)
            try:
                if folder.exists():
                    shutil.rmtree(retired, ignore_errors=True)
                    folder.rename(retired)
                new.rename(folder)
            finally:
                _bring_back(retired, folder)
        _sync(folder.parent)
    except (OSError, SafetensorError) as error:
        raise DidaError(f"{folder}: cannot be written ({error}); what was there is kept") from None
    if not previous:
        shutil.rmtree(retired, ignore_errors=True)


def _bring_back(retired: Path, folder: Path) -> None:
    """What a crash or an error between the two renames of a write has left without its name."""
    if retired.exists() and not folder.exists():
        retired.rename(folder)


def _write_file(path: Path, contents: bytes | dict[str, Tensor]) -> None:
    if isinstance(contents, bytes):
        path.write_bytes(contents)
    else:
        if name := _not_finite(contents):
            raise DidaError(f"{path.name}: tensor {name} is not finite; nothing was saved")
        # Own, dense memory for every tensor: what safetensors asks for.
        save_file({n: t.detach().cpu().contiguous() for n, t in contents.items()}, path)
        path.chmod(0o644)
    _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def state_of(parts: Mapping[str, nn.Module | torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Named modules and Adam optimizers as one flat dictionary of tensors."""
    flat: dict[str, Tensor] = {}
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            flat |= {f"{name}.{key}": value.clone() for key, value in part.state_dict().items()}
        else:
            _touch(part)
            for index, moments in part.state_dict()["state"].items():
                flat |= {f"{name}.{index}.{key}": value for key, value in moments.items()}
    return flat


def restore(parts: Mapping[str, nn.Module | torch.optim.Optimizer], path: Path) -> None:
    """Fill modules and optimizers from what `state_of` gave. Raises DidaError as `load` does."""
    tensors = read_tensors(path, state_of(parts))
    for name, part in parts.items():
        prefix = f"{name}."
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if isinstance(part, nn.Module):
            part.load_state_dict(own, strict=True)
        else:
            for index, moments in part.state_dict()["state"].items():
                for moment, value in moments.items():
                    # Copied in place: fused Adam goes wrong where a moment's memory layout is not
                    # its parameter's, and channels_last does not survive a file.
                    value.copy_(own[f"{index}.{moment}"])


def _touch(optimizer: torch.optim.Optimizer) -> None:
    """Make Adam create the moments that it has not yet, of parameters that never had a gradient.

    All zero, as before a first step: by a step along gradients of zero, which moves nothing.
    """
    every = [p for group in optimizer.param_groups for p in group["params"]]
    untouched = [p for p in every if p not in optimizer.state]
    if not untouched:
        return
    optimizer.zero_grad(set_to_none=True)
    for parameter in untouched:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for parameter in untouched:
        optimizer.state[parameter]["step"].zero_()
