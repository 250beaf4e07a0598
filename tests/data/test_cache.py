"""Decoded pictures in a file: the same pixels, decoded once, never half there, never in memory."""

import errno
import gc
import os
import shutil
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dida_cli import faces, images
from dida_cli.data import cache, folders
from dida_cli.data.batches import Batches
from dida_cli.errors import DidaError

SIDE = 32
SHAPE = (3, SIDE, SIDE)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "SMALL", 0)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Twenty pictures of noise."""
    paths = [tmp_path / "pictures" / f"{number:02d}.png" for number in range(20)]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        noise = np.random.default_rng(number).integers(0, 256, (36, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    return paths


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return tmp_path / "home" / "pictures"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded from now on."""
    names: list[str] = []
    read = images.read

    def noted(source: Path, name: str) -> images.Picture:
        names.append(Path(name).name)
        return read(source, name)

    monkeypatch.setattr(images, "read", noted)
    return names


def load(files: list[Path], where: Path) -> Tensor:
    return torch.from_numpy(folders.read(files, SIDE, cache=where).rows)


def batches(pictures: Tensor, rows: folders.Rows) -> Batches:
    """Batches of pictures of which no file was unreadable."""
    facts = np.zeros(len(pictures), cache.FACTS)
    facts["file"] = np.arange(len(pictures))
    files = [Path(f"{number}.png") for number in range(len(pictures))]
    made = cache.Pictures(pictures.numpy(), facts, [])
    return Batches(folders.Sets(files, rows), made, batch=4, seed=3, flip=True)


def kept(where: Path) -> list[Path]:
    return sorted(where.iterdir()) if where.exists() else []


# The same pictures, decoded once


def test_a_cache_gives_the_pixels_that_memory_gives(files: list[Path], where: Path) -> None:
    plain = folders.load(files, SIDE)
    for rows in (load(files, where), load(files, where)):
        assert rows.dtype == torch.uint8 and rows.shape == (20, *SHAPE)
        assert torch.equal(rows, plain)
        sets = {"a": (np.arange(20), np.arange(7))}
        mapped, in_memory = (batches(pictures, sets) for pictures in (rows, plain))
        for step in range(8):
            pairs = zip(mapped(step)["a"], in_memory(step)["a"], strict=True)
            assert all(torch.equal(one, other) for one, other in pairs)


def test_the_second_time_nothing_is_decoded(
    files: list[Path], where: Path, decoded: list[str]
) -> None:
    load(files, where)
    assert sorted(decoded) == [path.name for path in files]
    told: list[tuple[int, int]] = []
    folders.read(files, SIDE, "crop", lambda done, total: told.append((done, total)), cache=where)
    assert len(decoded) == 20
    assert told == [(20, 20)]


