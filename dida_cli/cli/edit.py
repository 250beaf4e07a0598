"""The commands that edit pictures: transfer, remove-attribute, interpolate."""

import io
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from dida_cli.cli import console
from dida_cli.cli.options import (
    DEFAULT_MODEL,
    Device,
    DeviceOpt,
    GuideAOpt,
    GuideBOpt,
    JsonOpt,
    ModelOpt,
    OutOpt,
    SheetOpt,
    name_of,
    parts,
    pick_device,
)
from dida_cli.config import Domains, Part
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    import torch

    from dida_cli.codes import Codes
    from dida_cli.didd import Didd
    from dida_cli.images import Picture

STREAM = Path("-")
NOTHING = Path("none")  # as a guide: the part is not there


def transfer(
    content: Annotated[
        Path, typer.Option("--content", "-c", help="Picture or folder to edit; - is stdin.")
    ],
    guide_a: GuideAOpt = None,
    guide_b: GuideBOpt = None,
    keep: Annotated[
        str, typer.Option(help="Own parts the content keeps where no guide is given: a, b, both.")
    ] = "none",
    strength: Annotated[
        float,
        typer.Option(min=0, max=2, help="0 changes nothing, 1 is the edit, more exaggerates."),
    ] = 1.0,
    out: OutOpt = None,
    sheet: SheetOpt = None,
    as_json: JsonOpt = False,
    model: ModelOpt = DEFAULT_MODEL,
    device: DeviceOpt = "auto",
) -> None:
    """Give the content what the guides' domains alone have.

    One guide: the content gets the guide's part and loses its part of the other domain, unless
    --keep names it. Two guides: it gets both.
    """
    from dida_cli import codes

    if guide_a is None and guide_b is None:
        raise typer.BadParameter("Give --guide-a or --guide-b, or both.")
    if [content, guide_a, guide_b].count(STREAM) > 1:
        raise typer.BadParameter("Only one picture can come from stdin.")
    editor = Editor.open(model, device)
    kept = parts(keep, editor.domains, "--keep")
    given: dict[Part, Path | None] = {"a": guide_a, "b": guide_b}
    guides = {
        part: Guide(name_of(part, editor.domains), path, read_one(path))
        for part, path in given.items()
        if path is not None
    }
    in_guides = {part: editor.encode(guide.picture) for part, guide in guides.items()}

    def edit(own: "Codes") -> "Codes":
        edited = codes.transfer(
            own, guide_a=in_guides.get("a"), guide_b=in_guides.get("b"), keep=kept
        )
        return codes.between(own, edited, strength)

    told: dict[str, Any] = {f"guide_{part}": str(guide.path) for part, guide in guides.items()}
    told["transferred"] = [guide.name for guide in guides.values()]
    told["kept"] = [name_of(part, editor.domains) for part in kept if part not in guides]
    told["strength"] = strength
    Job(editor, edit, "transfer", told, as_json).run([content], out, sheet, [*guides.values()])


def remove_attribute(
    pictures: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Pictures or folders; - is stdin.")
    ],
    attribute: Annotated[
        str, typer.Option(help="What to remove: a, b, both, or a part's name, e.g. glasses.")
    ] = "both",
    strength: Annotated[
        float, typer.Option(min=0, max=2, help="0 changes nothing, 1 removes the part.")
    ] = 1.0,
    out: OutOpt = None,
    sheet: SheetOpt = None,
    as_json: JsonOpt = False,
    model: ModelOpt = DEFAULT_MODEL,
    device: DeviceOpt = "auto",
) -> None:
    """Take a part off pictures, e.g. the glasses."""
    from dida_cli import codes

    editor = Editor.open(model, device)
    removed = parts(attribute, editor.domains, "--attribute")
    if not removed:
        raise typer.BadParameter("--attribute none removes nothing.")

    def edit(own: "Codes") -> "Codes":
        return codes.between(own, own.without(*removed), strength)

    told = {"removed": [name_of(part, editor.domains) for part in removed], "strength": strength}
    Job(editor, edit, "removed", told, as_json).run(pictures, out, sheet, [])


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
    keep: Annotated[
        str, typer.Option(help="Own parts the content keeps where no guide is given: a, b, both.")
    ] = "none",
    out: OutOpt = None,
    frames: Annotated[
        Path | None, typer.Option(help="Also write every picture into this folder.")
    ] = None,
    as_json: JsonOpt = False,
    model: ModelOpt = DEFAULT_MODEL,
    device: DeviceOpt = "auto",
) -> None:
    """Move smoothly between two guides, or two contents; two of them at once make a grid.

    What is given twice moves, what is given once stays.
    """
    from dida_cli import codes, images, render

    given: dict[str, list[Path]] = {"common": content, "a": guide_a or [], "b": guide_b or []}
    moving = _moving(given)
    editor = Editor.open(model, device)
    kept = parts(keep, editor.domains, "--keep")
    start, end = (_triple(editor, given, end, kept) for end in (0, -1))
    if len(moving) == 1:
        rows = [codes.interpolate(start, end, steps)]
    else:
        down, across = moving
        rows = codes.grid(start, end, down=down, across=across, steps=steps)
    onto = editor.tensor(read_one(content[0]))
    began = time.perf_counter()
    table = [[editor.compose(one, onto) for one in row] for row in rows]
    if frames:
        for y, row in enumerate(table):
            for x, picture in enumerate(row):
                images.write(picture, frames / f"{y:02d}-{x:02d}.png")
    weights = [f"{i / (steps - 1):.2f}" for i in range(steps)]
    words = {"common": "content", "a": editor.domains.a, "b": editor.domains.b}
    left = [f"{words[moving[0]]} {w}" for w in weights] if len(moving) == 2 else []
    picture = render.sheet(table, top=[f"{words[moving[-1]]} {w}" for w in weights], left=left)
    target = out or Path(f"{content[0].stem}.interpolated.png")
    write_picture(picture, target)
    told = {"output": str(target), "moving": [words[name] for name in moving], "steps": steps}
    tell(editor, told | {"seconds": round(time.perf_counter() - began, 3)}, target, as_json)


