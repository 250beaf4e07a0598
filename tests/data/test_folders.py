"""Folders and archives of pictures, and batches that are a pure function of the step."""

import io
import itertools
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dida_cli import images
from dida_cli.config import ModelConfig
from dida_cli.data import folders, sources
from dida_cli.data.folders import Archive, Batches, Member, Pair
from dida_cli.errors import DidaError

CONFIG = ModelConfig(side=32)


def touch(folder: Path, count: int) -> list[Path]:
    """Files named like pictures; enough wherever nobody opens them."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number:04d}.png" for number in range(count)]
    for path in paths:
        path.touch()
    return paths


def paint(folder: Path, count: int) -> list[Path]:
    """Pictures each of one grey: its number."""
    paths = touch(folder, count)
    for level, path in enumerate(paths):
        Image.new("RGB", (40, 36), (level, level, level)).save(path)
    return paths


def pack(path: Path, members: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> Archive:
    """A zip archive of these members, opened."""
    with zipfile.ZipFile(path, "w", kind) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return Archive(path)


def grey(level: int) -> bytes:
    """A picture file of one grey."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 36), (level, level, level)).save(buffer, "PNG")
    return buffer.getvalue()


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# Which files


def test_test_folders_are_held_out(tmp_path: Path) -> None:
    wanted = {name: touch(tmp_path / name, 3) for name in ("trainA", "trainB", "testA", "testB")}
    split = folders.from_folders(tmp_path)
    assert split.train == Pair(wanted["trainA"], wanted["trainB"])
    assert split.held_out == Pair(wanted["testA"], wanted["testB"])


def test_without_test_folders_the_last_tenth_is_held_out(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "trainA", 39), touch(tmp_path / "trainB", 5)
    split = folders.from_folders(tmp_path)
    assert split.train == Pair(a[:36], b[:4])
    assert split.held_out == Pair(a[36:], b[4:])


def test_without_test_folders_at_most_64_are_held_out(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "trainA", 700), touch(tmp_path / "trainB", 640)
    split = folders.from_folders(tmp_path)
    assert split.held_out == Pair(a[-64:], b[-64:])
    assert split.train == Pair(a[:-64], b[:-64])


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        (("trainB",), "trainA"),
        (("trainA",), "trainB"),
        (("trainA", "trainB", "testA"), "testB"),
        (("trainA", "trainB", "testB"), "testA"),
    ],
)
def test_a_missing_folder_is_refused_by_name(
    tmp_path: Path, present: tuple[str, ...], missing: str
) -> None:
    for name in present:
        touch(tmp_path / name, 2)
    with pytest.raises(DidaError, match="no such folder") as caught:
        folders.from_folders(tmp_path)
    assert str(tmp_path / missing) in str(caught.value)


def test_a_picture_linked_into_both_domains_is_refused(tmp_path: Path) -> None:
    a, _ = touch(tmp_path / "trainA", 20), touch(tmp_path / "trainB", 20)
    (tmp_path / "trainB" / "0000-other-name.png").symlink_to(a[7])
    with pytest.raises(DidaError, match="is in both domains") as caught:
        folders.from_folders(tmp_path)
    assert str(a[7].resolve()) in str(caught.value)


def test_the_same_file_in_both_domains_is_refused(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "a", 3), touch(tmp_path / "b", 3)
    held_out = Pair([], [])
    folders.check_apart(folders.Split(Pair(a, b), held_out))
    with pytest.raises(DidaError, match="is in both domains") as caught:
        folders.check_apart(folders.Split(Pair(a, [*b, a[1]]), held_out))
    assert str(a[1].resolve()) in str(caught.value)


def test_one_folder_for_both_domains_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "trainA", 20)
    (tmp_path / "trainB").symlink_to(tmp_path / "trainA", target_is_directory=True)
    with pytest.raises(DidaError, match="is in both domains"):
        folders.from_folders(tmp_path)


