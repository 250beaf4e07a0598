"""A model as a folder of static files: a web page that edits pictures in the browser.

`page/index.html` and `page/page.js` of this package, and onnxruntime-web, as they are; beside them
the graphs of the model, of a model of faces those of the detector too, compressed by gzip.
"""

import gzip
import html
import json
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from dida_cli import checkpoint, faces
from dida_cli.config import CARD, CONFIG, DEFAULT_MODEL, Fit, ModelConfig, read_config
from dida_cli.errors import DidaError
from dida_cli.export import onnx, write
from dida_cli.export.onnx import COMPOSE, ENCODE
from dida_cli.players import Network

_HERE = Path(__file__).parent.parent
PAGE = _HERE / "page"
# In a wheel the examples lie in the package; in a checkout, beside it.
PICTURES = next(p for p in (_HERE / "examples", _HERE.parent / "examples") if p.is_dir())
# What pages of models show; of each kind the first is the picture, the second the guide at first.
EXAMPLES: dict[Fit, dict[str, str]] = {
    "drawing": {
        "smile.png": "A drawn face that laughs, without glasses",
        "glasses.png": "A drawn face with black glasses and a serious mouth",
        "glasses-2.png": "A drawn face with white sunglasses",
        "smile-2.png": "A drawn face with an open smile, without glasses",
        "portrait.png": "A wide drawing of a face that laughs, 900 by 640 pixels",
    },
    "face": {
        "person.jpg": "A serious woman without glasses",
        "person-glasses.jpg": "A smiling woman with round glasses",
        "person-glasses-2.jpg": "A serious man with thin glasses",
        "person-smile.jpg": "A smiling man without glasses",
        "person-2.jpg": "A serious man without glasses",
    },
}
CREDITS = {
    "drawing": "The example faces are drawn: artwork Avataaars by Pablo Stanley, free for personal "
    "and commercial use.",
    "face": "The people of the examples do not exist: their faces are made by machine, of SFHQ and "
    "SFHQ-T2I by David Beniaguev (MIT).",
}
DETECTOR = {  # graphs of `faces.detector`: example, its free sides, outputs
    "proposals": ((1, 3, 40, 50), (2, 3), ("score", "move")),
    "second": ((2, 3, 24, 24), (0,), ("score", "move", "points")),
    "third": ((2, 3, 48, 48), (0,), ("score", "move", "points")),
}


def write_page(source: Path, name: str, folder: Path) -> int:
    """Write the page of the model, or export, of the folder `source` into a new folder.

    Returns its size in bytes. Raises DidaError, nothing written, when the folder is taken, the
    model has no masks or does not load, or a package is missing.
    """
    checkpoint.check_free(folder)
    config = read_config(source / CONFIG)
    graphs = _graphs(source, name)
    if config.fit == "face":
        graphs |= detector()
    files = {f"{file}.gz": gzip.compress(graph, mtime=0) for file, graph in graphs.items()}
    files |= {path.name: path.read_bytes() for path in (PAGE / "page.js", source / CONFIG)}
    files |= {f"ort/{path.name}": path.read_bytes() for path in sorted(PAGE.glob("ort/*"))}
    examples = EXAMPLES.get(config.fit, {})
    files |= {f"examples/{file}": (PICTURES / file).read_bytes() for file in examples}
    files["examples.json"] = json.dumps(examples, indent=2).encode()
    files["index.html"] = index(name, config).encode()
    if config.fit == "face":
        files["LICENSE-mtcnn.txt"] = (faces.WEIGHTS.parent / "LICENSE").read_bytes()
    size = sum(map(len, files.values()))
    files[CARD] = card(name, config, size, *checkpoint.read_card(source)).encode()
    checkpoint.write_folder(folder, files)
    return size


def _graphs(source: Path, name: str) -> dict[str, bytes]:
    """The graphs of a model or an export by their names. Raises DidaError where it has no masks."""
    is_export = onnx.is_export(source)
    model = onnx.load(source, "cpu") if is_export else checkpoint.load(source)
    if "masks" not in model.abilities:
        raise DidaError(f"{name} has no masks, which a page paints by; -m {DEFAULT_MODEL} has them")
    if is_export:
        return {file: (source / file).read_bytes() for file in (ENCODE, COMPOSE)}
    assert isinstance(model, Network)
    return write.graphs_of(model)[1]


class _Traced(nn.Module):
    """A network, of inputs without names: as those of a model are translated."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        return [*self.network(*inputs)]


def detector() -> dict[str, bytes]:
    """What finds faces, as graphs by the names of their files: `image`, normed, to the outputs.

    The first reads a picture of any size, the others any number of crops. Raises DidaError when a
    package is missing.
    """
    write.check_packages()
    made = {}
    for network, (name, (shape, free, outputs)) in zip(
        faces.detector(), DETECTOR.items(), strict=True
    ):
        sides = dict.fromkeys(free, torch.export.Dim.DYNAMIC)
        module = _Traced(network).eval()
        file = write.translated(module, [torch.zeros(shape)], [sides], ["image"], outputs)
        made[f"{name}.onnx"] = write.serialized(file)
    return made


def index(name: str, config: ModelConfig) -> str:
    """The page's markup, which tells the model's name and its parts."""
    parts = _parts(config)
    words = {"{{model}}": name, "{{parts}}": parts[0].upper() + parts[1:]}
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    for blank, value in words.items():
        text = text.replace(blank, html.escape(value))
    return text


def _parts(config: ModelConfig) -> str:
    return " and ".join(config.domains.of(part) for part in config.parts)


def card(name: str, config: ModelConfig, size: int, head: str, own: str) -> str:
    """The README.md of a page, as a static Space of the Hub reads it."""
    licence = re.search(r"^license: *([\w.-]+)$", head, re.MULTILINE)
    credits = [CREDITS[config.fit]] if config.fit in CREDITS else []
    if config.fit == "face":
        credits.append(
            "Faces are found by MTCNN, as facenet-pytorch ships it (MIT): "
            "[LICENSE-mtcnn.txt](LICENSE-mtcnn.txt)."
        )
    return CARD_TEXT.format(
        title=json.dumps(f"dida: {_parts(config)}"),
        licence=licence[1] if licence else "other",
        name=name,
        size=size / 1e6,
        credits="".join(f"- {line}\n" for line in credits),
        own=re.sub(r"^!\[.*\]\(.*\)\n", "", own, flags=re.MULTILINE),  # pictures stay behind
    )


CARD_TEXT = """---
title: {title}
sdk: static
app_file: index.html
license: {licence}
pinned: false
---
# {name}, in the browser

Written by `dida page`. All {size:.1f} MB are static files: put the folder on any host, as a static
Space (this file is its card) or on Pages, or type `python -m http.server` in it. Pictures never
leave the device that shows the page; it asks no other host for anything and keeps nothing.

## Measured

In headless Chromium 156, on one core that two trainings kept busy, of the model portraits and, in
brackets, avatars-smile-glasses: 3.4 s (2.9 s) from opening to the first edit, with the model's
loading; 11 to 14 (12) edits a second of an example at its own size; 0.14 s (0.10 s) an edit of a
photo of 1,300 x 1,100 pixels (a drawing of 900 x 640).

## Licences and credits

- The page is of dida (MIT); the weights are those of {name} under the licence of its card, below.
- It runs by onnxruntime-web (MIT): [ort/LICENSE](ort/LICENSE).
{credits}
## The model's own card

{own}
"""
