"""From the paths people type to pictures, and from pictures to files."""

import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dida_cli.cli import console
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from dida_cli.images import Picture

STREAM = Path("-")


def targets(inputs: Sequence[Path], out: Path | None, suffix: str) -> list[tuple[Path, Path]]:
    """Each picture to edit with the file to write, folders gone through and their trees kept.

    One picture goes to `out`, or to NAME.suffix.png here; more go into the folder `out`, or into
    the folder NAME.suffix here. Raises DidaError when there is nothing to edit.
    """
    if len(inputs) == 1 and not inputs[0].is_dir():
        return [(inputs[0], single_target(inputs[0], out, suffix))]
    return _folder_targets(inputs, out, suffix)


def single_target(source: Path, out: Path | None, suffix: str) -> Path:
    """Where the result of one picture goes; that of stdin goes to stdout."""
    usual = Path(f"{_stem(source)}.{suffix}.png")
    if out is None:
        return STREAM if source == STREAM else usual
    return out / usual if out.is_dir() else out


def _folder_targets(
    inputs: Sequence[Path], out: Path | None, suffix: str
) -> list[tuple[Path, Path]]:
    from dida_cli.images import WRITABLE, pictures_in

    if out == STREAM:
        raise typer.BadParameter("Only one picture can go to stdout; give a folder with -o.")
    root = out or Path(f"{_stem(inputs[0])}.{suffix}")
    if root.is_file():
        raise DidaError(f"{root}: is a file; give a folder with -o for several pictures")
    if root.suffix.lower() in WRITABLE and not root.is_dir():
        raise DidaError(f"{root}: is the name of one picture; give a folder with -o for several")
    found: list[tuple[Path, Path]] = []  # each picture with its name below the output folder
    for path in inputs:
        folder, files = (path, pictures_in(path)) if path.is_dir() else (path.parent, [path])
        found += [(file, file.relative_to(folder)) for file in files]
    stems = Counter(name.with_suffix("") for _, name in found)
    taken: Counter[Path] = Counter()
    work = []
    for source, name in found:
        alone = stems[name.with_suffix("")] == 1
        target = name.with_suffix(".png") if alone else Path(f"{name}.png")
        taken[target] += 1
        if (count := taken[target]) > 1:  # the same name from two folders: the second is numbered
            target = target.with_stem(f"{target.stem}-{count}")
        work.append((source, root / target))
    return work


def _stem(path: Path) -> str:
    """What outputs are named after: of `.` and `..` the folder that they are."""
    return path.stem if path.stem.strip(".") else Path(os.path.realpath(path)).stem


def check_apart(inputs: Sequence[Path], outputs: Sequence[Path | None]) -> None:
    """Raises, before anything is done, when an output would replace an input or another output, by
    whatever spelling or link, or when two inputs are stdin."""
    if list(inputs).count(STREAM) > 1:
        raise typer.BadParameter("Only one picture can come from stdin.")
    read = {os.path.realpath(path) for path in inputs if path != STREAM}
    written: set[str] = set()
    for output in outputs:
        if not output:
            continue
        place = str(STREAM) if output == STREAM else os.path.realpath(output)
        if place in read:
            raise DidaError(f"{output}: is one of the pictures given; write to another file")
        if place in written:
            raise DidaError(f"{output}: would be written twice; give each output a file of its own")
        written.add(place)


def read_one(path: Path, *, alpha: bool = False) -> "Picture":
    """A picture from a file, or from stdin for `-`; with `alpha`, a transparent one as RGBA."""
    from dida_cli import images

    if path == STREAM:
        if sys.stdin is None:
            raise DidaError("standard input is closed; give a file instead of -")
        return images.read(io.BytesIO(sys.stdin.buffer.read()), "stdin", alpha=alpha)
    return images.read(path, alpha=alpha)


def write_picture(picture: "Picture", target: Path, note: str = "") -> None:
    """A picture to a file at once, or to stdout as PNG for `-`; its metadata tell the note."""
    from dida_cli import images

    _put(partial(images.encode, picture, note=note), target)


def write_moving(pictures: "Sequence[Picture]", target: Path, note: str = "") -> None:
    """Pictures as one that moves, to a file at once, or to stdout as PNG for `-`."""
    from dida_cli import images

    _put(partial(images.encode_moving, pictures, note=note), target)


def _put(encoded: Callable[[str], bytes], target: Path) -> None:
    """What becomes of a suffix, to a file of it, or to stdout as PNG."""
    from dida_cli import images

    if target == STREAM:
        console.out_bytes(encoded(".png"))
    else:
        images.write_bytes(encoded(target.suffix), target)