@pytest.mark.parametrize(
    ("trained", "held"),
    [("trainA", "testA"), ("trainB", "testB"), ("trainA", "testB"), ("trainB", "testA")],
)
def test_a_picture_both_trained_on_and_held_out_is_refused(
    tmp_path: Path, trained: str, held: str
) -> None:
    files = {name: touch(tmp_path / name, 3) for name in ("trainA", "trainB", "testA", "testB")}
    (tmp_path / held / "again.png").symlink_to(files[trained][1])
    with pytest.raises(DidaError, match="is both trained on and held out") as caught:
        folders.from_folders(tmp_path)
    assert str(files[trained][1].resolve()) in str(caught.value)


@pytest.mark.parametrize(("a", "b", "name", "count"), [(3, 9, "A", 3), (9, 3, "B", 3)])
def test_a_domain_smaller_than_the_batch_is_refused(a: int, b: int, name: str, count: int) -> None:
    files = [Path(f"{number}.png") for number in range(9)]
    with pytest.raises(DidaError) as caught:
        folders.check_enough(Pair(files[:a], files[:b]), 4)
    assert str(caught.value) == (
        f"domain {name} has {count} pictures, fewer than the batch of 4; "
        f"add pictures or use --batch {count}"
    )


def test_a_domain_as_large_as_the_batch_is_enough() -> None:
    files = [Path(f"{number}.png") for number in range(4)]
    folders.check_enough(Pair(files, files), 4)


# Loading


def test_pictures_are_loaded_in_order_as_the_model_sees_them(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    rows = folders.load(
        paint(tmp_path / "a", 9), CONFIG, lambda done, total: told.append((done, total))
    )
    assert rows.dtype == torch.uint8
    assert rows.shape == (9, 3, 32, 32)
    assert (rows == torch.arange(9).view(9, 1, 1, 1)).all()
    assert told == [(done, 9) for done in range(1, 10)]


@pytest.mark.parametrize("place", [0, 11, 19])
def test_an_unreadable_picture_is_skipped_with_a_warning(tmp_path: Path, place: int) -> None:
    files = paint(tmp_path / "a", 20)
    files[place].write_text("no picture")
    with pytest.warns(UserWarning, match="skipped") as caught:
        rows = folders.load(files, CONFIG)
    assert [str(files[place]) in str(one.message) for one in caught] == [True]
    assert rows[:, 0, 0, 0].tolist() == [level for level in range(20) if level != place]


def test_more_than_five_percent_unreadable_pictures_are_refused(tmp_path: Path) -> None:
    files = paint(tmp_path / "a", 39)
    files[4].write_text("no picture")
    files[30].unlink()
    with pytest.raises(DidaError, match="2 of 39 pictures cannot be read") as caught:
        folders.load(files, CONFIG)
    assert str(files[4]) in str(caught.value)


def test_just_five_percent_unreadable_pictures_are_skipped(tmp_path: Path) -> None:
    files = paint(tmp_path / "a", 40)
    files[4].write_text("no picture")
    files[30].unlink()
    with pytest.warns(UserWarning, match="skipped") as caught:
        rows = folders.load(files, CONFIG)
    assert len(caught) == 2
    assert len(rows) == 38


def test_of_many_unreadable_pictures_some_are_named_and_the_others_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "NAMED", 1)
    files = paint(tmp_path / "a", 60)
    for path in files[:3]:
        path.write_text("no picture")
    with pytest.warns(UserWarning, match="skipped") as caught:
        rows = folders.load(files, CONFIG)
    lines = [str(one.message) for one in caught]
    assert str(files[0]) in lines[0]
    assert lines[1:] == ["skipped 2 more pictures that cannot be read"]
    assert len(rows) == 57


