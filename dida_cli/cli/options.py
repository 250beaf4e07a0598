"""The options that several commands share, and what their values mean."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dida_cli.config import Domains, Part
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]

ModelOpt = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="A bundled model's name, a model folder, or a run's folder."
    ),
]
DeviceOpt = Annotated[Device, typer.Option(help="Where to compute; auto takes CUDA when present.")]
JsonOpt = Annotated[bool, typer.Option("--json", help="Tell what was done as JSON on stdout.")]
OutOpt = Annotated[
    Path | None, typer.Option("--out", "-o", help="File or folder to write; - is stdout.")
]
SheetOpt = Annotated[
    Path | None, typer.Option(help="Also write a sheet: inputs and result side by side.")
]
GuideAOpt = Annotated[
    Path | None, typer.Option(help="Picture whose part of domain A is wanted; - is stdin.")
]
GuideBOpt = Annotated[
    Path | None, typer.Option(help="Picture whose part of domain B is wanted; - is stdin.")
]
WithOpt = Annotated[
    list[str] | None, typer.Option("--with", help="What both domains must have; repeatable.")
]
WithoutOpt = Annotated[
    list[str] | None, typer.Option("--without", help="What neither may have; repeatable.")
]


def pick_device(wanted: Device) -> "torch.device":
    """The device to compute on. Raises DidaError when CUDA is asked for and not there."""
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise DidaError("no CUDA device is usable here; use --device cpu or --device auto")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def parts(value: str, domains: Domains, option: str) -> tuple[Part, ...]:
    """`a`, `b`, `both`, `none`, or a domain's own name, as parts. Raises a usage error."""
    meanings: dict[str, tuple[Part, ...]] = {
        domains.a: ("a",),
        domains.b: ("b",),
        "a": ("a",),
        "b": ("b",),
        "both": ("a", "b"),
        "none": (),
    }
    if value not in meanings:
        raise typer.BadParameter(
            f"{option} takes a ({domains.a}), b ({domains.b}), both or none, not {value!r}."
        )
    return meanings[value]
