"""Decoded pictures: in memory, or in a file that is mapped into it, so that many cost no more.

Such a file holds the pixels of all pictures, then what is known of each (`FACTS`), then as JSON
which files could not be read, then a seal with the sizes and the sha256 of these two. It is there
whole or not at all, is never changed, and may be deleted whenever nothing reads it.
200,000 pictures of 128 px are 200,000 x 3 x 128 x 128 = 9.8 GB on disk.
"""

import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SUFFIX = ".pictures"
# Of one picture: its place among the files asked for, the sha1 of its pixels, is it one colour?
FACTS = np.dtype([("file", "<i4"), ("digest", "V20"), ("blank", "?")])
SEAL = struct.Struct("<8sQQ32s")  # MAGIC, pictures, bytes of JSON, sha256 of facts and JSON
MAGIC = b"dida-px1"
SAMPLED = 16  # pictures whose pixels are compared with their digests when a file is opened
RESERVE = 1_000_000_000  # bytes of the disk that are left to others
STALE = 600  # seconds after which a file that nobody has written to was left by a killed process

Shape = tuple[int, int, int]
# uint8 pixels, their sha1, are they of one colour? Or a line on why a file cannot be read.
Item = tuple[np.ndarray, bytes, bool] | str


@dataclass(frozen=True)
class Pictures:
    """Pictures as a model sees them, what is known of each, and the files that are no pictures."""

    rows: np.ndarray  # uint8 (N, 3, side, side); without any where only the facts were asked for
    facts: np.ndarray  # FACTS (N,)
    unreadable: list[str]  # a line for each file that was skipped


def item(pixels: np.ndarray) -> Item:
    """One picture with its facts. pixels: uint8 (3, side, side), contiguous."""
    blank = bool((pixels == pixels[:, :1, :1]).all())
    return pixels, hashlib.sha1(pixels.data).digest(), blank


def in_memory(items: Iterable[Item], count: int, shape: Shape) -> Pictures:
    """The pictures of at most `count` items in memory, in their order."""
    rows = np.empty((count, *shape), np.uint8)
    free = iter(rows)
    facts, unreadable = _gathered(items, lambda pixels: np.copyto(next(free), pixels))
    return Pictures(rows[: len(facts)], facts, unreadable)


def facts_alone(items: Iterable[Item], shape: Shape) -> Pictures:
    """What there is to know of the pictures, without keeping any."""
    return Pictures(np.empty((0, *shape), np.uint8), *_gathered(items, lambda _: None))


def _gathered(
    items: Iterable[Item], put: Callable[[np.ndarray], object]
) -> tuple[np.ndarray, list[str]]:
    """The facts of all that are pictures, each of which is put away, and lines on the others."""
    facts, unreadable = bytearray(), []
    for place, one in enumerate(items):
        if isinstance(one, str):
            unreadable.append(one)
        else:
            pixels, *known = one
            put(pixels)
            facts += np.array((place, *known), FACTS).tobytes()
    return np.frombuffer(bytes(facts), FACTS), unreadable


def opened(path: Path, shape: Shape) -> Pictures | None:
    """The pictures of a file, mapped; None when it is absent or not as it was written.

    What is written into the rows stays in this process.
    """
    try:
        with path.open("rb") as file:
            file.seek(-SEAL.size, os.SEEK_END)
            magic, count, length, digest = SEAL.unpack(file.read())
            pixels, known = count * math.prod(shape), count * FACTS.itemsize
            if magic != MAGIC or file.tell() != pixels + known + length + SEAL.size:
                return None
            file.seek(pixels)
            tail = file.read(known + length)
        if hashlib.sha256(tail).digest() != digest:
            return None
        facts = np.frombuffer(tail[:known], FACTS)
        mapped = np.memmap(path, np.uint8, "c", shape=(count, *shape))
    except OSError:
        return None
    for place in np.linspace(0, count - 1, min(count, SAMPLED), dtype=int):
        if hashlib.sha1(mapped[place].data).digest() != facts["digest"][place].tobytes():
            return None
    return Pictures(mapped, facts, json.loads(tail[known:]))


def write(path: Path, items: Iterable[Item], expected: int) -> None:
    """Write the file of these pictures, of about `expected` bytes, at once.

    Raises OSError, before anything is decoded, when the disk has no room for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path.parent)
    if shutil.disk_usage(path.parent).free < expected + RESERVE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            facts, unreadable = _gathered(items, lambda pixels: file.write(pixels.data))
            words = json.dumps(unreadable).encode()
            tail = facts.tobytes() + words
            seal = SEAL.pack(MAGIC, len(facts), len(words), hashlib.sha256(tail).digest())
            file.write(tail + seal)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_stale(folder: Path) -> None:
    for left in folder.glob(f".*{SUFFIX}.*"):
        with suppress(OSError):  # another process was faster
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()


def memory_left() -> int | None:
    """Bytes of memory that may still be taken, where the system tells."""
    try:
        told = Path("/proc/meminfo").read_text()
        return int(told.partition("MemAvailable:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        return None