def test_no_more_pictures_are_decoded_than_the_reader_keeps_up_with(tmp_path: Path) -> None:
    decoded: list[int] = []
    results = folders.in_threads(decoded.append, range(10 * folders.AHEAD))
    next(results)
    assert len(decoded) <= folders.AHEAD
    assert len(list(results)) == 10 * folders.AHEAD - 1
    assert sorted(decoded) == list(range(10 * folders.AHEAD))


# Archives


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_members_of_an_archive_are_loaded_like_files(tmp_path: Path, kind: int) -> None:
    archive = pack(tmp_path / "x.zip", {f"in/{level}.png": grey(level) for level in range(9)}, kind)
    rows = folders.load([Member(archive, f"in/{level}.png") for level in range(9)], CONFIG)
    assert (rows == torch.arange(9).view(9, 1, 1, 1)).all()
    assert tree(tmp_path) == ["x.zip"]


def test_an_archive_may_be_read_from_many_threads(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    members = {f"{number}.bin": random.bytes(20_000) for number in range(50)}
    archive = pack(tmp_path / "x.zip", members)
    names = list(members) * 20
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(archive.read, names)) == [members[name] for name in names]


def damage_crc(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"IDAT") + 20] ^= 0xFF
    path.write_bytes(raw)


def claim_encrypted(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + flags] |= 1
    path.write_bytes(raw)


