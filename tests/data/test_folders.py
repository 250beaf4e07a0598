"""Folders and archives of pictures, and batches that are a pure function of the step."""

import io
import itertools
import json
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dida_cli.config import PARTS, Part
from dida_cli.data import cache, folders, sources
from dida_cli.data.batches import Batches
from dida_cli.data.folders import Archive, Member, Sets, Split
from dida_cli.errors import DidaError

ONE_PART: folders.Names = {"a": ("trainA", "trainB")}


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


def two_folders(root: Path) -> Split:
    """trainA and trainB, each with a part of its own."""
    return sources.split(root, sources.DOMAINS)


def of_a(sets: Sets) -> tuple[list[folders.File], list[folders.File]]:
    """The files with part a, and those without it."""
    return sets.having("a"), sets.lacking("a")


def test_test_folders_are_held_out(tmp_path: Path) -> None:
    wanted = {name: touch(tmp_path / name, 3) for name in ("trainA", "trainB", "testA", "testB")}
    split = two_folders(tmp_path)
    assert of_a(split.train) == (wanted["trainA"][:2], wanted["trainB"][:2])
    assert of_a(split.validation) == (wanted["trainA"][2:], wanted["trainB"][2:])
    assert of_a(split.test) == (wanted["testA"], wanted["testB"])
    assert list(split.kinds) == ["train", "validation", "test"]


def test_each_of_two_folders_has_what_the_other_lacks(tmp_path: Path) -> None:
    for name in ("trainA", "trainB", "testA", "testB"):
        touch(tmp_path / name, 4)
    for sets in two_folders(tmp_path).kinds.values():
        assert sets.having("b") == sets.lacking("a") and sets.lacking("b") == sets.having("a")
        assert len(sets.files) == len(set(sets.files)) == len(sets.having("a") + sets.having("b"))
    assert list(sources.split(tmp_path, ONE_PART).train.rows) == ["a"]


def test_without_test_folders_the_last_tenth_is_held_out(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "trainA", 39), touch(tmp_path / "trainB", 5)
    split = two_folders(tmp_path)
    assert of_a(split.train) == (a[:36], b[:4])
    assert of_a(split.validation) == (a[36:], b[4:])
    assert split.test is split.validation
    assert list(split.kinds) == ["train", "validation"]


def test_without_test_folders_at_most_64_are_held_out(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "trainA", 700), touch(tmp_path / "trainB", 640)
    split = two_folders(tmp_path)
    assert of_a(split.validation) == (a[-64:], b[-64:])
    assert of_a(split.train) == (a[:-64], b[:-64])


def test_folders_may_have_any_names(tmp_path: Path) -> None:
    smiles, others = touch(tmp_path / "smiles", 5), touch(tmp_path / "other faces", 4)
    touch(tmp_path / "test", 3)  # of nothing that is asked for
    split = sources.split(tmp_path, {"a": ("smiles", "other faces")})
    assert of_a(split.train) == (smiles[:4], others[:3])
    assert of_a(split.test) == (smiles[4:], others[3:])


def test_a_picture_of_several_sets_is_one_file_and_held_out_of_all(tmp_path: Path) -> None:
    faces = touch(tmp_path / "faces", 40)
    chosen = {  # the last of `bare` is in the midst of `smiles`
        "smiles": faces[0::2],
        "sad": faces[1::2],
        "glasses": faces[20:],
        "bare": faces[:20],
    }
    for name, files in chosen.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file.name).symlink_to(file)
    split = sources.split(tmp_path, {"a": ("smiles", "sad"), "b": ("glasses", "bare")})
    held_out = [*faces[18:20], *faces[36:]]
    for sets, wanted in (
        (split.validation, held_out),
        (split.train, [file for file in faces if file not in held_out]),
    ):
        assert sorted(file.resolve() for file in sets.files) == wanted
        sides = [of_part for p in PARTS for of_part in (sets.having(p), sets.lacking(p))]
        for files, of_side in zip(chosen.values(), sides, strict=True):
            assert [file.resolve() for file in of_side] == [f for f in files if f in wanted]


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
        two_folders(tmp_path)
    assert str(tmp_path / missing) in str(caught.value)