def _moving(given: dict[str, list[Path]]) -> list[Any]:
    for name, paths in given.items():
        option = "--content" if name == "common" else f"--guide-{name}"
        if len(paths) > 2:
            raise typer.BadParameter(f"{option} is given {len(paths)} times; from and to are two.")
        if name == "common" and NOTHING in paths:
            raise typer.BadParameter("--content must be a picture; only guides can be none.")
    moving = [name for name, paths in given.items() if len(paths) == 2]
    if not moving:
        raise typer.BadParameter(
            "Nothing moves: give one of --guide-a, --guide-b, --content twice."
        )
    if len(moving) == 3:
        raise typer.BadParameter(
            "Give one of --guide-a, --guide-b, --content once: a grid moves two."
        )
    return moving


def _triple(
    editor: "Editor", given: dict[str, list[Path]], end: int, kept: Sequence[Part]
) -> "Codes":
    """The codes at one end (0 or -1) of what moves."""
    from dida_cli import codes

    content = editor.encode(read_one(given["common"][end]))

    def guide(part: Part) -> "Codes | None":
        if not given[part]:
            return None
        path = given[part][end]
        nothing = content.without("a", "b")
        return nothing if path == NOTHING else editor.encode(read_one(path))

    return codes.transfer(content, guide_a=guide("a"), guide_b=guide("b"), keep=kept)


class Guide(NamedTuple):
    """A picture whose part is wanted, and the part's name."""

    name: str
    path: Path
    picture: "Picture"


@dataclass(frozen=True)
class Editor:
    """A loaded model and where it came from."""

    model: "Didd"
    folder: Path
    name: str
    device: "torch.device"

    @classmethod
    def open(cls, name: str, wanted: Device) -> "Editor":
        from dida_cli import checkpoint, hub

        folder, where = hub.resolve(name), pick_device(wanted)
        return cls(checkpoint.load(folder, str(where)), folder, name, where)

    @property
    def domains(self) -> Domains:
        return self.model.config.domains

    @cached_property
    def fingerprint(self) -> str:
        from dida_cli import hub

        return hub.fingerprint(self.folder)

    def tensor(self, picture: "Picture") -> "torch.Tensor":
        from dida_cli import images

        return images.to_tensor([picture], self.model.config).to(self.device)

    def encode(self, picture: "Picture") -> "Codes":
        import torch

        with torch.inference_mode():
            return self.model.encode(self.tensor(picture))

    def compose(self, codes: "Codes", onto: "torch.Tensor") -> "Picture":
        import torch

        from dida_cli import images

        with torch.inference_mode():
            return images.to_pictures(self.model.compose(codes, onto).image)[0]