def test_a_file_holds_the_pixels_and_a_few_bytes_of_each_picture(
    files: list[Path], where: Path
) -> None:
    load(files, where)
    (path,) = kept(where)
    pixels = 20 * 3 * 32 * 32
    assert pixels < path.stat().st_size <= pixels + 20 * cache.FACTS.itemsize + 100
    assert cache.FACTS.itemsize < 32
    os.umask(umask := os.umask(0))
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def touch_later(files: list[Path]) -> None:
    stat = files[3].stat()
    os.utime(files[3], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


def resize(files: list[Path]) -> None:
    stat = files[3].stat()
    files[3].write_bytes(files[3].read_bytes() + b"\0")
    os.utime(files[3], ns=(stat.st_atime_ns, stat.st_mtime_ns))


def permit(files: list[Path]) -> None:
    files[3].chmod(0o640)


@pytest.mark.parametrize(
    "change", [list.reverse, list.pop, touch_later, resize, permit, lambda files: files[3].unlink()]
)
def test_other_files_are_another_cache(
    files: list[Path], where: Path, change: Callable[[list[Path]], object]
) -> None:
    load(files, where)
    change(files)
    folders.read(files, SIDE, cache=where)
    assert len(kept(where)) == 2


def test_another_side_fit_or_way_of_decoding_is_another_cache(
    files: list[Path], where: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side, fit in ((SIDE, "crop"), (64, "crop"), (SIDE, "squash")):
        folders.read(files, side, fit, cache=where)
    monkeypatch.setattr(folders, "DECODING", -1)
    load(files, where)
    assert len(kept(where)) == 4


def test_decoding_is_the_one_that_the_constant_stands_for() -> None:
    """If this fails, `read` gives other pixels than it did: raise folders.DECODING."""
    ramp = np.arange(48 * 40 * 3, dtype=np.uint32).reshape(40, 48, 3) * 37 % 251
    picture = images.fit(Image.fromarray(ramp.astype(np.uint8)), images.Square(SIDE))
    expected = [[100, 175, 122], [101, 133, 101]]
    found = [images.pixels(picture)[:, 3, 5].tolist(), images.pixels(picture)[:, 20, 30].tolist()]
    assert np.abs(np.subtract(found, expected)).max() <= 2
    assert (144 * faces.TEMPLATE).round(6).tolist() == [[40, 56], [102, 56], [71, 124]]
    assert folders.DECODING == 3


def test_few_pictures_stay_in_memory(
    files: list[Path], where: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "SMALL", 20 * 3 * 32 * 32)
    load(files, where)
    assert kept(where) == []
    load([*files, files[0]], where)
    assert len(kept(where)) == 1


def test_what_is_written_into_the_rows_does_not_reach_the_file(
    files: list[Path], where: Path
) -> None:
    rows = load(files, where)
    before = kept(where)[0].read_bytes()
    rows.zero_()
    assert kept(where)[0].read_bytes() == before
    assert load(files, where).any()


def test_unreadable_files_are_named_again(
    files: list[Path], where: Path, decoded: list[str]
) -> None:
    files[7].write_text("no picture")
    for _ in range(2):
        found = folders.read(files, SIDE, cache=where)
        assert len(found.rows) == 19
        (line,) = found.unreadable
        assert "07.png: not a picture" in line
        assert found.facts["file"].tolist() == [*range(7), *range(8, 20)]
    assert len(decoded) == 20


def test_files_none_of_which_is_readable_are_named_again(files: list[Path], where: Path) -> None:
    for path in files:
        path.write_text("no picture")
    for _ in range(2):
        found = folders.read(files, SIDE, cache=where)
        assert (len(found.rows), len(found.unreadable)) == (0, 20)


# Damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def cut_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def grow(path: Path) -> None:
    path.write_bytes(b"\0" + path.read_bytes())


def flip(path: Path, place: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


PIXELS = 20 * 3 * 32 * 32
DAMAGE = {
    "cut": cut,
    "empty": cut_to_nothing,
    "grown": grow,
    "a pixel": lambda path: flip(path, 0),
    "the last pixel": lambda path: flip(path, PIXELS - 1),
    "a fact": lambda path: flip(path, PIXELS + 5),
    "the list of unreadable files": lambda path: flip(path, -cache.SEAL.size - 1),
    "the seal's checksum": lambda path: flip(path, -1),
    "the seal's counts": lambda path: flip(path, -cache.SEAL.size + 8),
    "the seal's counts, by far": lambda path: flip(path, -cache.SEAL.size + 15),
    "the seal's name": lambda path: flip(path, -cache.SEAL.size),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_noticed_and_made_anew(
    files: list[Path], where: Path, decoded: list[str], damage: Callable[[Path], object]
) -> None:
    plain = load(files, where).clone()
    (path,) = kept(where)
    whole = path.read_bytes()
    damage(path)
    assert torch.equal(load(files, where), plain)
    assert len(decoded) == 40
    assert kept(where) == [path]
    assert path.read_bytes() == whole


def test_a_stopped_decoding_leaves_no_file(where: Path) -> None:
    path = where / f"x{cache.SUFFIX}"

    def stopped() -> object:
        yield cache.item(np.zeros(SHAPE, np.uint8))
        assert len(kept(where)) == 1  # under another name
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.write(path, stopped(), 3072)
    assert kept(where) == []


def test_what_a_killed_process_left_is_cleared_and_what_another_writes_is_not(
    files: list[Path], where: Path
) -> None:
    where.mkdir(parents=True)
    left, written = (where / f".{name}{cache.SUFFIX}.0123" for name in ("left", "written"))
    for path in (left, written):
        path.write_bytes(b"half")
    hours_ago = time.time() - 2 * cache.STALE
    os.utime(left, (hours_ago, hours_ago))
    load(files, where)
    assert not left.exists() and written.exists()
    assert len(kept(where)) == 2


# No room


def full_disk(monkeypatch: pytest.MonkeyPatch, where: Path) -> None:
    free = PIXELS + cache.RESERVE - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free, 0, free))


def disk_that_fills(monkeypatch: pytest.MonkeyPatch, where: Path) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)


def file_in_the_way(monkeypatch: pytest.MonkeyPatch, where: Path) -> None:
    where.parent.write_text("a file")


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (full_disk, "No space left on device"),
        (disk_that_fills, "No space left on device"),
        (file_in_the_way, "Not a directory|File exists"),
    ],
)
def test_where_the_cache_cannot_be_written_memory_is_used_with_a_warning(
    files: list[Path],
    where: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Callable[[pytest.MonkeyPatch, Path], None],
    words: str,
) -> None:
    plain = folders.load(files, SIDE)
    trouble(monkeypatch, where)
    with pytest.warns(UserWarning, match=words) as caught:
        rows = load(files, where)
    assert len(caught) == 1
    assert str(where) in str(caught[0].message) and "DIDA_HOME" in str(caught[0].message)
    assert torch.equal(rows, plain)
    assert where.parent.is_file() or kept(where) == []


def test_what_fits_nowhere_is_refused_in_a_line_before_anything_is_decoded(
    files: list[Path], where: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    full_disk(monkeypatch, where)
    monkeypatch.setattr(cache, "memory_left", lambda: PIXELS - 1)
    with pytest.raises(DidaError, match="DIDA_HOME") as caught:
        load(files, where)
    assert str(where) in str(caught.value) and "\n" not in str(caught.value)
    assert decoded == []


# Memory


def own_memory() -> int:
    """Bytes of this process that are not pages of a file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells these numbers")
def test_memory_does_not_grow_with_the_number_of_pictures(
    files: list[Path], where: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "AHEAD", 32)
    many = files * 40
    size = 800 * 3 * 128 * 128  # 39 MB: so much is never taken from memory that was freed before

    def growth(files: list[Path], cache: Path | None) -> int:
        gc.collect()
        before = own_memory()
        most = 0

        def look(done: int, total: int) -> None:
            nonlocal most
            if done % 50 == 0:
                most = max(most, own_memory() - before)

        pictures = folders.read(files, 128, "crop", look, cache=cache)
        everything = np.arange(len(files))
        sets = folders.Sets(files, {"a": (everything, everything)})
        batches = Batches(sets, pictures, batch=4, seed=0, flip=True)
        for step in range(201):  # more than an epoch
            batches(step)
        return max(most, own_memory() - before)

    growth(files, where)  # what is needed once
    assert growth(many, where) < size / 3
    assert growth(many, None) > size * 2 / 3  # so it is seen
