"""The options that several commands share, and what their values mean."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dida_cli.config import DEFAULT_MODEL, Device, Domains, Part, Runtime, Size
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    import torch

MaskKind = Literal["grey", "alpha"]

SMILING, EYEGLASSES = "Smiling", "Eyeglasses"  # what parts a and b are, unless others are named

ModelOpt = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="A bundled model's name, a folder, a run, or org/repo@revision."
    ),
]
DeviceOpt = Annotated[Device, typer.Option(help="Where to compute; auto takes CUDA when present.")]
RuntimeOpt = Annotated[
    Runtime,
    typer.Option(
        help="onnx: run what dida export wrote, without torch; auto does so where -m is such a "
        "folder."
    ),
]
ModelsOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help=f"As for the other commands; repeatable: one after the other. "
        f"[default: {DEFAULT_MODEL}]",
    ),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Tell what was done as JSON on stdout.")]
OutOpt = Annotated[
    Path | None, typer.Option("--out", "-o", help="File or folder to write; - is stdout.")
]
SheetOpt = Annotated[
    Path | None, typer.Option(help="Also write a sheet: inputs and result side by side.")
]
GuidesAOpt = Annotated[
    list[Path] | None,
    typer.Option(
        "--guide-a", help="Picture whose part of domain A is wanted; - is stdin. One for each -m."
    ),
]
GuidesBOpt = Annotated[
    list[Path] | None,
    typer.Option("--guide-b", help="The same of domain B."),
]
SizeOpt = Annotated[
    Size,
    typer.Option(
        help="own: a model with masks edits the picture at its own size; model: what it saw."
    ),
]
MaskOutOpt = Annotated[
    Path | None,
    typer.Option("--mask-out", help="Also write where was painted; a folder for many pictures."),
]
MaskKindOpt = Annotated[
    MaskKind,
    typer.Option("--mask-as", help="grey: white is painted; alpha: the result, cut out by it."),
]
PartAOpt = Annotated[
    str | None, typer.Option(help="What has part a, in an attribute list.", show_default=SMILING)
]
PartBOpt = Annotated[
    str | None,
    typer.Option(help="What has part b; none where only --a is given.", show_default=EYEGLASSES),
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

    from dida_cli import editor

    return torch.device(editor.pick_device(wanted))


def parts(value: str, domains: Domains, option: str) -> tuple[Part, ...]:
    """`a`, `b`, `both`, `none`, or a part's own name, as parts. Raises a usage error."""
    from dida_cli import editor

    if value == "none":
        return ()
    try:
        return editor.parts_of(domains, value)
    except DidaError:
        known = editor.called(domains)
        raise typer.BadParameter(f"{option} takes {known} or none, not {value!r}.") from None


def refuse_expressions(root: Path, *given: object, instead: str = "") -> None:
    """Raises a usage error when parts are chosen by labels that the pictures in `root` have not."""
    from dida_cli.data.celeba import ATTRIBUTE_LIST

    if any(given):
        raise typer.BadParameter(
            f"--a, --b, --with and --without choose from {ATTRIBUTE_LIST}, "
            f"which {root} has not{instead}."
        )