def test_a_folder_with_none_of_what_is_asked_for_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", 2)
    with pytest.raises(DidaError, match="holds neither trainA and trainB nor list_attr") as caught:
        two_folders(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_set_that_is_held_out_whole_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "trainA", 5), touch(tmp_path / "trainB", 1)
    with pytest.raises(DidaError, match="no picture to learn from in 'trainB'") as caught:
        two_folders(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_picture_linked_into_both_domains_is_refused(tmp_path: Path) -> None:
    a, _ = touch(tmp_path / "trainA", 20), touch(tmp_path / "trainB", 20)
    (tmp_path / "trainB" / "0000-other-name.png").symlink_to(a[7])
    with pytest.raises(DidaError, match="is both with and without part a") as caught:
        two_folders(tmp_path)
    assert str(a[7].resolve()) in str(caught.value)


@pytest.mark.parametrize("part", PARTS)
def test_the_same_file_with_and_without_a_part_is_refused(tmp_path: Path, part: Part) -> None:
    parts: dict[Part, tuple[str, str]] = {"a": ("1", "2"), "b": ("3", "4")}
    for name in "1234":
        touch(tmp_path / name, 3)
    sources.split(tmp_path, parts)
    file = tmp_path / parts[part][0] / "0001.png"
    (tmp_path / parts[part][1] / "again.png").symlink_to(file)
    with pytest.raises(DidaError, match=f"is both with and without part {part}") as caught:
        sources.split(tmp_path, parts)
    assert str(file.resolve()) in str(caught.value)


def test_one_folder_for_both_domains_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "trainA", 20)
    (tmp_path / "trainB").symlink_to(tmp_path / "trainA", target_is_directory=True)
    for parts in (sources.DOMAINS, ONE_PART, {"a": ("trainA", "trainA")}):
        with pytest.raises(DidaError, match="is both with and without part a"):
            sources.split(tmp_path, parts)


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
        two_folders(tmp_path)
    assert str(files[trained][1].resolve()) in str(caught.value)


@pytest.mark.parametrize(("a", "b", "name", "count"), [(3, 9, "with a", 3), (9, 3, "without a", 3)])
def test_a_set_smaller_than_the_batch_is_refused(a: int, b: int, name: str, count: int) -> None:
    files = [Path(f"{number}.png") for number in range(18)]
    sets = Sets(files, {"a": (np.arange(a), 9 + np.arange(b))})
    assert folders.enough(sets, 4).refused == (
        f"there are {count} pictures {name}, fewer than the batch of 4; "
        f"add pictures or use --batch {count}",
    )


def test_a_set_as_large_as_the_batch_is_enough() -> None:
    files = [Path(f"{number}.png") for number in range(8)]
    sets = Sets(files, {"a": (np.arange(4), 4 + np.arange(4))})
    assert folders.enough(sets, 4) == folders.Verdict()


# Loading


