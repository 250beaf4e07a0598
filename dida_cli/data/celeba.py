"""Pictures chosen by an attribute list in the text format of CelebA, as the avatars have it.

24000                          how many pictures
Smiling Eyeglasses Beard       attribute names
000001.png -1  1 -1            a line each: file name, then 1 or -1

Lists and pictures lie in one folder, or as CelebA's authors ship them: Anno/list_attr_celeba.txt,
Eval/list_eval_partition.txt and Img/img_align_celeba.zip, which is read where it is.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from dida_cli.data.folders import TEST, TRAIN, VALIDATION, Archive, File, Found, Member, Names
from dida_cli.data.labels import Labels
from dida_cli.errors import DidaError

ATTRIBUTE_LIST, PARTITION_LIST = "list_attr_celeba.txt", "list_eval_partition.txt"
LIST_PLACES = ("", "Anno", "Eval")
IMAGE_FOLDERS = ("images", "img_align_celeba", "img_align_celeba_png")
IMAGE_ARCHIVE = "img_align_celeba.zip"
IMAGE_PLACES = ("", "Img")


def read_attributes(path: Path) -> Labels:
    """Read an attribute list. Raises DidaError naming the first line that is not one."""
    lines = _lines(path)
    try:
        count, names = int(next(lines)[1][0]), next(lines)[1]
    except (StopIteration, ValueError, IndexError):
        raise DidaError(f"{path}: not a CelebA attribute list (count, names, then rows)") from None
    files, table = [], bytearray()
    for number, (file, *values) in lines:
        if len(values) != len(names) or not set(values) <= {"1", "-1"}:
            raise DidaError(
                f"{path}, line {number}: expected a file name and {len(names)} times 1 or -1"
            )
        files.append(file)
        table += bytes(value == "1" for value in values)
    if len(files) != count:
        raise DidaError(f"{path}: says {count} pictures but lists {len(files)}; get it again")
    columns = np.frombuffer(table, dtype=bool).reshape(count, len(names)).T
    return Labels(str(path), files, dict(zip(names, columns, strict=True)))


def read_partition(path: Path, files: list[str]) -> np.ndarray:
    """Which part each file is in: 0 training, 1 validation, 2 test. int (files,)."""
    parts: dict[str, int] = {}
    for number, words in _lines(path):
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise DidaError(f"{path}, line {number}: expected a file name and 0, 1 or 2")
        parts[words[0]] = int(words[1])
    if missing := next((file for file in files if file not in parts), None):
        raise DidaError(f"{path}: does not list {missing}, which the attribute list has")
    return np.array([parts[file] for file in files])


def list_in(root: Path, name: str) -> Path | None:
    """The list of this name in `root`, or in Anno or Eval there, as CelebA's authors have it."""
    return next((path for place in LIST_PLACES if (path := root / place / name).is_file()), None)


def pictures_in(root: Path, first: str) -> Callable[[str], File]:
    """Where a listed file is: in a folder of pictures, or in img_align_celeba.zip.

    `first` is one of them: where it lies deeper by a folder of the same name, or as PNG, all do.
    Raises DidaError when `root` has neither.
    """
    places = [root / place for place in IMAGE_PLACES]
    for folder in (place / name for place in places for name in IMAGE_FOLDERS):
        if folder.is_dir():
            inner = folder / folder.name
            folder = inner if inner.is_dir() else folder
            as_png = Path(first).with_suffix(".png").name
            if not (folder / first).exists() and (folder / as_png).exists():
                return lambda file: folder / Path(file).with_suffix(".png")
            return folder.joinpath
    for path in (place / IMAGE_ARCHIVE for place in places):
        if path.is_file():
            archive, prefix = Archive(path), f"{path.stem}/"
            inside = prefix if any(name.startswith(prefix) for name in archive.members) else ""
            return lambda file: Member(archive, inside + file)
    raise DidaError(
        f"{root}: has no folder {' or '.join(IMAGE_FOLDERS)}, and no {IMAGE_ARCHIVE}; "
        "put the pictures there"
    )


def found(root: Path, parts: Names) -> Found:
    """The pictures an attribute list has for these expressions, in its order.

    Without a partition list the last of each set are yet to be held out.
    """
    attributes = read_attributes(list_in(root, ATTRIBUTE_LIST) or root / ATTRIBUTE_LIST)
    where = pictures_in(root, next(iter(attributes.files), ""))
    rows = attributes.rows(parts)
    files = [where(file) for file in attributes.files]
    if listed := list_in(root, PARTITION_LIST):
        return Found(files, rows, read_partition(listed, attributes.files), ())
    return Found(files, rows, np.full(len(files), TRAIN), (VALIDATION, TEST))


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The words of each line that has any, with the line's number."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DidaError(f"{path}: cannot be read ({error})") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if words := line.split():
            yield number, words