@dataclass(frozen=True)
class Job:
    """One edit to make of many pictures. `told` is what is said of each in JSON."""

    editor: Editor
    edit: Callable[["Codes"], "Codes"]
    suffix: str
    told: dict[str, Any]
    as_json: bool

    def run(
        self,
        inputs: Sequence[Path],
        out: Path | None,
        sheet: Path | None,
        guides: Sequence[Guide],
    ) -> None:
        """Edit every input. A bad picture is refused alone, named and passed over among others."""
        from dida_cli import render

        work = targets(inputs, out, self.suffix, [guide.path for guide in guides])
        if self.as_json and work[0][1] == STREAM:
            raise typer.BadParameter("--json and a picture cannot both go to stdout; give -o FILE.")
        rows: list[list[Picture]] = []
        failed = 0
        with console.progress("editing", "pictures") as report:
            for done, (source, target) in enumerate(work, start=1):
                try:
                    before, after = self._one(source, target)
                except DidaError as error:
                    if len(work) == 1:
                        raise
                    console.note(str(error))
                    failed += 1
                else:
                    if sheet and len(rows) < SHEET_ROWS:
                        rows.append([before, *(guide.picture for guide in guides), after])
                report(done, len(work))
        if sheet and rows:
            config = self.editor.model.config
            cells = [[render.as_seen(cell, config) for cell in row] for row in rows]
            top = ["content", *(f"guide: {guide.name}" for guide in guides), "result"]
            render.write(render.sheet(cells, top=top), sheet)
            console.note(f"sheet: {sheet}")
        if failed:
            raise DidaError(
                f"{failed} of {len(work)} pictures were passed over; see the lines above"
            )

    def _one(self, source: Path, target: Path) -> tuple["Picture", "Picture"]:
        began = time.perf_counter()
        before = read_one(source)
        codes = self.edit(self.editor.encode(before))
        after = self.editor.compose(codes, self.editor.tensor(before))
        write_picture(after, target)
        seconds = round(time.perf_counter() - began, 3)
        told = {"output": str(target), "content": str(source), **self.told, "seconds": seconds}
        tell(self.editor, told, target, self.as_json)
        return before, after


SHEET_ROWS = 16  # of many pictures, a sheet shows the first ones


def tell(editor: Editor, told: dict[str, Any], target: Path, as_json: bool) -> None:
    """The path that was written, or all about it as JSON; nothing when the picture is on stdout."""
    if as_json:
        model = {"model": editor.name, "model_sha256": editor.fingerprint}
        console.out_json(told | model | {"device": str(editor.device)})
    elif target != STREAM:
        console.out(str(target))


def targets(
    inputs: Sequence[Path], out: Path | None, suffix: str, guides: Sequence[Path] = ()
) -> list[tuple[Path, Path]]:
    """Each picture to edit with the file to write, folders gone through and their trees kept.

    One picture goes to `out`, or to NAME.suffix.png here; more go into the folder `out`, or into
    the folder NAME.suffix here. Raises DidaError before anything is done, and when an output would
    replace a content or a guide.
    """
    if len(inputs) == 1 and not inputs[0].is_dir():
        work = [(inputs[0], _single_target(inputs[0], out, suffix))]
    else:
        work = _folder_targets(inputs, out, suffix)
    inputs_read = {path.resolve() for path, _ in work} | {guide.resolve() for guide in guides}
    if clash := next((t for _, t in work if t != STREAM and t.resolve() in inputs_read), None):
        raise DidaError(f"{clash}: is one of the pictures given; choose another -o")
    return work


def _single_target(source: Path, out: Path | None, suffix: str) -> Path:
    usual = Path(f"{source.stem}.{suffix}.png")
    if out is None:
        return STREAM if source == STREAM else usual
    return out / usual if out.is_dir() else out


def _folder_targets(
    inputs: Sequence[Path], out: Path | None, suffix: str
) -> list[tuple[Path, Path]]:
    from dida_cli.images import pictures_in

    if out == STREAM:
        raise typer.BadParameter("Only one picture can go to stdout; give a folder with -o.")
    root = out or Path(f"{inputs[0].stem}.{suffix}")
    if root.is_file():
        raise DidaError(f"{root}: is a file; give a folder with -o for several pictures")
    sources: list[Path] = []
    names: list[Path] = []  # below the output folder
    for path in inputs:
        files = pictures_in(path) if path.is_dir() else [path]
        sources += files
        names += [file.relative_to(path) if path.is_dir() else Path(file.name) for file in files]
    stems = Counter(name.with_suffix("") for name in names)
    plain = [
        n.with_suffix(".png") if stems[n.with_suffix("")] == 1 else Path(f"{n}.png") for n in names
    ]
    seen: Counter[Path] = Counter()
    work = []
    for source, name in zip(sources, plain, strict=True):
        seen[name] += 1  # the same name from two folders: the second is numbered
        distinct = name if seen[name] == 1 else name.with_stem(f"{name.stem}-{seen[name]}")
        work.append((source, root / distinct))
    return work


def read_one(path: Path) -> "Picture":
    """A picture from a file, or from stdin for `-`."""
    from dida_cli import images

    if path == STREAM:
        return images.read(io.BytesIO(sys.stdin.buffer.read()), "stdin")
    return images.read(path)


def write_picture(picture: "Picture", target: Path) -> None:
    """A picture to a file at once, or to stdout as PNG for `-`."""
    from dida_cli import images

    if target == STREAM:
        sys.stdout.buffer.write(images.encode(picture))
        sys.stdout.buffer.flush()
    else:
        images.write(picture, target)