def claim_unknown_compression(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    for signature, method in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        raw[raw.index(signature) + method] = 77
    path.write_bytes(raw)


def claim_gigabytes(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[(at := raw.index(b"PK\x01\x02") + 24) : at + 4] = (3_000_000_000).to_bytes(4, "little")
    path.write_bytes(raw)


@pytest.mark.parametrize(
    "damage", [damage_crc, claim_encrypted, claim_unknown_compression, claim_gigabytes]
)
def test_a_damaged_member_is_skipped_like_an_unreadable_file(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    members = {f"{level}.png": grey(level) for level in range(20)}
    pack(tmp_path / "x.zip", members, zipfile.ZIP_STORED)
    damage(tmp_path / "x.zip")
    archive = Archive(tmp_path / "x.zip")
    with pytest.warns(UserWarning, match=r"skipped .*x\.zip/0\.png") as caught:
        rows = folders.load([Member(archive, name) for name in members], CONFIG)
    assert len(caught) == 1
    assert rows[:, 0, 0, 0].tolist() == list(range(1, 20))


def test_a_member_that_is_not_there_is_named(tmp_path: Path) -> None:
    archive = pack(tmp_path / "x.zip", {"0.png": grey(0)})
    with pytest.raises(DidaError, match="no such file in the archive") as caught:
        folders.load([Member(archive, "in/1.png")], CONFIG)
    assert f"{tmp_path / 'x.zip'}/in/1.png" in str(caught.value)


def test_archives_stand_in_for_folders_of_their_names(tmp_path: Path) -> None:
    pack(
        tmp_path / "trainA.zip",
        {
            "b.png": grey(1),
            "in/a.PNG": grey(2),
            "in/.hidden.png": b"",
            "__MACOSX/._b.png": b"",
            "notes.txt": b"",
        },
    )
    paint(tmp_path / "trainB", 3)
    pack(tmp_path / "testA.zip", {"a.png": grey(7)})
    paint(tmp_path / "testB", 1)
    split = folders.from_folders(tmp_path)
    assert [str(file) for file in split.train.a] == [
        f"{tmp_path}/trainA.zip/b.png",
        f"{tmp_path}/trainA.zip/in/a.PNG",
    ]
    assert [file.name for file in split.held_out.a] == ["a.png"]
    assert sources.record(tmp_path, None, None, [], []) == {"root": str(tmp_path.resolve())}


def test_an_archive_without_pictures_is_refused_by_name(tmp_path: Path) -> None:
    pack(tmp_path / "trainA.zip", {"notes.txt": b""})
    paint(tmp_path / "trainB", 3)
    with pytest.raises(DidaError, match="holds no pictures") as caught:
        folders.from_folders(tmp_path)
    assert str(tmp_path / "trainA.zip") in str(caught.value)


def test_one_member_in_both_domains_is_refused(tmp_path: Path) -> None:
    archive = pack(tmp_path / "x.zip", {"0.png": grey(0)})
    again = Archive(tmp_path / "x.zip")
    pair = Pair([Member(archive, "0.png")], [Member(again, "0.png")])
    with pytest.raises(DidaError, match=r"x\.zip/0\.png: is in both domains"):
        folders.check_apart(folders.Split(pair, Pair([], [])))


# Batches


def rows_of(count: int) -> Tensor:
    """Pictures each of one grey: its number."""
    return torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1).expand(count, 3, 2, 2)


def ramps(count: int) -> Tensor:
    """Pictures dark on the left and light on the right: a flip shows."""
    return torch.tensor([0, 255], dtype=torch.uint8).expand(count, 3, 2, 2)


def batches(
    a: int = 12, b: int = 8, *, batch: int = 4, seed: int = 0, flip: bool = False
) -> Batches:
    return Batches(rows_of(a), rows_of(b), batch=batch, seed=seed, flip=flip)


def numbers(pictures: Tensor) -> list[int]:
    """Which pictures of `rows_of` these are."""
    levels = ((pictures + 1) * 127.5).round()
    assert (levels == levels[:, :1, :1, :1]).all()
    return levels[:, 0, 0, 0].int().tolist()


def sequence(source: Batches, domain: int, steps: int) -> list[int]:
    return [number for step in range(steps) for number in numbers(source(step)[domain])]


def test_a_batch_is_float_between_minus_one_and_one() -> None:
    a, b = Batches(ramps(5), rows_of(4), batch=4, seed=0, flip=False)(0)
    assert a.dtype == b.dtype == torch.float32
    assert a.shape == b.shape == (4, 3, 2, 2)
    assert (a[..., 0] == -1).all()
    assert (a[..., 1] == 1).all()


def test_an_epoch_holds_every_picture_exactly_once() -> None:
    source = batches(12, 8)
    assert sorted(sequence(source, 0, 3)) == list(range(12))
    assert sorted(sequence(source, 1, 2)) == list(range(8))


def test_batches_cross_the_edge_of_an_epoch() -> None:
    order = sequence(batches(10, 7, batch=4), 0, 5)
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    other = sequence(batches(10, 7, batch=4), 1, 7)
    for epoch in range(4):
        assert sorted(other[7 * epoch : 7 * (epoch + 1)]) == list(range(7))


def test_a_batch_may_be_larger_than_an_epoch() -> None:
    first = numbers(batches(3, 3, batch=8)(0)[0])
    assert sorted(first[:3]) == sorted(first[3:6]) == [0, 1, 2]
    assert len(first) == 8


def test_every_epoch_and_domain_and_seed_has_an_order_of_its_own() -> None:
    source = batches(40, 40)
    orders = [
        sequence(source, 0, 20)[:40],
        sequence(source, 0, 20)[40:],
        sequence(source, 1, 10),
        sequence(batches(40, 40, seed=1), 0, 10),
        list(range(40)),
    ]
    for one, other in itertools.combinations(orders, 2):
        assert one != other


@pytest.mark.parametrize("flip", [False, True])
def test_batches_are_a_pure_function_of_the_step(flip: bool) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (10, 3, 2, 2), dtype=np.uint8)
    a, b = torch.from_numpy(levels), torch.from_numpy(levels[:7])
    running = Batches(a, b, batch=4, seed=5, flip=flip)
    seen = [running(step) for step in range(30)]
    for step in (29, 3, 17, 3):
        resumed = Batches(a, b, batch=4, seed=5, flip=flip)(step)
        for source in (resumed, running(step)):
            assert torch.equal(source[0], seen[step][0])
            assert torch.equal(source[1], seen[step][1])


def test_the_global_random_state_is_neither_read_nor_moved() -> None:
    source = batches(12, 8, flip=True)
    torch.manual_seed(1)
    first, after = source(0)[0], torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    assert torch.equal(source(0)[0], first)


def flipped(source: Batches, domain: int, steps: int) -> list[bool]:
    return [bool(picture[0, 0, 0] > 0) for step in range(steps) for picture in source(step)[domain]]


def test_about_half_of_the_pictures_are_flipped_left_to_right() -> None:
    source = Batches(ramps(16), ramps(16), batch=16, seed=0, flip=True)
    turns = [flipped(source, domain, 50) for domain in (0, 1)]
    for turn in turns:
        assert 0.44 < np.mean(turn) < 0.56
    assert turns[0] != turns[1]
    assert turns[0][:16] != turns[0][16:32]
    assert turns[0] != flipped(Batches(ramps(16), ramps(16), batch=16, seed=1, flip=True), 0, 50)


def test_a_flip_mirrors_and_changes_nothing_else() -> None:
    one = torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2)
    source = Batches(one, one, batch=1, seed=0, flip=True)
    straight = one.float() / 127.5 - 1
    found = {bool(torch.equal(source(step)[0], straight)) for step in range(20)}
    assert found == {True, False}
    for step in range(20):
        picture = source(step)[0]
        assert torch.equal(picture, straight) or torch.equal(picture.flip(-1), straight)
    assert torch.equal(one.flatten(), torch.arange(12))  # the pictures in memory stay as they are


