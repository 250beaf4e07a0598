"""Folders and archives of pictures: which there are, and reading them."""

import hashlib
import io
import json
import os
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import PIL

from dida_cli import images
from dida_cli.config import Fit, Part
from dida_cli.data import cache as store
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from torch import Tensor

SKIPPED_SHARE = 0.05  # of the files asked for may be unreadable before a training is refused
NAMED = 10  # unreadable files that are named one by one
HELD_OUT = 64  # pictures of each set that are not learned from, where no list says which
TRAIN, VALIDATION, TEST = 0, 1, 2  # what a file is for, as CelebA's partition list numbers it
SMALL = 2**28  # bytes of decoded pictures that are kept in memory, not in a file
DECODING = 3  # raised whenever `read` would give other pixels for the same files
AHEAD = 256  # pictures that are decoded before the first of them is used
MEMBER_BYTES = 4 * images.MAX_PIXELS  # no picture in an archive may be larger


Given = TypeVar("Given")
Made = TypeVar("Made")
Progress = Callable[[int, int], None]  # is told how many are done, and of how many
Stat = tuple[int | None, str]  # bytes, None where it cannot be asked; what changes with the file


def unheard(done: int, total: int) -> None:
    """Progress that nobody is told of."""


class Archive:
    """A zip archive whose members are read where they are, by any number of threads."""

    def __init__(self, path: Path) -> None:
        """Raises DidaError when `path` is no whole zip archive."""
        self.path = path
        self._lock = threading.Lock()
        try:
            if not path.is_file():
                raise OSError("it is no file")
            self._zip = zipfile.ZipFile(path)
        except Exception as error:  # at broken archives, locked ones and those of another kind
            raise DidaError(f"{path}: no whole zip archive ({error}); get it again") from None
        # some archives of Windows have backslashes between folders
        self.members = {m.filename.replace("\\", "/"): m for m in self._zip.infolist()}

    def read(self, name: str) -> bytes:
        """The contents of a member. Raises DidaError naming it when it is absent or damaged."""
        where = f"{self.path}/{name}"
        if (found := self.members.get(name)) is None:
            raise DidaError(f"{where}: no such file in the archive")
        if found.file_size > MEMBER_BYTES:
            raise DidaError(f"{where}: larger than any picture; take it out")
        try:
            with self._lock:  # a ZipFile counts its open members, and not safely among threads
                return self._zip.read(found)
        except Exception as error:
            raise DidaError(f"{where}: damaged in the archive ({error}); get it again") from None

    def pictures(self) -> "list[Member]":
        """Those named like pictures, by name, hidden ones left out. DidaError if there are none."""
        found = sorted(
            name
            for name in self.members
            if name.lower().endswith(images.SUFFIXES)
            and not any(part.startswith(".") for part in name.split("/"))
        )
        if not found:
            raise DidaError(f"{self.path}: holds no pictures ({', '.join(images.SUFFIXES)})")
        return [Member(self, name) for name in found]


@dataclass(frozen=True)
class Member:
    """A picture in an archive, with those methods of a Path that pictures need."""

    archive: Archive
    inside: str  # its name there: looked up as it stands, never a path on this machine

    def __str__(self) -> str:
        return f"{self.archive.path}/{self.inside}"

    @property
    def name(self) -> str:
        return Path(self.inside).name

    def exists(self) -> bool:
        return self.inside in self.archive.members

    def resolve(self) -> Path:
        return Path(f"{self.archive.path.resolve()}/{self.inside}")

    def stat(self) -> Stat:
        found = self.archive.members.get(self.inside)
        return (found.file_size, f"{found.file_size} {found.CRC}") if found else (None, "")

    def read_bytes(self) -> bytes:
        return self.archive.read(self.inside)


File = Path | Member
# Of each part, which pictures have it and which lack it: int (n,), places in a sequence.
Rows = Mapping[Part, tuple[np.ndarray, np.ndarray]]
Names = Mapping[Part, tuple[str, str]]  # the same as expressions over labels, or as folders