def test_pictures_are_loaded_in_order_as_the_model_sees_them(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    rows = folders.read(
        paint(tmp_path / "a", 9), 32, "crop", lambda done, total: told.append((done, total))
    ).rows
    assert rows.dtype == np.uint8
    assert rows.shape == (9, 3, 32, 32)
    assert (rows == np.arange(9).reshape(9, 1, 1, 1)).all()
    assert told == [(done, 9) for done in range(1, 10)]


@pytest.mark.parametrize("place", [0, 11, 19])
def test_an_unreadable_picture_is_skipped_with_a_warning(tmp_path: Path, place: int) -> None:
    files = paint(tmp_path / "a", 20)
    files[place].write_text("no picture")
    with pytest.warns(UserWarning, match="skipped") as caught:
        rows = folders.load(files, 32)
    assert [str(files[place]) in str(one.message) for one in caught] == [True]
    assert rows[:, 0, 0, 0].tolist() == [level for level in range(20) if level != place]


def test_more_than_five_percent_unreadable_pictures_are_refused(tmp_path: Path) -> None:
    files = paint(tmp_path / "a", 39)
    files[4].write_text("no picture")
    files[30].unlink()
    with pytest.raises(DidaError, match="2 of 39 pictures cannot be read") as caught:
        folders.load(files, 32)
    assert str(files[4]) in str(caught.value)


def test_just_five_percent_unreadable_pictures_are_skipped(tmp_path: Path) -> None:
    files = paint(tmp_path / "a", 40)
    files[4].write_text("no picture")
    files[30].unlink()
    with pytest.warns(UserWarning, match="skipped") as caught:
        rows = folders.load(files, 32)
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
        rows = folders.load(files, 32)
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
    rows = folders.load([Member(archive, f"in/{level}.png") for level in range(9)], 32)
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
        rows = folders.load([Member(archive, name) for name in members], 32)
    assert len(caught) == 1
    assert rows[:, 0, 0, 0].tolist() == list(range(1, 20))


def test_a_member_that_is_not_there_is_named(tmp_path: Path) -> None:
    archive = pack(tmp_path / "x.zip", {"0.png": grey(0)})
    with pytest.raises(DidaError, match="no such file in the archive") as caught:
        folders.load([Member(archive, "in/1.png")], 32)
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
    split = two_folders(tmp_path)
    assert [str(file) for file in [*split.train.having("a"), *split.validation.having("a")]] == [
        f"{tmp_path}/trainA.zip/b.png",
        f"{tmp_path}/trainA.zip/in/a.PNG",
    ]
    assert [file.name for file in split.test.having("a")] == ["a.png"]


def test_an_archive_without_pictures_is_refused_by_name(tmp_path: Path) -> None:
    pack(tmp_path / "trainA.zip", {"notes.txt": b""})
    paint(tmp_path / "trainB", 3)
    with pytest.raises(DidaError, match="holds no pictures") as caught:
        two_folders(tmp_path)
    assert str(tmp_path / "trainA.zip") in str(caught.value)


def test_one_member_in_both_domains_is_refused(tmp_path: Path) -> None:
    pack(tmp_path / "trainA.zip", {"0.png": grey(0), "1.png": grey(1)})
    (tmp_path / "trainB.zip").symlink_to(tmp_path / "trainA.zip")
    with pytest.raises(DidaError, match=r"trainA\.zip/0\.png: is both with and without part a"):
        two_folders(tmp_path)


# Batches


def rows_of(count: int) -> Tensor:
    """Pictures each of one grey: its number."""
    return torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1).expand(count, 3, 2, 2)


def ramps(count: int) -> Tensor:
    """Pictures dark on the left and light on the right: a flip shows."""
    return torch.tensor([0, 255], dtype=torch.uint8).expand(count, 3, 2, 2)


def drawn(pictures: Tensor, rows: folders.Rows, **how: object) -> Batches:
    """Batches of pictures of which no file was unreadable."""
    facts = np.zeros(len(pictures), cache.FACTS)
    facts["file"] = np.arange(len(pictures))
    files = [Path(f"{number}.png") for number in range(len(pictures))]
    return Batches(Sets(files, rows), cache.Pictures(pictures.numpy(), facts, []), **how)


def made(a: Tensor, b: Tensor, **how: object) -> Batches:
    """Batches of one part: pictures with it, and without it."""
    rows = np.arange(len(a)), len(a) + np.arange(len(b))
    return drawn(torch.cat([a, b]), {"a": rows}, **how)


def batches(
    a: int = 12, b: int = 8, *, batch: int = 4, seed: int = 0, flip: bool = False
) -> Batches:
    return made(rows_of(a), rows_of(b), batch=batch, seed=seed, flip=flip)


