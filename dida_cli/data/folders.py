"""Folders and archives of pictures, and the endless batches a training takes from two domains."""

import functools
import hashlib
import io
import json
import lzma
import os
import tempfile
import threading
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL
import torch
from torch import Tensor

from dida_cli import images
from dida_cli.config import ModelConfig
from dida_cli.data import cache as store
from dida_cli.errors import DidaError

SKIPPED_SHARE = 0.05  # of a domain's files may be unreadable before the training is refused
NAMED = 10  # unreadable files that are named one by one
HELD_OUT = 64  # pictures of each domain kept for looking at, where no list says which
SMALL = 2**28  # bytes of decoded pictures that are kept in memory, not in a file
DECODING = 1  # raised whenever `read` would give other pixels for the same files
AHEAD = 256  # pictures that are decoded before the first of them is used
MEMBER_BYTES = 4 * images.MAX_PIXELS  # no picture in an archive may be larger
ARCHIVE_DAMAGE = (  # what zipfile raises at archives that are broken, locked or of another kind
    *images.DAMAGE,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


Given = TypeVar("Given")
Made = TypeVar("Made")


class Archive:
    """A zip archive whose members are read where they are, by any number of threads."""

    def __init__(self, path: Path) -> None:
        """Raises DidaError when `path` is no whole zip archive."""
        self.path = path
        self._lock = threading.Lock()
        try:
            self._zip = zipfile.ZipFile(path)
            self.names = frozenset(self._zip.namelist())
        except ARCHIVE_DAMAGE as error:
            raise DidaError(f"{path}: no whole zip archive ({error}); get it again") from None

    def read(self, name: str) -> bytes:
        """The contents of a member. Raises DidaError naming it when it is absent or damaged."""
        where = f"{self.path}/{name}"
        try:
            with self._lock:  # a ZipFile counts its open members, and not safely among threads
                found = self._zip.getinfo(name)
                if found.file_size > MEMBER_BYTES:
                    raise DidaError(f"{where}: larger than any picture; take it out")
                return self._zip.read(found)
        except KeyError:
            raise DidaError(f"{where}: no such file in the archive") from None
        except ARCHIVE_DAMAGE as error:
            raise DidaError(f"{where}: damaged in the archive ({error}); get it again") from None

    def stamp(self, name: str) -> str:
        """What changes with a member's contents."""
        if name not in self.names:
            return ""
        found = self._zip.getinfo(name)
        return f"{found.file_size} {found.CRC}"

    def size(self, name: str) -> int | None:
        """Bytes of a member; None when it is absent."""
        return self._zip.getinfo(name).file_size if name in self.names else None

    def pictures(self) -> "list[Member]":
        """The members that are named like pictures, by name, hidden ones left out.

        Raises DidaError if there are none.
        """
        found = sorted(
            name
            for name in self.names
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
        return self.inside in self.archive.names

    def resolve(self) -> Path:
        """A path that no other picture has."""
        return Path(f"{self.archive.path.resolve()}/{self.inside}")

    def read_bytes(self) -> bytes:
        """Its contents. Raises DidaError when they are damaged or not there."""
        return self.archive.read(self.inside)


File = Path | Member


@dataclass(frozen=True)
class Pair:
    """Files of the two domains; unpaired, of any number."""

    a: Sequence[File]
    b: Sequence[File]


@dataclass(frozen=True)
class Split:
    """What is learned from, and what is only looked at."""

    train: Pair
    held_out: Pair


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


def from_folders(root: Path) -> Split:
    """trainA, trainB and, if present, testA, testB below `root`, as folders or as zip archives.

    Without tests the last 64 pictures (a tenth at most) of each domain are held out.
    """
    train = Pair(_pictures_of(root / "trainA"), _pictures_of(root / "trainB"))
    if is_there(root / "testA") or is_there(root / "testB"):
        split = Split(train, Pair(_pictures_of(root / "testA"), _pictures_of(root / "testB")))
    else:
        split = hold_out(train)
    check_apart(split)
    return split


def is_there(folder: Path) -> bool:
    """Whether there is such a folder of pictures, or its archive: trainA.zip for trainA."""
    return folder.exists() or _archive_of(folder).exists()


def _pictures_of(folder: Path) -> Sequence[File]:
    archive = _archive_of(folder)
    if folder.exists() or not archive.exists():
        return images.pictures_in(folder)
    return Archive(archive).pictures()


def _archive_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.zip")


def hold_out(pair: Pair) -> Split:
    """All but the last 64 pictures (a tenth at most) of each domain, and these."""
    return Split(*map(Pair, *(_hold_out(files) for files in (pair.a, pair.b))))


def _hold_out(files: Sequence[File]) -> tuple[Sequence[File], Sequence[File]]:
    count = max(1, min(HELD_OUT, len(files) // 10))
    return files[:-count], files[-count:]


def check_apart(split: Split) -> None:
    """Raises DidaError when a file is in both domains, or both trained on and held out."""
    a, b, held = (
        {path.resolve() for path in files}
        for files in (split.train.a, split.train.b, [*split.held_out.a, *split.held_out.b])
    )
    if same := sorted(a & b):
        raise DidaError(f"{same[0]}: is in both domains; a picture may be in A or in B, not both")
    if seen := sorted((a | b) & held):
        raise DidaError(f"{seen[0]}: is both trained on and held out; take it out of one of them")


def check_enough(train: Pair, batch: int) -> None:
    """Raises DidaError when a domain is smaller than its share of a batch."""
    for name, count in (("A", len(train.a)), ("B", len(train.b))):
        if count < batch:
            raise DidaError(
                f"domain {name} has {count} pictures, fewer than the batch of {batch}; "
                f"add pictures or use --batch {max(1, count)}"
            )


def load(
    files: Sequence[File],
    config: ModelConfig,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    cache: Path | None = None,
) -> Tensor:
    """All files as the model sees them: uint8 (N, 3, side, side), as `read` keeps them.

    Unreadable files are named in warnings and skipped; DidaError above 5 % of them.
    """
    pictures = read(files, config, on_progress, cache=cache)
    readable(pictures, len(files)).enforce()
    return pictures.rows


def readable(pictures: store.Pictures, count: int) -> Verdict:
    """What the unreadable among `count` files come to: warnings, a refusal above 5 % of them."""
    lines = pictures.unreadable
    if len(lines) > SKIPPED_SHARE * count:
        return Verdict((f"{len(lines)} of {count} pictures cannot be read, the first: {lines[0]}",))
    noted = [f"skipped {line}" for line in lines[:NAMED]]
    if more := lines[NAMED:]:
        noted.append(f"skipped {len(more)} more pictures that cannot be read")
    return Verdict(noted=tuple(noted))


def read(
    files: Sequence[File],
    config: ModelConfig,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    cache: Path | None = None,
) -> store.Pictures:
    """All files as the model sees them, decoded in threads; unreadable ones are left out.

    They are in memory or, with a folder `cache` and above 256 MB, in a file there, mapped: the
    next call for the same files, sizes and times decodes nothing. Where that folder cannot hold
    them they are kept in memory, with a warning; DidaError when they do not fit there either.
    """
    shape = (3, config.side, config.side)
    size = len(files) * 3 * config.side**2
    if cache is not None and size > SMALL:
        path = cache / f"{_key(files, config)}{store.SUFFIX}"
        if found := store.opened(path, shape):
            on_progress(len(files), len(files))
            return found
        try:
            store.write(path, _decoded(files, config, on_progress), size)
            if found := store.opened(path, shape):
                return found
            raise OSError(0, "does not keep what is written")
        except OSError as error:
            _keep_in_memory(cache, size, str(error.strerror or error))
    return store.in_memory(_decoded(files, config, on_progress), len(files), shape)


def look_through(
    files: Sequence[File],
    config: ModelConfig,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> store.Pictures:
    """The facts of all files as the model would see them; the pictures are not kept."""
    shape = (3, config.side, config.side)
    return store.facts_alone(_decoded(files, config, on_progress), shape)


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


def _key(files: Sequence[File], config: ModelConfig) -> str:
    """Another name for whatever would give other pixels."""
    how = [DECODING, PIL.__version__, config.side, config.fit]
    digest = hashlib.sha256(json.dumps(how).encode())
    for file in files:
        digest.update(json.dumps([os.path.abspath(str(file)), _stamp(file)]).encode())
    return digest.hexdigest()


def _stamp(file: File) -> str:
    """What changes with a file's contents, or with whether it may be read."""
    if isinstance(file, Member):
        return file.archive.stamp(file.inside)
    try:
        found = file.stat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns} {found.st_mode}"


def size_of(file: File) -> int | None:
    """Bytes of a file; None when it cannot be asked."""
    if isinstance(file, Member):
        return file.archive.size(file.inside)
    try:
        return file.stat().st_size
    except OSError:
        return None


def _decoded(
    files: Sequence[File], config: ModelConfig, on_progress: Callable[[int, int], None]
) -> Iterator[store.Item]:
    """Each file as the model sees it, in order."""
    decode = functools.partial(_item, config=config)
    for done, item in enumerate(in_threads(decode, files), start=1):
        yield item
        on_progress(done, len(files))


def _item(file: File, config: ModelConfig) -> store.Item:
    try:
        picture = images.read(contents(file), str(file))
    except DidaError as error:
        return str(error)
    return store.item(images.pixels(images.fit(picture, config)))


def in_threads(work: Callable[[Given], Made], given: Sequence[Given]) -> Iterator[Made]:
    """The work on each, in order; no more than `AHEAD` results wait, however many there are."""
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(given), AHEAD):
            yield from pool.map(work, given[first : first + AHEAD])


class Batches:
    """Batches of both domains, a pure function of the step: a resumed run sees what it would have.

    Each domain is gone through in an order of its own, shuffled anew every epoch.
    """

    def __init__(self, a: Tensor, b: Tensor, *, batch: int, seed: int, flip: bool) -> None:
        self.domains = (a, b)
        self.batch, self.seed, self.flip = batch, seed, flip
        self._order = functools.lru_cache(maxsize=4)(self._shuffled)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """The pictures of a step (0, 1, ...): two tensors (batch, 3, side, side) in [-1, 1]."""
        a, b = (self._take(domain, step) for domain in (0, 1))
        return a, b

    def rows(self, domain: int, step: int) -> np.ndarray:
        """Which pictures of domain 0 or 1 a step takes, in the order of its batch: int (batch,)."""
        count = len(self.domains[domain])
        places = range(step * self.batch, (step + 1) * self.batch)
        return np.array([self._order(domain, place // count)[place % count] for place in places])

    def _take(self, domain: int, step: int) -> Tensor:
        rows = torch.as_tensor(self.rows(domain, step))
        pictures = images.to_unit(self.domains[domain][rows])
        if self.flip:
            random = np.random.default_rng([self.seed, domain, step, 1])
            turned = torch.from_numpy(random.random(self.batch) < 0.5)
            pictures[turned] = pictures[turned].flip(-1)
        return pictures

    def _shuffled(self, domain: int, epoch: int) -> np.ndarray:
        random = np.random.default_rng([self.seed, domain, epoch, 0])
        return random.permutation(len(self.domains[domain]))


def write_folders(
    out: Path,
    wanted: Mapping[str, Sequence[File]],
    *,
    link: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
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
                if not file.exists():
                    raise DidaError(f"{file}: no such file, though it is listed; get it too")
                if (new / name / file.name).exists():
                    raise DidaError(f"{file}: a second picture of this name in {name}; rename it")
                if not link:
                    (new / name / file.name).write_bytes(file.read_bytes())
                elif isinstance(file, Path):
                    (new / name / file.name).symlink_to(file.resolve())
                else:
                    raise DidaError(f"{file}: no link can lead into an archive; drop --link")
                done += 1
                on_progress(done, total)
        if out.exists():
            out.rmdir()  # empty, as the caller has seen; otherwise this refuses
        new.rename(out)