@dataclass(frozen=True, eq=False)
class Sets:
    """Pictures with each part and without it. One that is in several sets is one file.

    Attributes:
        groups: of each file, by number; a batch takes as many of each. Empty: all are of one.
    """

    files: Sequence[File]
    rows: Rows  # of files
    groups: np.ndarray = field(default_factory=lambda: np.zeros(0, int))

    def having(self, part: Part) -> list[File]:
        return [self.files[row] for row in self.rows[part][0]]

    def lacking(self, part: Part) -> list[File]:
        return [self.files[row] for row in self.rows[part][1]]

    def only(self, chosen: np.ndarray) -> "Sets":
        """The sets without the files that are not chosen: bool (files,)."""
        files = [self.files[row] for row in np.flatnonzero(chosen).tolist()]
        rows = moved(self.rows, np.where(chosen, np.cumsum(chosen) - 1, -1))
        return Sets(files, rows, self.groups[chosen] if len(self.groups) else self.groups)


class Found(NamedTuple):
    """Pictures as they lie there; a file may be among them by several names."""

    files: Sequence[File]
    rows: Rows
    kinds: np.ndarray  # TRAIN, VALIDATION or TEST: int (files,)
    held_out: Sequence[int]  # kinds that have yet to be taken from the ends of the training sets
    groups: np.ndarray = np.zeros(0, int)  # as in `Sets`


@dataclass(frozen=True, eq=False)
class Split:
    """What is learned from, what is looked at meanwhile, and what is judged on."""

    train: Sets
    validation: Sets
    test: Sets  # the same as `validation` where there are no others

    @property
    def kinds(self) -> dict[str, Sets]:
        """All these by name; "test" only where there are others."""
        tests = {} if self.test is self.validation else {"test": self.test}
        return {"train": self.train, "validation": self.validation} | tests


