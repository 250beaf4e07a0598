"""Exclusive domains from an attribute list in the text format of CelebA, as the avatars have it.

24000                          how many pictures
Smiling Eyeglasses Beard       attribute names
000001.png -1  1 -1            a line each: file name, then 1 or -1

Lists and pictures lie in one folder, or as CelebA's authors ship them: Anno/list_attr_celeba.txt,
Eval/list_eval_partition.txt and Img/img_align_celeba.zip, which is read where it is.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dida_cli.data.folders import HELD_OUT, Archive, File, Member, Pair, Split, check_apart
from dida_cli.errors import DidaError

ATTRIBUTE_LIST, PARTITION_LIST = "list_attr_celeba.txt", "list_eval_partition.txt"
LIST_PLACES = ("", "Anno", "Eval")
IMAGE_FOLDERS = ("images", "img_align_celeba")
IMAGE_ARCHIVE = "img_align_celeba.zip"
IMAGE_PLACES = ("", "Img")
TRAIN, VALIDATION, TEST = 0, 1, 2


@dataclass(frozen=True)
class Selection:
    """Which pictures make the domains, as expressions over attribute names (`Attributes.where`)."""

    a: str = "Smiling"
    b: str = "Eyeglasses"
    having: tuple[str, ...] = ()  # further conditions on both domains
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attributes:
    """An attribute list: file names, and for each attribute which files have it."""

    path: Path
    files: list[str]
    has: dict[str, np.ndarray]  # name -> bool (files,)

    def where(self, expression: str) -> np.ndarray:
        """The files an expression is true of: names, `not`, `and`, `or` (binding in this order).

        bool (files,). Raises DidaError naming what it does not know.
        """
        found = np.zeros(len(self.files), dtype=bool)
        for alternative in f" {expression} ".split(" or "):
            all_of = np.ones(len(self.files), dtype=bool)
            for term in f" {alternative} ".split(" and "):
                words = term.split()
                negated, name = words[0:1] == ["not"], " ".join(words[words[0:1] == ["not"] :])
                if name not in self.has:
                    raise DidaError(
                        f"{self.path}: no attribute {name!r} (in {expression!r}); "
                        f"it has {', '.join(self.has)}"
                    )
                all_of &= ~self.has[name] if negated else self.has[name]
            found |= all_of
        return found


def read_attributes(path: Path) -> Attributes:
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
    return Attributes(path, files, dict(zip(names, columns, strict=True)))


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


def pictures_in(root: Path) -> Callable[[str], File]:
    """Where a listed file is: in a folder of pictures, or in img_align_celeba.zip.

    Raises DidaError when `root` has neither.
    """
    places = [root / place for place in IMAGE_PLACES]
    for folder in (place / name for place in places for name in IMAGE_FOLDERS):
        if folder.is_dir():
            return folder.joinpath
    for path in (place / IMAGE_ARCHIVE for place in places):
        if path.is_file():
            archive = Archive(path)
            prefix = f"{path.stem}/"
            inside = prefix if any(name.startswith(prefix) for name in archive.names) else ""
            return lambda file: Member(archive, inside + file)
    raise DidaError(
        f"{root}: has no folder {' or '.join(IMAGE_FOLDERS)}, and no {IMAGE_ARCHIVE}; "
        "put the pictures there"
    )


def from_attributes(root: Path, selection: Selection) -> dict[int, Pair]:
    """The exclusive domains "a, not b" and "b, not a" of each partition, files in list order.

    Without a partition list the last 64 pictures of each domain
    (a tenth at most) are validation and the 64 before them the test. Raises DidaError when a
    domain is empty.
    """
    attributes = read_attributes(list_in(root, ATTRIBUTE_LIST) or root / ATTRIBUTE_LIST)
    where = pictures_in(root)
    in_a, in_b = attributes.where(selection.a), attributes.where(selection.b)
    allowed = np.ones_like(in_a)
    for condition in selection.having:
        allowed &= attributes.where(condition)
    for condition in selection.lacking:
        allowed &= ~attributes.where(condition)
    domains = [np.flatnonzero(allowed & in_a & ~in_b), np.flatnonzero(allowed & in_b & ~in_a)]
    orders = ((selection.a, selection.b), (selection.b, selection.a))
    for (wanted, other), rows in zip(orders, domains, strict=True):
        if not len(rows):
            raise DidaError(
                f"{attributes.path}: no picture has {wanted} and lacks {other} as asked; "
                "choose other --a, --b, --with or --without"
            )
    if partition_list := list_in(root, PARTITION_LIST):
        parts = read_partition(partition_list, attributes.files)
    else:
        parts = _last_ones(len(attributes.files), domains)

    def chosen(rows: np.ndarray, part: int) -> list[File]:
        return [where(attributes.files[row]) for row in rows[parts[rows] == part]]

    pairs = {
        part: Pair(*(chosen(rows, part) for rows in domains)) for part in (TRAIN, VALIDATION, TEST)
    }
    seen, kept = pairs[VALIDATION], pairs[TEST]
    check_apart(Split(pairs[TRAIN], Pair([*seen.a, *kept.a], [*seen.b, *kept.b])))
    return pairs


def for_training(root: Path, selection: Selection) -> Split:
    """The domains to learn from, and those of the validation part to look at meanwhile."""
    parts = from_attributes(root, selection)
    return Split(parts[TRAIN], parts[VALIDATION])


def _last_ones(count: int, domains: list[np.ndarray]) -> np.ndarray:
    parts = np.zeros(count, dtype=int)
    for rows in domains:
        held = max(1, min(HELD_OUT, len(rows) // 10))
        parts[rows[-held:]] = VALIDATION
        parts[rows[-2 * held : -held]] = TEST
    return parts


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The words of each line that has any, with the line's number."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DidaError(f"{path}: cannot be read ({error})") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if words := line.split():
            yield number, words
