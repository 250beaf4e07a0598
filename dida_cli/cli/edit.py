"""The commands that edit pictures: transfer, remove-attribute, interpolate."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from dida_cli.cli import console
from dida_cli.cli.files import (
    STREAM,
    check_apart,
    read_one,
    single_target,
    targets,
    write_picture,
)
from dida_cli.cli.options import (
    Device,
    DeviceOpt,
    GuideAOpt,
    GuideBOpt,
    JsonOpt,
    ModelOpt,
    OutOpt,
    SheetOpt,
    parts,
    pick_device,
)
from dida_cli.config import DEFAULT_MODEL, Domains, Part
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    import torch

    from dida_cli.checkpoint import Network
    from dida_cli.codes import Code, Codes
    from dida_cli.images import Picture

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
    given: dict[Part, Path | None] = {"a": guide_a, "b": guide_b}
    check_apart([content, *(path for path in given.values() if path)], [])
    editor = Editor.open(model, device)
    kept = parts(keep, editor.domains, "--keep")
    guides = {
        part: Guide(editor.name_of(part), path, read_one(path))
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
    told["kept"] = [editor.name_of(part) for part in kept if part not in guides]
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

    told = {"removed": [editor.name_of(part) for part in removed], "strength": strength}
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
    target = single_target(content[0], out, "interpolated")
    paths = [path for ends in given.values() for path in ends if path != NOTHING]
    check_apart(paths, [target])
    check_stdout(target, as_json)
    editor = Editor.open(model, device)
    kept = parts(keep, editor.domains, "--keep")
    began = time.perf_counter()
    read = {path: read_one(path) for path in paths}
    start, end = (_at_end(editor, given, read, end, kept) for end in (0, -1))
    if len(moving) == 1:
        rows = [codes.interpolate(start, end, steps)]
    else:
        rows = codes.grid(start, end, down=moving[0], across=moving[1], steps=steps)
    onto = editor.tensor(read[content[0]])
    table = [[editor.compose(one, onto) for one in row] for row in rows]
    if frames:
        for y, row in enumerate(table):
            for x, picture in enumerate(row):
                images.write(picture, frames / f"{y:02d}-{x:02d}.png")
    words = {"common": "content", "a": editor.domains.a, "b": editor.domains.b}
    down, across = (
        [f"{words[name]} {i / (steps - 1):.2f}" for i in range(steps)]
        for name in (moving[0], moving[-1])
    )
    write_picture(render.sheet(table, top=across, left=down if len(moving) == 2 else []), target)
    told: dict[str, Any] = {"output": str(target), "moving": [words[name] for name in moving]}
    told |= {words[name]: [str(path) for path in ends] for name, ends in given.items() if ends}
    seconds = round(time.perf_counter() - began, 3)
    tell(editor, told | {"steps": steps, "seconds": seconds}, target, as_json)


def _moving(given: dict[str, list[Path]]) -> "list[Code]":
    """The codes that are given twice: one, or two for a grid. Raises a usage error otherwise."""
    for name, paths in given.items():
        option = "--content" if name == "common" else f"--guide-{name}"
        if len(paths) > 2:
            raise typer.BadParameter(f"{option} is given {len(paths)} times; from and to are two.")
    if NOTHING in given["common"]:
        raise typer.BadParameter("--content must be a picture; only guides can be none.")
    moving: list[Code] = [name for name in ("common", "a", "b") if len(given[name]) == 2]
    if not moving:
        raise typer.BadParameter(
            "Nothing moves: give one of --guide-a, --guide-b, --content twice."
        )
    if len(moving) == 3:
        raise typer.BadParameter(
            "Give one of --guide-a, --guide-b, --content once: a grid moves two."
        )
    return moving


def _at_end(
    editor: "Editor",
    given: dict[str, list[Path]],
    read: "dict[Path, Picture]",
    end: int,
    kept: Sequence[Part],
) -> "Codes":
    """The codes at one end (0 or -1) of what moves."""
    from dida_cli import codes

    content = editor.encode(read[given["common"][end]])

    def guide(part: Part) -> "Codes | None":
        if not given[part]:
            return None
        editor.name_of(part)
        path = given[part][end]
        return content.without("a", "b") if path == NOTHING else editor.encode(read[path])

    return codes.transfer(content, guide_a=guide("a"), guide_b=guide("b"), keep=kept)


class Guide(NamedTuple):
    """A picture whose part is wanted, and the part's name."""

    name: str
    path: Path
    picture: "Picture"


@dataclass(frozen=True)
class Editor:
    """A loaded model and where it came from."""

    model: "Network"
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

    def name_of(self, part: Part) -> str:
        """What this model calls a part. Raises DidaError when it has none of it."""
        if part == "b" and not self.model.config.separate_b:
            raise DidaError(f"{self.name} knows no part of its own in domain B; use part a")
        return self.domains.a if part == "a" else self.domains.b

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
        from dida_cli import images, render

        work = targets(inputs, out, self.suffix)
        sources = [source for source, _ in work] + [guide.path for guide in guides]
        check_apart(sources, [sheet, *(target for _, target in work)])
        check_stdout(work[0][1], self.as_json)
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
            cells = [[images.fit(cell, config) for cell in row] for row in rows]
            top = ["content", *(f"guide: {guide.name}" for guide in guides), "result"]
            images.write(render.sheet(cells, top=top), sheet)
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


def check_stdout(target: Path, as_json: bool) -> None:
    """Raises a usage error when a picture and JSON would both go to stdout."""
    if as_json and target == STREAM:
        raise typer.BadParameter("--json and a picture cannot both go to stdout; give -o FILE.")


def tell(editor: Editor, told: dict[str, Any], target: Path, as_json: bool) -> None:
    """The path that was written, or all about it as JSON; nothing when the picture is on stdout."""
    if as_json:
        model = {"model": editor.name, "model_sha256": editor.fingerprint}
        console.out_json(told | model | {"device": str(editor.device)})
    elif target != STREAM:
        console.out(str(target))