def test_nothing_is_flipped_unless_asked() -> None:
    source = Batches(ramps(16), ramps(16), batch=16, seed=0, flip=False)
    assert not any(flipped(source, 0, 20) + flipped(source, 1, 20))


# Writing


def test_folders_are_written_as_copies(tmp_path: Path) -> None:
    a, b = paint(tmp_path / "a", 3), paint(tmp_path / "b", 2)
    told: list[tuple[int, int]] = []
    folders.write_folders(
        tmp_path / "new" / "out",
        {"trainA": a[:2], "trainB": b, "testA": a[2:], "testB": []},
        on_progress=lambda done, total: told.append((done, total)),
    )
    out = tmp_path / "new" / "out"
    assert tree(tmp_path / "new") == [
        "out",
        "out/testA",
        "out/testA/0002.png",
        "out/testB",
        "out/trainA",
        "out/trainA/0000.png",
        "out/trainA/0001.png",
        "out/trainB",
        "out/trainB/0000.png",
        "out/trainB/0001.png",
    ]
    assert (out / "testA" / "0002.png").read_bytes() == a[2].read_bytes()
    assert not any(path.is_symlink() for path in out.rglob("*"))
    assert told == [(done, 5) for done in range(1, 6)]


def test_folders_are_written_as_links_that_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tmp_path / "a", 2)
    monkeypatch.chdir(tmp_path)
    folders.write_folders(
        Path("out"), {"trainA": [Path("a/0000.png"), Path("a/0001.png")]}, link=True
    )
    for name in ("0000.png", "0001.png"):
        link = tmp_path / "out" / "trainA" / name
        assert link.is_symlink()
        assert link.resolve() == (tmp_path / "a" / name).resolve()


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    a = paint(tmp_path / "a", 1)
    (tmp_path / "out").mkdir()
    folders.write_folders(tmp_path / "out", {"trainA": a})
    assert tree(tmp_path / "out") == ["trainA", "trainA/0000.png"]


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    a = paint(tmp_path / "a", 1)
    touch(tmp_path / "out", 1)
    before = tree(tmp_path)
    with pytest.raises((DidaError, OSError)):
        folders.write_folders(tmp_path / "out", {"trainA": a})
    assert tree(tmp_path) == before


