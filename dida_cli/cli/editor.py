"""What the commands have an editor do to one picture or many: folders, threads, sheets, JSON."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from dida_cli.cli import console, models
from dida_cli.cli.files import STREAM, check_apart, read_one, targets, write_picture
from dida_cli.cli.options import MaskKind
from dida_cli.config import Device, Runtime
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from dida_cli.editor import Edit, Editor
    from dida_cli.faces import Choice
    from dida_cli.images import Picture

SHEET_ROWS = 16  # of many pictures, a sheet shows the first ones
LARGE = 12_000_000  # pixels of a picture that none as large is edited beside
AT_ONCE = 8  # pictures that are edited at the same time, on as many cores

Tell = Callable[[], None]  # says what became of a picture


class Guide(NamedTuple):
    """A picture whose part is wanted, and the part's name."""

    name: str
    path: Path
    picture: "Picture"


def opened(name: str, device: Device, runtime: Runtime, faces: "Choice | None" = None) -> "Editor":
    """The editor of a model of -m, with a bar while it is downloaded; for this thread one core.

    Raises a usage error when faces are chosen for a model that looks for none; `strict` alone is
    also for drawings.
    """
    from dida_cli import editor

    with models.download_bar() as show:
        found = editor.load(name, device, runtime, on_progress=show)
    fit = found.model.config.fit
    if faces and fit != "face" and not (fit == "drawing" and faces.is_only_strict):
        raise typer.BadParameter(
            f"{name} looks for no faces; drop --face, --landmarks, --aligned and --strict."
        )
    _on_one_core()
    return replace(found, faces=faces)


class Stage(NamedTuple):
    """One model's turn at a picture."""

    editor: "Editor"
    edit: "Callable[[Picture], Edit]"


@dataclass(frozen=True)
class Job:
    """Edits to make of many pictures, a stage after the other.

    `told` is said of each in JSON; `notes`: whether the files' metadata say what was done.
    """

    stages: Sequence[Stage]
    suffix: str
    told: dict[str, Any]
    as_json: bool
    notes: bool

    def run(
        self,
        inputs: Sequence[Path],
        out: Path | None,
        sheet: Path | None,
        guides: Sequence[Guide],
        mask_out: Path | None,
        mask_as: MaskKind,
    ) -> None:
        """Edit every input. A bad picture is refused alone, named and passed over among others."""
        from dida_cli import images

        work = targets(inputs, out, self.suffix)
        masks = self._masks(inputs, mask_out)
        sources, results = zip(*work, strict=True)
        mask_of = dict(zip(results, masks, strict=False))
        check_apart([*sources, *(guide.path for guide in guides)], [sheet, *results, *masks])
        check_stdout(work[0][1], self.as_json)
        config = self.stages[0].editor.model.config
        rows: list[list[Picture]] = []

        def one(source: Path, target: Path) -> Tell:
            before, after, told = self._one(source, target, mask_of.get(target), mask_as)
            cells = [before, *(guide.picture for guide in guides), after]
            wanted = sheet and len(rows) < SHEET_ROWS  # of later pictures none is shown
            row = [images.fit(cell, config) for cell in cells] if wanted else []

            def say() -> None:
                if row and len(rows) < SHEET_ROWS:
                    rows.append(row)
                tell([stage.editor for stage in self.stages], told, target, self.as_json)

            return say

        try:
            each(work, one, "editing")
        finally:
            if sheet and rows:
                from dida_cli import render

                top = ["content", *(f"guide: {guide.name}" for guide in guides), "result"]
                images.write(render.sheet(rows, top=top), sheet)
                console.note(f"sheet: {sheet}")

    def _masks(self, inputs: Sequence[Path], mask_out: Path | None) -> list[Path]:
        """Where the mask of each picture goes; nothing when none is wanted."""
        if mask_out is None:
            return []
        if not any("masks" in stage.editor.model.abilities for stage in self.stages):
            self.stages[0].editor.require("masks")
        if mask_out == STREAM:
            raise typer.BadParameter("--mask-out goes to a file; dida segment -o - writes one out.")
        return [target for _, target in targets(inputs, mask_out, self.suffix)]

    def _one(
        self, source: Path, target: Path, mask_target: Path | None, mask_as: MaskKind
    ) -> "tuple[Picture, Picture, dict[str, Any]]":
        """The picture, its edit, and what there is to tell of it."""
        from dida_cli import images

        began = time.perf_counter()
        before = after = read_one(source, alpha=True)
        painted: Picture | None = None  # by any of the stages
        done = []
        for _, edit in self.stages:
            made = edit(after)
            after = made.image
            done.append(made.note)
            if mask_target:
                painted = images.lighter(painted, made.mask)
        write_picture(after, target, "; ".join(done) if self.notes else "")
        told = {"output": str(target), "content": str(source), **self.told}
        if mask_target and painted:
            shown = images.cut_out(after, painted) if mask_as == "alpha" else painted
            write_picture(shown, mask_target)
            told["mask"] = str(mask_target)
        told["seconds"] = round(time.perf_counter() - began, 3)
        return before, after, told