def numbers(pictures: Tensor) -> list[int]:
    """Which pictures of `rows_of` these are."""
    levels = ((pictures + 1) * 127.5).round()
    assert (levels == levels[:, :1, :1, :1]).all()
    return levels[:, 0, 0, 0].int().tolist()


def sequence(source: Batches, side: int, steps: int, part: Part = "a") -> list[int]:
    return [number for step in range(steps) for number in numbers(source(step)[part][side])]


def test_a_batch_is_float_between_minus_one_and_one() -> None:
    sides = made(ramps(5), rows_of(4), batch=4, seed=0, flip=False)(0)["a"]
    assert sides.has.dtype == sides.lacks.dtype == torch.float32
    assert sides.has.shape == sides.lacks.shape == (4, 3, 2, 2)
    assert (sides.has[..., 0] == -1).all()
    assert (sides.has[..., 1] == 1).all()


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
    first = numbers(batches(3, 3, batch=8)(0)["a"].has)
    assert sorted(first[:3]) == sorted(first[3:6]) == [0, 1, 2]
    assert len(first) == 8


def test_every_epoch_and_set_and_seed_has_an_order_of_its_own() -> None:
    everything = np.arange(40)
    rows = dict.fromkeys(PARTS, (everything, everything))

    def of(seed: int) -> Batches:
        return drawn(rows_of(40), rows, batch=4, seed=seed, flip=False)

    orders = [sequence(of(seed), side, 10, p) for seed in (0, 1) for p in PARTS for side in (0, 1)]
    orders += [sequence(of(0), 0, 20)[40:], list(range(40))]
    for one, other in itertools.combinations(orders, 2):
        assert one != other


def test_a_set_is_of_the_pictures_its_rows_name() -> None:
    rows = {"a": (np.array([1, 5, 7]), np.array([0, 2])), "b": (np.array([2, 5]), np.array([7]))}
    source = drawn(rows_of(9), rows, batch=6, seed=0, flip=False)
    for step in range(3):
        found = source(step)
        assert list(found) == ["a", "b"]
        for part, sides in found.items():
            for pictures, wanted in zip(sides, rows[part], strict=True):
                assert set(numbers(pictures)) == set(wanted.tolist())


@pytest.mark.parametrize("flip", [False, True])
def test_batches_are_a_pure_function_of_the_step(flip: bool) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (10, 3, 2, 2), dtype=np.uint8)
    a, b = torch.from_numpy(levels), torch.from_numpy(levels[:7])
    running = made(a, b, batch=4, seed=5, flip=flip)
    seen = [running(step)["a"] for step in range(30)]
    for step in (29, 3, 17, 3):
        resumed = made(a, b, batch=4, seed=5, flip=flip)(step)["a"]
        for sides in (resumed, running(step)["a"]):
            assert torch.equal(sides.has, seen[step].has)
            assert torch.equal(sides.lacks, seen[step].lacks)


def test_the_global_random_state_is_neither_read_nor_moved() -> None:
    source = batches(12, 8, flip=True)
    torch.manual_seed(1)
    first, after = source(0)["a"].has, torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    assert torch.equal(source(0)["a"].has, first)


def flipped(source: Batches, side: int, steps: int) -> list[bool]:
    pictures = torch.cat([source(step)["a"][side] for step in range(steps)])
    return (pictures[:, 0, 0, 0] > 0).tolist()


def test_about_half_of_the_pictures_are_flipped_left_to_right() -> None:
    source = made(ramps(16), ramps(16), batch=16, seed=0, flip=True)
    turns = [flipped(source, side, 50) for side in (0, 1)]
    for turn in turns:
        assert 0.44 < np.mean(turn) < 0.56
    assert turns[0] != turns[1]
    assert turns[0][:16] != turns[0][16:32]
    assert turns[0] != flipped(made(ramps(16), ramps(16), batch=16, seed=1, flip=True), 0, 50)


