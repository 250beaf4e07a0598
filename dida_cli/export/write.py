"""A network as ONNX graphs, which `onnx` and any other program can run without torch.

Traced by torch.export and translated by torch.onnx (`dynamo=True`): the way torch's own exporter
goes by default since 2.9 and could before 2.6. The older way by TorchScript is deprecated.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dida_cli import checkpoint
from dida_cli.config import CARD, CONFIG, ModelConfig
from dida_cli.errors import DidaError
from dida_cli.export import onnx
from dida_cli.export.onnx import COMPOSE, ENCODE, OWN, Signature, as_codes, named, signatures
from dida_cli.players import Network

SQUARES = {  # what a model sees of a picture, by its config's `fit`
    "crop": "its largest centred square",
    "drawing": "its largest centred square",
    "squash": "all of it",
    "face": "the upright square of its face",
}
OPSET = 18  # of ONNX's operators: the one torch translates to without a conversion after it


def export(source: Path, name: str, folder: Path) -> None:
    """Write the model of the folder `source`, called `name`, into a new folder as ONNX graphs.

    Raises DidaError, nothing written, when the folder is taken, the model does not load, or a
    package is missing.
    """
    checkpoint.check_free(folder)
    model = checkpoint.load(source)
    graphs, files = graphs_of(model)
    text = card(name, model.config, graphs, *checkpoint.read_card(source))
    config = (source / CONFIG).read_bytes()
    checkpoint.write_folder(folder, {CONFIG: config, CARD: text.encode(), **files})


def graphs_of(model: Network) -> tuple[dict[str, Signature], dict[str, bytes]]:
    """The signatures and the graphs of a network in eval mode, by the names of their files.

    Raises DidaError when a package is missing.
    """
    check_packages()
    model.every = True  # no choice that looks at values
    side = model.config.side
    codes = named(model.encode(torch.zeros(1, 3, side, side)))
    shapes = {name: tuple(code.shape[1:]) for name, code in codes.items()}
    graphs = signatures(side, shapes, masks="masks" in model.abilities)
    return graphs, {file: graph(model, file, signature) for file, signature in graphs.items()}


def check_packages() -> None:
    """Raises DidaError when a package is missing that torch.onnx needs."""
    for package in ("onnx", "onnxscript"):
        if find_spec(package) is None:
            raise DidaError(f"exporting needs the package {package}; pip install 'dida[onnx]'")


class Traced(nn.Module):
    """The network behind one graph: tensors in, tensors out."""

    def __init__(self, model: Network, name: str, signature: Signature) -> None:
        super().__init__()
        self.model, self.name, self.signature = model, name, signature

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        """The outputs of the graph in the order of its signature."""
        given = dict(zip(self.signature.inputs, inputs, strict=True))
        if self.name == ENCODE:
            made = named(self.model.encode(given["image"]))
        else:
            onto = given.pop("onto", None)
            own = {n.removeprefix(OWN): given.pop(n) for n in [*given] if n.startswith(OWN)}
            rendering = self.model.compose(as_codes(given), onto, as_codes(own) if own else None)
            made = rendering._asdict()
        return [made[name] for name in self.signature.outputs]


def graph(model: Network, name: str, signature: Signature) -> bytes:
    """One graph of a network in eval mode, as a file. Raises DidaError when it gets too large."""
    example = [torch.zeros(2, *shape) for shape in signature.inputs.values()]
    batch = torch.export.Dim("batch")
    traced = Traced(model, name, signature).eval()
    file = translated(traced, example, [{0: batch} for _ in example], *signature)
    for value in (*file.graph.input, *file.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    if file.ByteSize() > onnx.MAX_BYTES:
        raise DidaError(f"{name} is larger than an ONNX file can be; export a narrower model")
    return serialized(file)


def translated(
    module: nn.Module,
    example: Sequence[Tensor],
    free: Sequence[dict[int, Any]],
    inputs: Iterable[str],
    outputs: Iterable[str],
) -> Any:
    """What a module does to tensors like the examples, as an ONNX model.

    free: of each of them, which sides may be of any size.
    """
    with _silence():
        program = torch.export.export(
            module, tuple(example), dynamic_shapes=(tuple(free),), strict=False
        )
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[*inputs],
            output_names=[*outputs],
            verbose=False,
        )
    assert made is not None
    file = made.model_proto  # made anew each time it is asked for
    _tidy(file)
    return file


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without what torch has to say of itself, as that torchvision is not there."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(before)


def serialized(file: Any) -> bytes:
    """An ONNX model as a file, the same every time."""
    return bytes(file.SerializeToString(deterministic=True))


def _tidy(file: Any) -> None:
    """Leave out where on this machine every line of code was traced."""
    content = file.graph
    content.ClearField("value_info")
    parts = (*content.input, *content.output, *content.node, *content.initializer)
    for part in (file, content, *parts):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def card(name: str, config: ModelConfig, graphs: dict[str, Signature], head: str, own: str) -> str:
    """The README.md of an export, between the `head` of the model's card and the rest."""
    rows = [
        f"| {file} | {way} | {tensor} | {', '.join(map(str, ('N', *shape)))} |"
        for file, signature in graphs.items()
        for way, tensors in zip(("input", "output"), signature, strict=True)
        for tensor, shape in tensors.items()
    ]
    masks = "mask" in graphs[COMPOSE].outputs
    return CARD_TEXT.format(
        head=head,
        name=name,
        opset=OPSET,
        rows="\n".join(rows),
        ranges=MASKED if masks else PLAIN,
        more=' | {f"own_{n}": v for n, v in own.items()} | {"onto": x}' if masks else "",
        codes=", ".join(f'"{code}"' for code in graphs[ENCODE].outputs),
        side=config.side,
        square=SQUARES[config.fit],
        own=own,
    )


CARD_TEXT = """{head}# {name}, as ONNX graphs

Written by `dida export`; opset {opset}. `dida transfer --runtime onnx -m FOLDER` runs it without
torch, and so does any program with onnxruntime. The weights are those of {name} under the licence
of its card, which stands below.

| graph | | tensor | float32 shape, N pictures |
|---|---|---|---|
{rows}

Pictures are RGB in [-1, 1]. A code of zeros is "nothing": the picture has no such part.
{ranges}

```python
import numpy as np, onnxruntime
from PIL import Image

encode, compose = (onnxruntime.InferenceSession(f"{{n}}.onnx") for n in ("encode", "compose"))
def read(path):  # of a picture: {square}
    rgb = Image.open(path).convert("RGB").resize(({side}, {side}), Image.Resampling.LANCZOS)
    return np.float32(rgb).transpose(2, 0, 1)[None] / 127.5 - 1
x, guide = read("content.png"), read("guide.png")
own = dict(zip([{codes}], encode.run(None, {{"image": x}})))
new = own | {{n: 0 * v for n, v in own.items() if n != "common"}}  # no part
new["a"] = encode.run(["a"], {{"image": guide}})[0]  # but the guide's of domain A
image = compose.run(["image"], new{more})[0]
Image.fromarray(np.uint8(((image[0] + 1) * 127.5).round().clip(0, 255)).transpose(1, 2, 0))
```

## The model's own card

{own}
"""
PLAIN = "`compose.onnx` draws the picture of the codes."
MASKED = """`compose.onnx` changes the picture `onto`, whose codes are the `own_` ones, into one of
the other codes; a part whose code is as the own one is left alone. `mask` in [0, 1] is where it has
changed; where it is 0 the image is as `onto`, bit for bit. The mask of an edit that takes a part
off is where the part is."""
