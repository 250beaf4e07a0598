"""The commands that edit pictures: transfer, remove-attribute, interpolate, segment."""

import time
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dida_cli.cli.editor import (
    Guide,
    Job,
    Stage,
    Tell,
    check_stdout,
    each,
    one_or_all,
    opened,
    tell,
)
from dida_cli.cli.files import (
    STREAM,
    check_apart,
    read_one,
    single_target,
    targets,
    write_moving,
    write_picture,
)
from dida_cli.cli.options import (
    AlignedOpt,
    DeviceOpt,
    FaceOpt,
    GuidesAOpt,
    GuidesBOpt,
    JsonOpt,
    LandmarksOpt,
    MaskKindOpt,
    MaskOutOpt,
    ModelOpt,
    ModelsOpt,
    NoMetadataOpt,
    OutOpt,
    RuntimeOpt,
    SheetOpt,
    SizeOpt,
    StrictOpt,
    chosen_faces,
    parts,
)
from dida_cli.config import DEFAULT_MODEL, PARTS
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from dida_cli.codes import Code
    from dida_cli.editor import Edit
    from dida_cli.images import Picture

PicturesArg = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="Pictures or folders; - is stdin.")
]
KeepOpt = Annotated[
    str, typer.Option(help="Own parts the content keeps where no guide is given: a, b, both.")
]
CELL = 512  # pixels, at most, that a step is shown in on a sheet
NOTHING = Path("none")  # as a guide: the part is not there
SegmentKind = Literal["mask", "soft", "overlay", "alpha"]


def transfer(
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGE...", help="Pictures or folders to edit; - is stdin."),
    ] = None,
    content: Annotated[
        Path | None, typer.Option("--content", "-c", help="One of them, said so.")
    ] = None,
    guide_a: GuidesAOpt = None,
    guide_b: GuidesBOpt = None,
    keep: KeepOpt = "none",
    strength: Annotated[
        float,
        typer.Option(min=0, max=2, help="0 changes nothing, 1 is the edit, more exaggerates."),
    ] = 1.0,
    out: OutOpt = None,
    sheet: SheetOpt = None,
    mask_out: MaskOutOpt = None,
    mask_as: MaskKindOpt = "grey",
    size: SizeOpt = "own",
    face: FaceOpt = "largest",
    landmarks: LandmarksOpt = None,
    aligned: AlignedOpt = False,
    strict: StrictOpt = False,
    no_metadata: NoMetadataOpt = False,
    as_json: JsonOpt = False,
    model: ModelsOpt = None,
    device: DeviceOpt = "auto",
    runtime: RuntimeOpt = "auto",
) -> None:
    """Give the content what the guides' domains alone have.

    One guide: the content gets the guide's part and loses its part of the other domain, unless
    --keep names it. Two guides: it gets both. A part of the same kind that it has is replaced.
    Several models, -m glasses -m beard, edit one after the other, each with its own --guide-a.
    """
    faces = chosen_faces(face, landmarks, aligned, strict)
    contents = [*(pictures or []), *([content] if content else [])]
    if not contents:
        raise typer.BadParameter("Give a picture to edit: dida transfer FACE --guide-a GUIDE.")
    names, of_a, of_b = model or [DEFAULT_MODEL], guide_a or [], guide_b or []
    _check_guides(len(names), of_a, of_b)
    check_apart([*contents, *of_a, *of_b], [])
    stages: list[Stage] = []
    guides: list[Guide] = []
    left: list[str] = []  # of the content's own parts
    for name, paths in zip(names, zip_longest(of_a, of_b), strict=True):
        editor = opened(name, device, runtime, faces)
        kept = parts(keep, editor.domains, "--keep")
        known: dict[str, Any] = {}
        for part, path in zip(PARTS, paths, strict=True):
            if path:
                guide = Guide(editor.name_of(part), path, read_one(path))
                known[f"guide_{part}"] = editor.guide(guide.picture, part)
                guides.append(guide)
            elif part in kept:
                left.append(editor.name_of(part))
        edit = partial(editor.transfer, **known, keep=kept, strength=strength, size=size)
        stages.append(Stage(editor, edit))
    told: dict[str, Any] = {
        option: one_or_all([str(path) for path in given])
        for option, given in (("guide_a", of_a), ("guide_b", of_b))
        if given
    }
    told["transferred"] = [guide.name for guide in guides]
    told |= {"kept": left, "strength": strength}
    job = Job(stages, "transfer", told, as_json, not no_metadata)
    job.run(contents, out, sheet, guides, mask_out, mask_as)