def test_a_failure_halfway_leaves_nothing(tmp_path: Path) -> None:
    a = paint(tmp_path / "a", 3)
    a[2].unlink()
    before = tree(tmp_path)
    with pytest.raises((DidaError, OSError)):
        folders.write_folders(tmp_path / "out", {"trainA": a})
    assert tree(tmp_path) == before


@pytest.mark.parametrize("link", [False, True])
def test_a_missing_picture_is_refused_by_name(tmp_path: Path, link: bool) -> None:
    a = paint(tmp_path / "a", 3)
    a[2].unlink()
    with pytest.raises(DidaError) as caught:
        folders.write_folders(tmp_path / "out", {"trainA": a}, link=link)
    assert str(a[2]) in str(caught.value)


@pytest.mark.parametrize("link", [False, True])
def test_two_pictures_of_one_name_are_refused_not_lost(tmp_path: Path, link: bool) -> None:
    one, other = paint(tmp_path / "a" / "1", 1), paint(tmp_path / "a" / "2", 1)
    with pytest.raises(DidaError, match=r"0000\.png"):
        folders.write_folders(tmp_path / "out", {"trainA": one + other}, link=link)
    assert not (tmp_path / "out").exists()


def test_members_are_copied_out_under_their_last_name(tmp_path: Path) -> None:
    archive = pack(tmp_path / "x.zip", {"in/0.png": grey(0), "../1.png": grey(1)})
    files = [Member(archive, "in/0.png"), Member(archive, "../1.png")]
    folders.write_folders(tmp_path / "out", {"trainA": files})
    assert tree(tmp_path) == ["out", "out/trainA", "out/trainA/0.png", "out/trainA/1.png", "x.zip"]
    assert (tmp_path / "out" / "trainA" / "1.png").read_bytes() == grey(1)


def test_a_link_into_an_archive_is_refused(tmp_path: Path) -> None:
    archive = pack(tmp_path / "x.zip", {"0.png": grey(0)})
    with pytest.raises(DidaError, match="drop --link"):
        folders.write_folders(tmp_path / "out", {"trainA": [Member(archive, "0.png")]}, link=True)
    assert tree(tmp_path) == ["x.zip"]


def test_the_pictures_of_a_step_can_be_named() -> None:
    source = Batches(ramps(5), ramps(7), batch=4, seed=2, flip=False)
    for step in range(4):  # beyond the first epoch of both
        for domain, pictures in enumerate(source(step)):
            rows = torch.from_numpy(source.rows(domain, step))
            assert torch.equal(images.to_unit(source.domains[domain][rows]), pictures)


def test_a_fingerprint_tells_pictures_apart_wherever_they_lie(tmp_path: Path) -> None:
    def write(folder: str, **files: str) -> list[Path]:
        (tmp_path / folder).mkdir()
        for name, text in files.items():
            (tmp_path / folder / name).write_text(text)
        return sorted((tmp_path / folder).iterdir())

    one, same = write("one", x="12", y="3"), write("same", x="12", y="3")
    longer, named, fewer = write("l", x="123", y="3"), write("n", x="12", z="3"), write("f", x="12")
    with zipfile.ZipFile(tmp_path / "zipped.zip", "w") as archive:
        archive.writestr("in/x", "12")
        archive.writestr("in/y", "3")
    zipped = [folders.Member(folders.Archive(tmp_path / "zipped.zip"), n) for n in ("in/x", "in/y")]

    def changes(files: Sequence[folders.File]) -> list[str]:
        now = sources.fingerprint(folders.Pair(files, one))
        return sources.differences(sources.fingerprint(folders.Pair(one, one)), now)

    assert changes(same) == changes(zipped) == []
    assert changes(longer) == changes(named) == ["pictures of A: 2 files -> other names or sizes"]
    assert changes(fewer) == ["pictures of A: 2 files -> 1"]
    gone = [*one[:1], tmp_path / "gone"]
    assert changes(gone) == ["pictures of A: 2 files -> other names or sizes"]
