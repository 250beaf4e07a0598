"""The command that makes a model of the authors' checkpoints."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from dida_cli.cli import console
from dida_cli.config import Domains

Kind = Literal["didd", "mask", "press"]


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="The file that the authors' code saved.")
    ],
    kind: Annotated[
        Kind,
        typer.Option(
            "--from",
            help="Whose code: didd: ICCV 2019; mask: Mokady et al., ICLR 2020; press: guided "
            "content transfer, ICLR 2019.",
        ),
    ],
    name_a: Annotated[str, typer.Option(help="What domain A alone has, e.g. smile.")],
    name_b: Annotated[
        str, typer.Option(help="The same of B; not with mask and press, where B has nothing.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="New model folder; CHECKPOINT.converted if not given."),
    ] = None,
) -> None:
    """Make a model folder of a checkpoint that the papers' released code saved.

    Nothing in the file is run: it holds tensors alone or is refused.
    """
    from dida_cli.paper import convert as core

    folder = out or Path(f"{checkpoint.stem}.converted")
    core.convert(checkpoint, kind, Domains(a=name_a, b=name_b), folder)
    here = shlex.quote(str(folder))
    console.note(f"converted; try: dida transfer -m {here} --content FACE --guide-a GUIDE")
    console.out(str(folder))