def each(work: Sequence[tuple[Path, Path]], one: Callable[[Path, Path], Tell], task: str) -> None:
    """Do one thing to every (source, target), several at once; each is told of in its turn.

    A bad picture among others is named, passed over, whatever was raised at it. Large ones take
    turns, for their memory.
    """
    from dida_cli import images

    if len(work) == 1:
        one(*work[0])()
        return
    failed = 0
    made: list[Path] = []
    turn = Lock()

    def counted(source: Path, target: Path) -> Tell:
        width, height, _ = images.header(source) or (0, 0, "")
        with turn if width * height > LARGE else nullcontext():
            say = one(source, target)
        made.append(target)
        return say

    try:
        with (
            console.progress(task, "pictures") as report,
            closing(_in_threads(work, counted)) as all_,
        ):
            for done, ((source, _), future) in enumerate(zip(work, all_, strict=True), start=1):
                try:
                    say = future.result()
                except Exception as error:
                    known = isinstance(error, DidaError)
                    console.note(str(error) if known else f"{source}: {error!r}; passed over")
                    failed += 1
                else:
                    say()
                report(done, len(work))
    except KeyboardInterrupt:
        console.note(f"interrupted; {len(made)} of {len(work)} pictures are written, each whole")
        raise
    if failed:
        raise DidaError(f"{failed} of {len(work)} pictures were passed over; see the lines above")


def _in_threads(
    work: Sequence[tuple[Path, Path]], one: Callable[[Path, Path], Tell]
) -> "Generator[Future[Tell]]":
    """The results in the order of the work, however long it is with few of them waiting.

    A core for each picture, from reading to writing: so no core waits for a file, nor for another
    core's share of a network, and a picture's bytes do not depend on those beside it, as they
    would in a batch.
    """
    from dida_cli import memory

    memory.keep_freed()
    threads = min(AT_ONCE, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(threads, initializer=_on_one_core)
    waiting: deque[Future[Tell]] = deque()
    try:
        for source, target in work:
            waiting.append(pool.submit(one, source, target))
            if len(waiting) > 2 * threads:
                yield waiting.popleft()
        yield from waiting
    finally:  # of what is begun all is finished, of the rest nothing begun
        pool.shutdown(cancel_futures=True)


def _on_one_core() -> None:
    """Tell torch, where it is what models run on, that this thread has no others to help it.

    A picture is some milliseconds of one core. Cores that share it wait for each other, a hundred
    times as long when one of them is busy with something else.
    """
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def check_stdout(target: Path, as_json: bool) -> None:
    """Raises a usage error when a picture and JSON would both go to stdout."""
    if as_json and target == STREAM:
        raise typer.BadParameter("--json and a picture cannot both go to stdout; give -o FILE.")


def tell(editors: "Sequence[Editor]", told: dict[str, Any], target: Path, as_json: bool) -> None:
    """The path that was written, or all about it as JSON; nothing when the picture is on stdout."""
    if as_json:
        told = told | {"model": one_or_all([editor.name for editor in editors])}
        told["model_sha256"] = one_or_all([editor.fingerprint() for editor in editors])
        console.out_json(told | {"device": editors[0].device})
    elif target != STREAM:
        console.out(str(target))


def one_or_all(values: list[str]) -> str | list[str]:
    """One value by itself, more as they are."""
    return values[0] if len(values) == 1 else values