def even(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Rows such that there are as many of each group, those of smaller ones several times.

    groups: of everything that rows are of, by number.
    """
    each = [rows[groups[rows] == group] for group in np.unique(groups[rows])]
    most = max(map(len, each), default=0)
    return np.concatenate([np.resize(one, most) for one in each]) if each else rows


def named(rows: Rows) -> dict[str, np.ndarray]:
    """The sets by what they are called in messages: "with a", "without a", "with b" ..."""
    return {
        f"{word} {part}": of_side
        for part, sides in rows.items()
        for word, of_side in zip(("with", "without"), sides, strict=True)
    }


def moved(rows: Rows, places: np.ndarray) -> Rows:
    """The sets in another sequence: places[row] is where a picture is there, -1 where it is not.

    Whoever is in a set twice is so once.
    """

    def move(of_side: np.ndarray) -> np.ndarray:
        there = [place for place in places[of_side].tolist() if place >= 0]
        return np.array(list(dict.fromkeys(there)), int)

    return {part: (move(has), move(lacks)) for part, (has, lacks) in rows.items()}


@dataclass(frozen=True)
class Verdict:
    """What is wrong with pictures: lines for which a training is refused, and warnings."""

    refused: tuple[str, ...] = ()
    noted: tuple[str, ...] = ()

    def __add__(self, other: "Verdict") -> "Verdict":
        return Verdict(self.refused + other.refused, self.noted + other.noted)

    def enforce(self) -> None:
        """Give the warnings. Raises DidaError, without them, for the first line that refuses."""
        if self.refused:
            raise DidaError(self.refused[0])
        for line in self.noted:
            warnings.warn(line, stacklevel=3)


def found(root: Path, parts: Names) -> Found:
    """Pictures in folders of these names, or in zip archives: trainA.zip for trainA.

    The test pictures of `trainX` are in `testX` beside it; where one is there, all must be.
    """
    names = list(dict.fromkeys(name for sides in parts.values() for name in sides))
    tests = {name: f"test{name.removeprefix('train')}" for name in names}
    tested = all(name.startswith("train") for name in names) and any(
        is_there(root / name) for name in tests.values()
    )
    files: list[File] = []
    kinds: list[int] = []
    rows: dict[str, np.ndarray] = {}
    for name in names:
        train = _pictures_of(root / name)
        test = _pictures_of(root / tests[name]) if tested else []
        rows[name] = np.arange(len(files), len(files) + len(train) + len(test))
        files += [*train, *test]
        kinds += [TRAIN] * len(train) + [TEST] * len(test)
    sets = {part: (rows[has], rows[lacks]) for part, (has, lacks) in parts.items()}
    return Found(files, sets, np.array(kinds), (VALIDATION,))


def is_there(folder: Path) -> bool:
    """Whether there is such a folder of pictures, or its archive: trainA.zip for trainA."""
    return folder.exists() or _archive_of(folder).exists()


def real(file: File) -> Path:
    """Where a file lies by whatever links; one that leads to itself lies where it is."""
    return Path(os.path.realpath(file)) if isinstance(file, Path) else file.resolve()


def _pictures_of(folder: Path) -> Sequence[File]:
    archive = _archive_of(folder)
    if folder.exists() or not archive.exists():
        return images.pictures_in(folder)
    return Archive(archive).pictures()


def _archive_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.zip")


def enough(train: Sets, batch: int) -> Verdict:
    """A refusal when a set is smaller than its share of a batch."""
    for name, rows in named(train.rows).items():
        if len(rows) < batch:
            line = f"there are {len(rows)} pictures {name}, fewer than the batch of {batch}"
            return Verdict((f"{line}; add pictures or use --batch {max(1, len(rows))}",))
    return Verdict()


def load(files: Sequence[File], side: int, fit: Fit = "crop") -> "Tensor":
    """All files as the model sees them: uint8 (N, 3, side, side), in memory.

    Unreadable files are named in warnings and skipped; DidaError above 5 % of them.
    """
    import torch

    pictures = read(files, side, fit)
    (too_many(pictures.unreadable, len(files)) + skipped(pictures.unreadable)).enforce()
    return torch.from_numpy(pictures.rows)


def too_many(lines: Sequence[str], count: int, which: str = "pictures") -> Verdict:
    """A refusal when more than 5 % of `count` pictures cannot be read, a line for each."""
    if len(lines) <= SKIPPED_SHARE * count:
        return Verdict()
    return Verdict((f"{len(lines)} of {count} {which} cannot be read, the first: {lines[0]}",))


def skipped(lines: Sequence[str]) -> Verdict:
    """Warnings of pictures that cannot be read."""
    noted = [f"skipped {line}" for line in lines[:NAMED]]
    if more := lines[NAMED:]:
        noted.append(f"skipped {len(more)} more pictures that cannot be read")
    return Verdict(noted=tuple(noted))


def decoded_bytes(count: int, side: int, fit: Fit = "crop") -> tuple[int, int]:
    """What so many pictures take when they are read: in memory, and in a file of the cache.

    A face takes a tenth of a second to find, so what was found is kept however small.
    """
    size = count * 3 * side**2
    return (0, size) if size > SMALL or fit == "face" else (size, 0)


def read(
    files: Sequence[File],
    side: int,
    fit: Fit = "crop",
    on_progress: Progress = unheard,
    *,
    margin: float = 0.0,
    cache: Path | None = None,
    keep: bool = True,
) -> store.Pictures:
    """All files as the model sees them, decoded in threads; unreadable ones are left out.

    They are in memory or, with a folder `cache` and above 256 MB, in a file there, mapped: the
    next call for the same files, sizes and times decodes nothing. Where that folder cannot hold
    them they are kept in memory, with a warning; DidaError when they do not fit there either.
    Without `keep` only their facts are. `margin`: of the square of a face, seen around it.
    """
    square, shape = images.Square(side, fit, margin), (3, side, side)
    decoded = _decoded(files, square, on_progress)
    if not keep:
        return store.facts_alone(decoded, shape)
    _, size = decoded_bytes(len(files), side, fit)
    if cache is None or not size:
        return store.in_memory(decoded, len(files), shape)
    path = cache / f"{_key(files, square)}{store.SUFFIX}"
    if found := store.opened(path, shape):
        on_progress(len(files), len(files))
        return found
    try:
        store.write(path, decoded, size)
        if found := store.opened(path, shape):
            return found
        raise OSError(0, "does not keep what is written")
    except OSError as error:
        _keep_in_memory(cache, size, str(error.strerror or error))
    return store.in_memory(_decoded(files, square, on_progress), len(files), shape)


def contents(file: File) -> Path | io.BytesIO:
    """A file as what reads pictures takes it. Raises DidaError for a damaged archive."""
    return file if isinstance(file, Path) else io.BytesIO(file.read_bytes())


def _keep_in_memory(cache: Path, size: int, why: str) -> None:
    """Warn that pictures are kept in memory, or raise DidaError when that is too small."""
    words = f"{cache}: cannot keep {size / 1e9:.1f} GB of decoded pictures ({why})"
    left = store.memory_left()
    if left is not None and size > left:
        raise DidaError(
            f"{words}, and memory has {left / 1e9:.1f} GB left; "
            "set DIDA_HOME to a folder on a larger disk, or use a smaller --side"
        )
    warnings.warn(
        f"{words}; they stay in memory and are decoded again next time, "
        "unless DIDA_HOME is a folder that can keep them",
        stacklevel=4,
    )


def _key(files: Sequence[File], square: images.Square) -> str:
    """Another name for whatever would give other pixels."""
    how = [DECODING, PIL.__version__, *square]
    digest = hashlib.sha256(json.dumps(how).encode())
    for file in files:
        digest.update(json.dumps([os.path.abspath(str(file)), stat(file)[1]]).encode())
    return digest.hexdigest()


def stat(file: File) -> Stat:
    """Bytes of a file, and what changes with its contents, or with whether it may be read."""
    if isinstance(file, Member):
        return file.stat()
    try:
        found = file.stat()
    except OSError:
        return None, ""
    return found.st_size, f"{found.st_size} {found.st_mtime_ns} {found.st_mode}"


def _decoded(
    files: Sequence[File], square: images.Square, on_progress: Progress
) -> Iterator[store.Item]:
    """Each file as the model sees it, in order."""

    def decode(file: File) -> store.Item:
        try:
            picture = images.read(contents(file), str(file))
            if square.fit == "face":
                from dida_cli import faces

                fitted = faces.fit(picture, square, str(file))
            else:
                fitted = images.fit(picture, square)
        except DidaError as error:
            return str(error)
        return store.item(images.pixels(fitted))

    for done, item in enumerate(in_threads(decode, files), start=1):
        yield item
        on_progress(done, len(files))


def in_threads(work: Callable[[Given], Made], given: Sequence[Given]) -> Iterator[Made]:
    """The work on each, in order; no more than `AHEAD` results wait, however many there are."""
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(given), AHEAD):
            yield from pool.map(work, given[first : first + AHEAD])


def write_folders(
    out: Path,
    wanted: Mapping[str, Sequence[File]],
    *,
    link: bool = False,
    on_progress: Progress = unheard,
) -> None:
    """Copy (or link) the wanted files into folders of those names, made at once in `out`."""
    total = sum(map(len, wanted.values()))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as made:
        new = Path(made) / "new"
        done = 0
        for name, files in wanted.items():
            (new / name).mkdir(parents=True)
            for file in files:
                copy = new / name / file.name
                if not file.exists():
                    raise DidaError(f"{file}: no such file, though it is listed; get it too")
                if copy.exists():
                    raise DidaError(f"{file}: a second picture of this name in {name}; rename it")
                if not link:
                    copy.write_bytes(file.read_bytes())
                elif isinstance(file, Path):
                    copy.symlink_to(file.resolve())
                else:
                    raise DidaError(f"{file}: no link can lead into an archive; drop --link")
                done += 1
                on_progress(done, total)
        if out.exists():
            out.rmdir()  # empty, as the caller has seen; otherwise this refuses
        new.rename(out)