def _check_guides(models: int, guide_a: list[Path], guide_b: list[Path]) -> None:
    """Raises a usage error when there is no guide, or not one for each of the models."""
    if not guide_a and not guide_b:
        raise typer.BadParameter("Give --guide-a or --guide-b, or both.")
    for part, guides in zip(PARTS, (guide_a, guide_b), strict=True):
        if guides and len(guides) != models:
            raise typer.BadParameter(
                f"--guide-{part} is wanted once for each -m, in the same order: "
                f"-m {models}, --guide-{part} {len(guides)}."
            )


def remove_attribute(
    pictures: PicturesArg,
    attribute: Annotated[
        str, typer.Option(help="What to remove: a, b, both, or a part's name, e.g. glasses.")
    ] = "both",
    strength: Annotated[
        float, typer.Option(min=0, max=2, help="0 changes nothing, 1 removes the part.")
    ] = 1.0,
    out: OutOpt = None,
    sheet: SheetOpt = None,
    mask_out: MaskOutOpt = None,
    mask_as: MaskKindOpt = "grey",
    size: SizeOpt = "own",
    face: FaceOpt = "largest",
    landmarks: LandmarksOpt = None,
    aligned: AlignedOpt = False,
    strict: StrictOpt = False,
    no_metadata: NoMetadataOpt = False,
    as_json: JsonOpt = False,
    model: ModelOpt = DEFAULT_MODEL,
    device: DeviceOpt = "auto",
    runtime: RuntimeOpt = "auto",
) -> None:
    """Take a part off pictures, e.g. the glasses."""
    faces = chosen_faces(face, landmarks, aligned, strict)
    editor = opened(model, device, runtime, faces)
    removed = parts(attribute, editor.domains, "--attribute")
    if not removed:
        raise typer.BadParameter("--attribute none removes nothing.")

    def edit(picture: "Picture") -> "Edit":
        return editor.remove(picture, *removed, strength=strength, size=size)

    told = {"removed": [editor.name_of(part) for part in removed], "strength": strength}
    job = Job([Stage(editor, edit)], "removed", told, as_json, not no_metadata)
    job.run(pictures, out, sheet, [], mask_out, mask_as)


def segment(
    pictures: PicturesArg,
    part: Annotated[
        str, typer.Option(help="Whose region: a, b, both, or a part's name, e.g. glasses.")
    ] = "both",
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Of the mask: the region is from here on.")
    ] = 0.5,
    kind: Annotated[
        SegmentKind,
        typer.Option("--as", help="mask: black and white; soft: grey; overlay; alpha: cut out."),
    ] = "mask",
    out: OutOpt = None,
    face: FaceOpt = "largest",
    landmarks: LandmarksOpt = None,
    aligned: AlignedOpt = False,
    strict: StrictOpt = False,
    as_json: JsonOpt = False,
    model: ModelOpt = DEFAULT_MODEL,
    device: DeviceOpt = "auto",
    runtime: RuntimeOpt = "auto",
) -> None:
    """Show where a part is, e.g. the glasses: learned from two folders, without one outline."""
    faces = chosen_faces(face, landmarks, aligned, strict)
    editor = opened(model, device, runtime, faces)
    wanted = parts(part, editor.domains, "--part")
    if not wanted:
        raise typer.BadParameter("--part none segments nothing.")
    editor.require("masks")
    work = targets(pictures, out, "segment")
    check_apart([source for source, _ in work], [target for _, target in work])
    check_stdout(work[0][1], as_json)

    def one(source: Path, target: Path) -> Tell:
        began = time.perf_counter()
        picture = read_one(source)
        mask = editor.segment(picture, *wanted)
        write_picture(_shown(picture, mask, threshold, kind), target)
        share = sum(mask.histogram()[round(255 * threshold) :]) / (mask.width * mask.height)
        told = {"output": str(target), "content": str(source), "threshold": threshold}
        told |= {"segmented": [editor.name_of(p) for p in wanted], "covered": round(share, 4)}
        seconds = round(time.perf_counter() - began, 3)
        return lambda: tell([editor], told | {"seconds": seconds}, target, as_json)

    each(work, one, "segmenting")


def _shown(picture: "Picture", mask: "Picture", level: float, kind: SegmentKind) -> "Picture":
    """A grey mask of the picture's size as the user wants to see it."""
    from dida_cli import images, render

    if kind == "soft":
        return mask
    hard = mask.point([255 if value >= round(255 * level) else 0 for value in range(256)])
    if kind == "overlay":
        return render.overlay(picture, hard)
    return images.cut_out(picture, hard) if kind == "alpha" else hard


