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
from typing import Any

import numpy as np

from dida_cli.codes import Ability, Codes, Rendering
from dida_cli.config import CHANNELS, CONFIG, ModelConfig, in_one_line, read_config, short
from dida_cli.errors import DidaError

ENCODE, COMPOSE = "encode.onnx", "compose.onnx"
OWN = "own_"  # before the names of the codes of the picture that is edited
MAX_BYTES = 2**31 - 1  # of a graph: what its format can hold
ELSEWHERE = b"location"  # the key under which a tensor names another file with its values
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

Shapes = Mapping[str, tuple[int, ...]]  # of tensors by name: what comes after the batch


def signature_of_compose(
    codes: Shapes, picture: tuple[int, ...], *, masks: bool
) -> tuple[Shapes, Shapes]:
    """What compose.onnx takes, and what it gives, for a model with these codes."""
    if not masks:
        return codes, {"image": picture}
    own = {OWN + name: shape for name, shape in codes.items()}
    return {**codes, **own, "onto": picture}, {"image": picture, "mask": (1, *picture[1:])}


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
            self.session = _library().InferenceSession(
                content, _options(), providers=_providers(device)
            )
        self.digest = hashlib.sha256(content).hexdigest()
        self.inputs = _shapes(path, "inputs", self.session.get_inputs())
        self.outputs = _shapes(path, "outputs", self.session.get_outputs())

    def expect(self, what: str, found: Shapes, wanted: Mapping[str, Any]) -> None:
        """Raises DidaError when its inputs or outputs are not as wanted."""
        if found != wanted:
            raise DidaError(
                f"{self.path}: has the {what} {short(found)}, its config.json and the other graph "
                f"ask for {short(wanted)}; export the model anew"
            )

    def __call__(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs for a batch of inputs, all float32. Raises DidaError when one is wrong."""
        names, count = list(self.outputs), len(next(iter(values.values())))
        with in_one_line(self.path, "able to run here", *_failures()):
            made = dict(zip(names, self.session.run(names, dict(values)), strict=True))
        for name, value in made.items():
            if value.shape != (count, *self.outputs[name]) or not np.isfinite(value).all():
                raise DidaError(f"{self.path}: does not give {name} as it must; export it anew")
        return made


class Exported:
    """An exported model; its tensors are arrays."""

    def __init__(self, config: ModelConfig, encode: Graph, compose: Graph) -> None:
        """Raises DidaError when the graphs are not of this config, or not of one model."""
        self.config, self._encode, self._compose = config, encode, compose
        picture = (3, config.side, config.side)
        codes = encode.outputs
        encode.expect("inputs", encode.inputs, {"image": picture})
        parts = {name: shape for name, shape in codes.items() if name != "common"}
        if set(parts) != set(config.parts) or any(len(s) != 3 for s in codes.values()):
            encode.expect(
                "outputs", codes, dict.fromkeys(config.parts, ("channels", "grid", "grid"))
            )
        self.has_masks = "mask" in compose.outputs
        wanted = signature_of_compose(codes, picture, masks=self.has_masks)
        compose.expect("inputs", compose.inputs, wanted[0])
        compose.expect("outputs", compose.outputs, wanted[1])

    @property
    def abilities(self) -> frozenset[Ability]:
        """What the graphs can do: one that paints takes the picture to paint onto."""
        found: set[Ability] = {"masks"} if self.has_masks else {"common code"}
        return frozenset(found | {"two parts"} if "b" in self._encode.outputs else found)

    @property
    def device(self) -> str:
        """Where it computes: cpu or cuda."""
        return "cuda" if CUDA in self._encode.session.get_providers() else "cpu"

    @property
    def fingerprint(self) -> str:
        """sha256 of the sha256s of its graphs, in hexadecimal."""
        digests = self._encode.digest + self._compose.digest
        return hashlib.sha256(digests.encode()).hexdigest()

    def encode(self, image: Any) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1], float32, to their codes."""
        return as_codes(self._encode({"image": image}))

    def compose(self, codes: Codes, onto: Any = None, own: Codes | None = None) -> Rendering:
        """Codes to pictures, as `codes.Model` says; with masks only onto pictures."""
        given = named(codes)
        if self.has_masks:
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


def _options() -> Any:
    options = _library().SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised; only the end of the world is logged
    return options


def _failures() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: it has a dozen exceptions of its own and no base for them."""
    state = _library().capi.onnxruntime_pybind11_state
    found = [value for value in vars(state).values() if isinstance(value, type)]
    own = [value for value in found if issubclass(value, Exception)]
    return (RuntimeError, MemoryError, *own)


@cache
def _library() -> Any:
    if find_spec("onnxruntime") is None:
        raise DidaError(
            "running an exported model needs the package onnxruntime; "
            "type: pip install 'dida[onnx]'"
        )
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    return onnxruntime
