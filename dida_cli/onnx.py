"""An exported model, run by onnxruntime: the edits of a network without torch.

`export` writes the folder: config.json, a README.md, and the graphs named here. A graph is data to
a C++ library, so it is one whole file without references to others, and its inputs and outputs are
compared with what the config asks for before it runs and with what it gave after.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dida_cli.codes import Codes, MaskModel, Rendering, Strokes
from dida_cli.config import CONFIG, ModelConfig, Part, in_one_line, read_config, short
from dida_cli.errors import DidaError

ENCODE, COMPOSE, SEGMENT = "encode.onnx", "compose.onnx", "segment.onnx"
MAX_BYTES = 2**31 - 1  # of a graph: what its format can hold
ELSEWHERE = b"location"  # the key under which a tensor names another file with its values
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

Shape = tuple[int, ...]  # of one picture's tensor: what comes after the batch


class Signature(NamedTuple):
    """What a graph takes and gives, by name: float32 (N, *shape), N the same in all."""

    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]


def signatures(config: ModelConfig) -> dict[str, Signature]:
    """The graphs that a model of this config is exported as, by the names of their files."""
    picture, mask = (3, config.side, config.side), (1, config.side, config.side)
    widths = (config.common, config.separate_a, config.separate_b)
    names = ("common", *config.parts)
    codes = {n: (w, config.grid, config.grid) for n, w in zip(names, widths, strict=False)}
    encode = Signature({"image": picture}, codes)
    if config.method == "didd":
        return {ENCODE: encode, COMPOSE: Signature(codes, {"image": picture})}
    own = {f"own_{name}": shape for name, shape in codes.items()}
    strokes = {"base": picture, "mask": mask, "kept": mask, "paint": picture}
    return {
        ENCODE: encode,
        COMPOSE: Signature(codes | own, strokes),
        SEGMENT: Signature({"image": picture}, {f"mask_{part}": mask for part in config.parts}),
    }


def as_codes(tensors: Sequence[Any]) -> Codes:
    """Codes of the tensors that graphs know them by: a one-sided model has none for b."""
    common, a, *b = tensors
    return Codes(common, a, *(b or [common[:, :0]]))


def as_tensors(codes: Codes, config: ModelConfig) -> list[Any]:
    """What `as_codes` undoes."""
    return [codes.common, *(codes.of(part) for part in config.parts)]


class Graph:
    """A graph that has been checked, ready to run."""

    def __init__(self, path: Path, signature: Signature, device: str) -> None:
        """Raises DidaError when the file is no graph of this signature, or refers to others."""
        self.path, self.signature = path, signature
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
        _check(path, "inputs", self.session.get_inputs(), signature.inputs)
        _check(path, "outputs", self.session.get_outputs(), signature.outputs)

    def __call__(self, *values: Any) -> list[Any]:
        """The outputs for a batch of inputs, both in the order of the signature, all float32."""
        names = list(self.signature.outputs)
        with in_one_line(self.path, "able to run here", *_failures()):
            made = self.session.run(names, dict(zip(self.signature.inputs, values, strict=True)))
        for name, value in zip(names, made, strict=True):
            shape = (len(values[0]), *self.signature.outputs[name])
            if value.shape != shape or not np.isfinite(value).all():
                raise DidaError(f"{self.path}: does not give {name} as it must; export it anew")
        return made  # type: ignore[no-any-return]


class Exported:
    """What the exports of all methods share."""

    def __init__(self, config: ModelConfig, graphs: Mapping[str, Graph]) -> None:
        self.config = config
        self.graphs = graphs

    @property
    def device(self) -> str:
        """Where it computes: cpu or cuda."""
        return "cuda" if CUDA in self.graphs[ENCODE].session.get_providers() else "cpu"

    @property
    def fingerprint(self) -> str:
        """sha256 of the sha256s of its graphs, in hexadecimal."""
        digests = "".join(graph.digest for graph in self.graphs.values())
        return hashlib.sha256(digests.encode()).hexdigest()

    def encode(self, image: Any) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1], float32, to their codes."""
        return as_codes(self.graphs[ENCODE](image))


class ExportedPlain(Exported):
    """An exported model of the method didd."""

    def compose(self, codes: Codes, onto: Any = None, own: Codes | None = None) -> Rendering:
        """Codes to pictures (N, 3, side, side) in [-1, 1]. Only the codes are looked at."""
        (image,) = self.graphs[COMPOSE](*as_tensors(codes, self.config))
        return Rendering(image, None)


class ExportedMasks(Exported, MaskModel):
    """An exported model with masks."""

    def strokes(self, codes: Codes, own: Codes) -> Strokes:
        """What turns a picture of the codes `own` into one of `codes`."""
        both = (as_tensors(codes, self.config), as_tensors(own, self.config))
        return Strokes(*self.graphs[COMPOSE](*both[0], *both[1]))

    def segment(self, image: Any, *parts: Part) -> Any:
        """The mask of the parts that pictures (N, 3, side, side) have, (N, 1, side, side)."""
        masks = dict(zip(self.config.parts, self.graphs[SEGMENT](image), strict=True))
        return np.max([masks[part] for part in parts], axis=0)


def is_export(folder: Path) -> bool:
    """Whether a folder holds an exported model."""
    return (folder / ENCODE).exists()


def load(folder: Path, device: str = "auto") -> ExportedPlain | ExportedMasks:
    """The exported model of a folder. Raises DidaError naming the first thing wrong.

    `device`: cpu, cuda, or auto, which takes CUDA where this onnxruntime has it.
    """
    config = read_config(folder / CONFIG)
    graphs = {name: Graph(folder / name, s, device) for name, s in signatures(config).items()}
    return (ExportedPlain if config.method == "didd" else ExportedMasks)(config, graphs)


def _check(path: Path, what: str, found: Sequence[Any], expected: Mapping[str, Shape]) -> None:
    there = {one.name: (one.type, one.shape) for one in found}
    wanted = {name: ("tensor(float)", list(shape)) for name, shape in expected.items()}
    flexible = all(shape and not isinstance(shape[0], int) for _, shape in there.values())
    if {name: (kind, shape[1:]) for name, (kind, shape) in there.items()} != wanted or not flexible:
        raise DidaError(
            f"{path}: has the {what} {short(there)}, its config.json asks for {expected} "
            "after a free batch; export the model anew"
        )


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