def interpolate(
    content: Annotated[
        list[Path], typer.Option("--content", "-c", help="Picture to edit; twice: from, to.")
    ],
    guide_a: Annotated[
        list[Path] | None, typer.Option(help="Guide of domain A; twice: from, to. none: no part.")
    ] = None,
    guide_b: Annotated[
        list[Path] | None, typer.Option(help="Guide of domain B; twice: from, to. none: no part.")
    ] = None,
    steps: Annotated[
        int, typer.Option(min=2, max=32, help="Pictures from one end to the other.")
    ] = 6,
    keep: KeepOpt = "none",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Moving picture: .gif, .webp or .png; - is stdout."),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Also write a sheet: all steps side by side; or a grid.")
    ] = None,
    frames: Annotated[
        Path | None, typer.Option(help="Also write every picture into this folder.")
    ] = None,
    size: SizeOpt = "own",
    face: FaceOpt = "largest",
    landmarks: LandmarksOpt = None,
    aligned: AlignedOpt = False,
    strict: StrictOpt = False,
    no_metadata: NoMetadataOpt = False,
    as_json: JsonOpt = False,
    model: ModelOpt = DEFAULT_MODEL,
    device: DeviceOpt = "auto",
    runtime: RuntimeOpt = "auto",
) -> None:
    """Move smoothly between two guides, or two contents, as a moving picture there and back.

    What is given twice moves, what is given once stays. A model without a common code moves guides
    alone. --sheet shows the steps side by side; what moves in two ways at once is a grid, and such
    a sheet alone.
    """
    given: dict[Code, list[Path]] = {"common": content, "a": guide_a or [], "b": guide_b or []}
    faces = chosen_faces(face, landmarks, aligned, strict)
    moving = _moving(given)
    is_grid = len(moving) == 2
    target = sheet if is_grid else _moving_target(content[0], out)
    if not target or (is_grid and out):
        raise typer.BadParameter("Two move at once, which makes a grid: give --sheet, and no -o.")
    inputs = [path for ends in given.values() for path in ends if path != NOTHING]
    check_apart(inputs, [target] if is_grid else [target, sheet])
    check_stdout(target, as_json)
    editor = opened(model, device, runtime, faces)
    kept = parts(keep, editor.domains, "--keep")
    began = time.perf_counter()
    ends = {name: _one_or_two(paths, alpha=name == "common") for name, paths in given.items()}
    made = editor.interpolate(
        ends["common"],
        guide_a=ends["a"],
        guide_b=ends["b"],
        keep=[part for part in kept if given[part] != [NOTHING]],
        steps=steps,
        size=size,
    )
    table = made if is_grid else [made]
    note = "" if no_metadata else editor.note("interpolated", *(p for p in PARTS if p in moving))
    if frames:
        _write_frames(table, frames, note)
    if not is_grid:
        write_moving(made, target, note)
    words = {"common": "content", "a": editor.domains.a, "b": editor.domains.b}
    moved = [words[name] for name in moving]
    if sheet:
        write_picture(_labelled(table, moved), sheet, note)
    told: dict[str, Any] = {"output": str(target), "moving": moved}
    told |= {words[name]: [str(path) for path in paths] for name, paths in given.items() if paths}
    seconds = round(time.perf_counter() - began, 3)
    tell([editor], told | {"steps": steps, "seconds": seconds}, target, as_json)


def _moving_target(content: Path, out: Path | None) -> Path:
    """Where a moving picture goes. Raises DidaError for the name of a file that cannot move."""
    from dida_cli.images import MOVING

    target = single_target(content, out, "interpolated")
    if target != STREAM and target.suffix.lower() not in MOVING:
        raise DidaError(f"{target}: does not move; give a .gif, .webp or .png, or --sheet")
    return target


def _write_frames(table: "list[list[Picture]]", folder: Path, note: str) -> None:
    """Every picture by itself: 00-01.png is the second of the first row."""
    from dida_cli import images

    for y, row in enumerate(table):
        for x, picture in enumerate(row):
            images.write(picture, folder / f"{y:02d}-{x:02d}.png", note)


def _moving(given: "dict[Code, list[Path]]") -> "list[Code]":
    """The codes that are given twice: one, or two for a grid. Raises a usage error otherwise."""
    from dida_cli import editor

    if NOTHING in given["common"]:
        raise typer.BadParameter("--content must be a picture; only guides can be none.")
    try:
        return editor.moving(given)
    except DidaError as error:
        raise typer.BadParameter(f"{error}.") from None


def _one_or_two(paths: list[Path], *, alpha: bool) -> Any:
    """As `Editor.interpolate` takes what stays, and what moves."""
    ends = [None if path == NOTHING else read_one(path, alpha=alpha) for path in paths]
    return tuple(ends) if len(ends) > 1 else next(iter(ends), None)


def _labelled(table: "list[list[Picture]]", moved: list[str]) -> "Picture":
    """Steps as a sheet: those of a row from left to right, in a table those of the first down."""
    from dida_cli import render

    for picture in (picture for row in table for picture in row):
        picture.thumbnail((CELL, CELL))
    last = len(table[0]) - 1
    down, across = ([f"{moved[i]} {step / last:.2f}" for step in range(last + 1)] for i in (0, -1))
    return render.sheet(table, top=across, left=down if len(moved) == 2 else [])
