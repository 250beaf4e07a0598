"""The command that makes ONNX graphs of a model."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from dida_cli.cli import console, models

Format = Literal["onnx"]


def export(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A model's name, folder, run, or org/repo@revision."),
    ],
    kind: Annotated[
        Format, typer.Option("--format", help="onnx: graphs for onnxruntime, and what else reads.")
    ] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="New folder; MODEL.exported if not given."),
    ] = None,
) -> None:
    """Write a model as ONNX graphs, which run without torch.

    The folder holds what makes codes of pictures, what makes pictures of codes, and a README.md
    that says how to use them from any program. Edit with it: dida transfer -m FOLDER.
    """
    from dida_cli.export import write

    source = models.folder_of(model)
    name = Path(model).resolve().name if Path(model).exists() else model
    folder = out or Path(f"{Path(name).name}.exported")
    write.export(source, name, folder)
    here = shlex.quote(str(folder))
    console.note(f"exported; try: dida transfer -m {here} --content FACE --guide-a GUIDE")
    console.out(str(folder))