def test_a_flip_mirrors_and_changes_nothing_else() -> None:
    one = torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2)
    everything = np.array([0])
    source = drawn(one, {"a": (everything, everything)}, batch=1, seed=0, flip=True)
    straight = one.float() / 127.5 - 1
    found = {bool(torch.equal(source(step)["a"].has, straight)) for step in range(20)}
    assert found == {True, False}
    for step in range(20):
        picture = source(step)["a"].has
        assert torch.equal(picture, straight) or torch.equal(picture.flip(-1), straight)
    assert torch.equal(one.flatten(), torch.arange(12))  # the pictures in memory stay as they are


def test_nothing_is_flipped_unless_asked() -> None:
    source = made(ramps(16), ramps(16), batch=16, seed=0, flip=False)
    assert not any(flipped(source, 0, 20) + flipped(source, 1, 20))


def test_the_pictures_of_a_step_can_be_named(tmp_path: Path) -> None:
    files = paint(tmp_path / "a", 12)
    rows = {"a": (np.arange(5), 5 + np.arange(7)), "b": (np.arange(2, 8), np.array([9, 11, 0]))}
    pictures = folders.read(files, 32)
    source = Batches(Sets(files, rows), pictures, batch=4, seed=2, flip=False)
    for step in range(4):  # beyond the first epoch of all
        shown = torch.cat([of_side for sides in source(step).values() for of_side in sides])
        assert source.files(step) == [str(files[number]) for number in numbers(shown)]


def test_unreadable_files_are_in_no_batch(tmp_path: Path) -> None:
    files = paint(tmp_path / "a", 12)
    for bad in (0, 4, 9):
        files[bad].write_text("no picture")
    sets = Sets(
        files, {"a": (np.arange(6), 6 + np.arange(6)), "b": (np.arange(4, 8), np.arange(4))}
    )
    source = Batches(sets, folders.read(files, 32), batch=6, seed=2, flip=False)
    for part, (has, lacks) in {
        "a": ([1, 2, 3, 5], [6, 7, 8, 10, 11]),
        "b": ([5, 6, 7], [1, 2, 3]),
    }.items():
        assert set(numbers(source(0)[part].has)) == set(has)
        assert set(numbers(source(0)[part].lacks)) == set(lacks)
    named = {Path(name) for name in source.files(0)}
    assert named == {files[row] for row in (1, 2, 3, 5, 6, 7, 8, 10, 11)}


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

    def sets(has: Sequence[folders.File], parts: Sequence[Part] = ("a",)) -> Sets:
        rows = np.arange(len(has)), len(has) + np.arange(len(one))
        return Sets([*has, *one], dict.fromkeys(parts, rows))

    before = sources.fingerprint(sets(one))
    assert json.loads(json.dumps(before)) == before

    def changes(files: Sequence[folders.File]) -> list[str]:
        return sources.differences(before, sources.fingerprint(sets(files)))

    assert changes(same) == changes(zipped) == []
    assert changes(longer) == changes(named) == ["pictures with a: 2 files -> other names or sizes"]
    assert changes(fewer) == ["pictures with a: 2 files -> 1"]
    gone = [*one[:1], tmp_path / "gone"]
    assert changes(gone) == ["pictures with a: 2 files -> other names or sizes"]
    swapped = Sets([*one, *longer], {"a": (np.array([0, 1]), np.array([2, 3]))})
    assert sources.differences(before, sources.fingerprint(swapped)) == [
        "pictures without a: 2 files -> other names or sizes"
    ]
    two = sources.fingerprint(sets(one, PARTS))
    assert sources.differences(before, two) == [
        "pictures with b: 0 files -> 2",
        "pictures without b: 0 files -> 2",
    ]
    assert sources.differences(two, before) == [
        "pictures with b: 2 files -> 0",
        "pictures without b: 2 files -> 0",
    ]
