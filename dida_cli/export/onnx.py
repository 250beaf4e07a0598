"""An exported model, run by onnxruntime: the edits of a network without torch.

`write` writes the folder: config.json, a README.md, and two graphs, float32 in and out, the batch N
free: encode.onnx gives the codes of an `image`, those that the model has of common, a and b;
compose.onnx makes the `image` of codes. One of a model with masks also takes the picture that is
edited, `onto`, and its codes, own_common and so on, and gives the `mask`.

A graph is data to a C++ library, so it is one whole file without references to others. What it
takes and gives is compared with the config and with the other graph before it runs, and with what
it gave after.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dida_cli.codes import Ability, Codes, Rendering
from dida_cli.config import CHANNELS, CONFIG, ModelConfig, in_one_line, read_config, short
from dida_cli.errors import DidaError

ENCODE, COMPOSE = "encode.onnx", "compose.onnx"
OWN = "own_"  # before the names of the codes of the picture that is edited
MAX_BYTES = 2**31 - 1  # of a graph: what its format can hold
ELSEWHERE = b"location"  # the key under which a tensor names another file with its values
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

Shapes = Mapping[str, tuple[Any, ...]]  # of tensors by name: what comes after the batch


class Signature(NamedTuple):
    """What a graph takes and gives, by name: float32 (N, *shape), N the same in all."""

    inputs: Shapes
    outputs: Shapes


def signatures(side: int, codes: Shapes, *, masks: bool) -> dict[str, Signature]:
    """The graphs of a model with these codes, by the names of their files."""
    image = {"image": (3, side, side)}
    encode, compose = Signature(image, codes), Signature(codes, image)
    if masks:
        own = {OWN + name: shape for name, shape in codes.items()}
        compose = Signature(
            {**codes, **own, "onto": (3, side, side)}, image | {"mask": (1, side, side)}
        )
    return {ENCODE: encode, COMPOSE: compose}


def named(codes: Codes) -> dict[str, Any]:
    """The codes that have channels, by the names that graphs know them by."""
    return {name: code for name, code in codes._asdict().items() if code.shape[1]}


def as_codes(tensors: Mapping[str, Any]) -> Codes:
    """What `named` undoes."""
    none = next(iter(tensors.values()))[:, :0]
    return Codes(*(tensors.get(name, none) for name in Codes._fields))


class Graph:
    """A graph, ready to run: what it takes and gives, and the sha256 of its file."""

    def __init__(self, path: Path, device: str) -> None:
        """Raises DidaError when the file is no graph of float tensors, or refers to others."""
        self.path = path
        with in_one_line(path, "a whole ONNX file", *_failures()):
            if path.stat().st_size > MAX_BYTES:
                raise ValueError("it is too large")
            content = path.read_bytes()
            if ELSEWHERE in content:
                raise ValueError("it refers to other files")
            self.session = _library().InferenceSession(content, providers=_providers(device))
        self.digest = hashlib.sha256(content).hexdigest()
        self.signature = Signature(
            _shapes(path, "inputs", self.session.get_inputs()),
            _shapes(path, "outputs", self.session.get_outputs()),
        )

    def expect(self, wanted: Signature) -> None:
        """Raises DidaError when its inputs or outputs are not as wanted."""
        for what, found, asked in zip(Signature._fields, self.signature, wanted, strict=True):
            if found != asked:
                raise DidaError(
                    f"{self.path}: has the {what} {short(found)}, its config.json and the other "
                    f"graph ask for {short(asked)}; export the model anew"
                )

    def __call__(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs for a batch of inputs, all float32. Raises DidaError when one is wrong."""
        shapes, count = self.signature.outputs, len(next(iter(values.values())))
        with in_one_line(self.path, "able to run here", *_failures()):
            made = dict(zip(shapes, self.session.run([*shapes], dict(values)), strict=True))
        for name, value in made.items():
            if value.shape != (count, *shapes[name]) or not np.isfinite(value).all():
                raise DidaError(f"{self.path}: does not give {name} as it must; export it anew")
        return made


