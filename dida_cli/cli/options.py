"""The options that several commands share, and what their values mean."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dida_cli.config import DEFAULT_MODEL, Device, Domains, Part, Runtime, Size
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    import torch

    from dida_cli.faces import Choice

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
FaceOpt = Annotated[
    str,
    typer.Option(help="Of people: largest, all, or a number: 1 is the largest face, 2 the next."),
]
LandmarksOpt = Annotated[
    str | None,
    typer.Option(
        metavar="X,Y,...",
        help="Where the face lies, instead of looking: left eye, right eye, nose, left and right "
        "corner of the mouth, in pixels.",
    ),
]
AlignedOpt = Annotated[
    bool, typer.Option("--aligned", help="All pictures are the square of a face already.")
]
StrictOpt = Annotated[
    bool,
    typer.Option("--strict", help="Refuse what is only warned of: turned heads, photos of faces."),
]
NoMetadataOpt = Annotated[
    bool, typer.Option("--no-metadata", help="Do not tell in the files that dida edited them.")
]
PartAOpt = Annotated[
    str | None,
    typer.Option(help="What has part a, in a list or table of labels.", show_default=SMILING),
]
PartBOpt = Annotated[
    str | None,
    typer.Option(help="What has part b; none where only --a is given.", show_default=EYEGLASSES),
]
SplitByOpt = Annotated[
    str | None,
    typer.Option(
        help="A column of the table, e.g. person: pictures of one value are not both learned from "
        "and held out."
    ),
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


def chosen_faces(face: str, landmarks: str | None, aligned: bool, strict: bool) -> "Choice | None":
    """Which faces are meant; None where nothing is said of them. Raises a usage error."""
    if (face, landmarks, aligned, strict) == ("largest", None, False, False):
        return None
    from dida_cli.faces import Choice

    if face not in ("largest", "all") and not (face.isascii() and face.isdecimal() and int(face)):
        raise typer.BadParameter(f"--face takes largest, all, or 1, 2, ..., not {face!r}.")
    which: Any = int(face) if face.isdecimal() else face
    points: tuple[tuple[float, float], ...] = ()
    if landmarks is not None:
        try:
            values = [float(value) for value in landmarks.split(",")]
        except ValueError:
            values = []
        if len(values) != 10 or not all(map(math.isfinite, values)):
            raise typer.BadParameter(
                "--landmarks takes ten numbers, X,Y of the left eye, the right eye, the nose, the "
                f"left and the right corner of the mouth, not {landmarks!r}."
            )
        points = tuple(zip(values[::2], values[1::2], strict=True))
        if points[0] == points[1]:
            raise typer.BadParameter("--landmarks: both eyes lie at one place.")
    return Choice(which, points, aligned, strict)


def refuse_expressions(root: Path, *given: object, instead: str = "") -> None:
    """Raises a usage error when parts are chosen by labels that the pictures in `root` have not."""
    from dida_cli.data.celeba import ATTRIBUTE_LIST

    if any(given):
        raise typer.BadParameter(
            f"--a, --b, --with and --without choose from {ATTRIBUTE_LIST} or a table (.csv), "
            f"which {root} has not{instead}."
        )