class Exported:
    """An exported model; its tensors are arrays.

    Attributes:
        abilities: a graph that paints needs the picture to paint onto: it draws none of codes.
        device: where it computes: cpu or cuda.
        fingerprint: sha256 of the sha256s of its graphs, in hexadecimal.
    """

    def __init__(self, config: ModelConfig, encode: Graph, compose: Graph) -> None:
        """Raises DidaError when the graphs are not of this config, or not of one model."""
        self.config, self._encode, self._compose = config, encode, compose
        codes, has_masks = encode.signature.outputs, "mask" in compose.signature.outputs
        parts = {name: shape for name, shape in codes.items() if name != "common"}
        if set(parts) != set(config.parts) or any(len(shape) != 3 for shape in codes.values()):
            codes = dict.fromkeys(config.parts, ("channels", "grid", "grid"))
        wanted = signatures(config.side, codes, masks=has_masks)
        encode.expect(wanted[ENCODE])
        compose.expect(wanted[COMPOSE])
        able: set[Ability] = {"masks" if has_masks else "common code"}
        self.abilities: frozenset[Ability] = frozenset(
            able | {"two parts"} if "b" in codes else able
        )
        self.device = "cuda" if CUDA in encode.session.get_providers() else "cpu"
        self.fingerprint = hashlib.sha256((encode.digest + compose.digest).encode()).hexdigest()

    def encode(self, image: Any) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1], float32, to their codes."""
        return as_codes(self._encode({"image": image}))

    def compose(self, codes: Codes, onto: Any = None, own: Codes | None = None) -> Rendering:
        """Codes to pictures, as `codes.Model` says; with masks only onto pictures."""
        given = named(codes)
        if "masks" in self.abilities:
            own = self.encode(onto) if own is None else own
            given |= {OWN + name: code for name, code in named(own).items()} | {"onto": onto}
        made = self._compose(given)
        return Rendering(made["image"], made.get("mask"))


def is_export(folder: Path) -> bool:
    """Whether a folder holds an exported model."""
    return (folder / ENCODE).exists()


def load(folder: Path, device: str = "auto") -> Exported:
    """The exported model of a folder. Raises DidaError naming the first thing wrong.

    `device`: cpu, cuda, or auto, which takes CUDA where this onnxruntime has it.
    """
    config = read_config(folder / CONFIG)
    return Exported(config, *(Graph(folder / name, device) for name in (ENCODE, COMPOSE)))


def _shapes(path: Path, what: str, found: Sequence[Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of a graph's tensors after the batch, by name."""
    there = {one.name: (one.type, one.shape) for one in found}
    for kind, shape in there.values():
        whole = all(isinstance(size, int) and 0 < size <= CHANNELS for size in shape[1:])
        if kind != "tensor(float)" or not shape or isinstance(shape[0], int) or not whole:
            raise DidaError(
                f"{path}: has the {what} {short(there)}, not float tensors of one size after "
                "a free batch; export the model anew"
            )
    return {name: tuple(shape[1:]) for name, (_, shape) in there.items()}


def _providers(device: str) -> list[str]:
    """Where onnxruntime shall compute, best first. Raises DidaError when CUDA is not there."""
    there = CUDA in _library().get_available_providers()
    if device == "cuda" and not there:
        raise DidaError(
            "this onnxruntime has no CUDA; use --device cpu, or install onnxruntime-gpu instead"
        )
    return [CUDA, CPU] if there and device != "cpu" else [CPU]


def _failures() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: it has a dozen exceptions of its own and no base for them."""
    found = vars(_library().capi.onnxruntime_pybind11_state).values()
    own = [value for value in found if isinstance(value, type) and issubclass(value, Exception)]
    return (RuntimeError, MemoryError, *own)


@cache
def _library() -> Any:
    if find_spec("onnxruntime") is None:
        raise DidaError(
            "running an exported model needs the package onnxruntime; "
            "type: pip install 'dida[onnx]'"
        )
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # what goes wrong is raised
    return onnxruntime
