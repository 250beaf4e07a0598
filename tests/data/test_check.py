"""What a training would see: told in numbers, refused or warned of by the pictures' contents."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import drawn_celeba
import numpy as np
import pytest
from conftest import Result, without
from PIL import Image

from dida_cli.data import check, folders, sources
from dida_cli.data.folders import Sets, Split, Verdict
from dida_cli.errors import DidaError

SIDE = 32
ALL = ("with a", "without a", "with b", "without b")
PARTS = {"trainA": 24, "trainB": 23, "testA": 3, "testB": 4}  # the last 2 of 24 are held out


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIDA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "pictures"
    for seed, (name, count) in enumerate(PARTS.items()):
        for number in range(count):
            noise(root / name / f"{number:02d}.png", 100 * seed + number)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """trainA, trainB, testA and testB, all pictures different."""
    return Path(shutil.copytree(made, tmp_path / "pictures"))


def noise(path: Path, seed: int, size: tuple[int, int] = (40, 36)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(values).save(path)


def blank(path: Path, level: int) -> None:
    Image.new("RGB", (40, 36), (level, 0, 9)).save(path)


def verdict(root: Path) -> Verdict:
    """What a training on the folders would be told."""
    train = sources.split(root, sources.DOMAINS).train
    return check.training(train, folders.read(train.files, SIDE))


def survey(root: Path, batch: int = 16) -> check.Survey:
    return check.survey(sources.split(root, sources.DOMAINS), SIDE, "crop", batch)


def counts(found: check.Survey) -> dict[str, dict[str, int]]:
    """How many pictures there are in every set."""
    return {
        kind: {name: seen.pictures for name, seen in sets.items()}
        for kind, sets in found.sets.items()
    }


# By content


def test_nothing_is_said_of_pictures_that_are_well(root: Path) -> None:
    assert verdict(root) == survey(root).verdict == Verdict()


def test_one_picture_with_and_without_a_part_is_refused_naming_both_files(root: Path) -> None:
    a, b = root / "trainA" / "05.png", root / "trainB" / "17.png"
    with Image.open(a) as picture:
        picture.save(b.with_suffix(".bmp"))  # another file, the same pixels
    b.unlink()
    refused, _ = verdict(root).refused, verdict(root).noted
    assert refused == (
        f"{a} and {b.with_suffix('.bmp')} are the same picture, with a and without a; "
        "take it out of one of them",
    )
    shutil.copy(root / "trainA" / "07.png", root / "trainB" / "03.png")
    (line,) = verdict(root).refused
    assert str(a) in line and "(and 1 more such pairs)" in line


def test_files_are_named_rightly_after_unreadable_ones(root: Path) -> None:
    a, b = root / "trainA" / "05.png", root / "trainB" / "17.png"
    (root / "trainA" / "02.png").write_text("no picture")
    shutil.copy(a, b)
    found = verdict(root)
    assert str(a) in found.refused[0] and str(b) in found.refused[0]
    assert [line.startswith("skipped") for line in found.noted] == [True]


def test_exact_copies_within_a_set_are_warned_of(root: Path) -> None:
    for number in (3, 9):
        shutil.copy(root / "trainB" / "01.png", root / "trainB" / f"{number:02d}.png")
    assert verdict(root) == Verdict(
        noted=(
            f"2 of 21 pictures without a are exact copies, the first: {root / 'trainB' / '03.png'} "
            f"of {root / 'trainB' / '01.png'}",
        )
    )


def test_a_picture_of_one_colour_is_warned_of(root: Path) -> None:
    blank(root / "trainB" / "04.png", 7)
    blank(root / "trainA" / "04.png", 8)
    assert verdict(root).refused == ()
    assert verdict(root).noted == tuple(
        f"1 of {count} pictures {name} are of one colour, the first: {root / folder / '04.png'}"
        for name, folder, count in (("with a", "trainA", 22), ("without a", "trainB", 21))
    )


def test_a_picture_that_is_almost_of_one_colour_is_not(root: Path) -> None:
    blank(root / "trainB" / "04.png", 7)
    with Image.open(root / "trainB" / "04.png") as picture:
        picture.paste((0, 255, 0), (20, 20, 23, 23))
        picture.save(root / "trainB" / "04.png")
    assert verdict(root) == Verdict()


def test_many_pictures_of_one_colour_are_refused(root: Path) -> None:
    for number in (4, 5):
        blank(root / "trainB" / f"{number:02d}.png", number)
    (line,) = verdict(root).refused
    assert line.startswith("2 of 21 pictures without a are of one colour")


def test_many_unreadable_pictures_are_refused(root: Path) -> None:
    for number in (4, 5):
        (root / "trainB" / f"{number:02d}.png").write_text("no picture")
    (line,) = verdict(root).refused
    assert line.startswith("2 of 21 pictures without a cannot be read")


def test_each_set_is_looked_at_on_its_own(tmp_path: Path) -> None:
    """Two bad pictures are few of all, and few of a's, but many of those with b."""
    names = {
        "with a": range(30),
        "without a": range(30, 60),
        "with b": range(12),
        "without b": [50],
    }
    files = [tmp_path / f"{number:02d}.png" for number in range(60)]
    for number, path in enumerate(files):
        noise(path, number)
    a, b = ([np.array(rows) for rows in list(names.values())[i : i + 2]] for i in (0, 2))
    sets = Sets(files, {"a": tuple(a), "b": tuple(b)})
    assert check.training(sets, folders.read(files, SIDE)) == Verdict()
    files[3].write_text("no picture")
    (refused,) = check.training(sets, folders.read(files, SIDE)).refused
    assert refused.startswith("1 of 12 pictures with b cannot be read, the first: ")
    assert str(files[3]) in refused
    noise(files[3], 3)
    blank(files[50], 8)
    found = check.training(sets, folders.read(files, SIDE))
    assert found.refused == (
        f"1 of 1 pictures without b are of one colour, the first: {files[50]}; take them out",
    )
    assert found.noted == (f"1 of 30 pictures without a are of one colour, the first: {files[50]}",)


def test_a_picture_with_one_part_and_without_another_is_well(tmp_path: Path) -> None:
    """Only the same part makes two files of one picture a contradiction."""
    files = [tmp_path / f"{number}.png" for number in range(8)]
    for number, path in enumerate(files):
        noise(path, number % 4)
    both = np.array([0, 1]), np.array([2, 3])
    crossed = Sets(files, {"a": both, "b": (np.array([6, 7]), np.array([4, 5]))})
    assert check.training(crossed, folders.read(files, SIDE)) == Verdict()
    wrong = Sets(files, {"a": both, "b": (np.array([6, 1]), np.array([5, 4]))})
    assert check.training(wrong, folders.read(files, SIDE)).refused == (
        f"{files[1]} and {files[5]} are the same picture, with b and without b; "
        "take it out of one of them",
    )


def test_a_verdict_refuses_or_warns() -> None:
    with pytest.raises(DidaError, match=r"^first$"):
        Verdict(("first", "second"), ("a warning",)).enforce()
    with pytest.warns(UserWarning) as caught:
        Verdict(noted=("one", "other")).enforce()
    assert [str(one.message) for one in caught] == ["one", "other"]


@pytest.mark.parametrize(("held", "trained"), [("testA", "trainA"), ("testB", "trainA")])
def test_a_test_picture_that_is_trained_on_is_told_of(root: Path, held: str, trained: str) -> None:
    shutil.copy(root / trained / "06.png", root / held / "01.png")
    assert survey(root).verdict == Verdict(
        noted=(
            "1 of 7 pictures for test are also trained on, "
            f"the first: {root / held / '01.png'} is {root / trained / '06.png'}",
        )
    )
    assert verdict(root) == Verdict()  # a training looks at few of them


def test_an_unreadable_test_picture_is_told_of(root: Path) -> None:
    (root / "testB" / "01.png").write_text("no picture")
    (line,) = survey(root).verdict.noted
    assert line.startswith("1 of 7 pictures for test cannot be read, the first: ")
    assert str(root / "testB" / "01.png") in line


def test_without_test_folders_what_is_held_out_is_looked_at(root: Path) -> None:
    for name in ("testA", "testB"):
        shutil.rmtree(root / name)
    assert counts(survey(root)) == {
        "train": {"with a": 22, "without a": 21},
        "validation": {"with a": 2, "without a": 2},
    }


def test_a_set_smaller_than_the_batch_is_refused(root: Path) -> None:
    assert survey(root, batch=21).verdict == Verdict()
    (line,) = survey(root, batch=22).verdict.refused
    assert "there are 21 pictures without a, fewer than the batch of 22" in line


# Numbers


def test_a_survey_counts_what_there_is(root: Path) -> None:
    noise(root / "trainA" / "00.png", 500, (31, 90))
    noise(root / "trainA" / "01.png", 501, (50, 20))
    with Image.open(root / "trainA" / "02.png") as picture:
        picture.convert("L").save(root / "trainA" / "02.png")
    (root / "trainA" / "03.png").write_text("no picture")
    blank(root / "trainA" / "04.png", 7)
    shutil.copy(root / "trainA" / "10.png", root / "trainA" / "11.png")
    found = survey(root)
    assert found.sets["train"]["with a"] == check.Seen(
        pictures=22,
        unreadable=1,
        one_colour=1,
        copies=1,
        enlarged=2,
        width=(31, 40, 50),
        height=(20, 36, 90),
        modes={"RGB": 20, "L": 1},
    )
    assert counts(found) == {
        "train": {"with a": 22, "without a": 21},
        "validation": {"with a": 2, "without a": 2},
        "test": {"with a": 3, "without a": 4},
    }
    assert found.imbalance == 22 / 21
    assert (found.bytes_in_memory, found.bytes_on_disk) == (43 * 3 * 32 * 32, 0)


def test_sets_that_share_pictures_are_each_told_of(root: Path) -> None:
    parts: folders.Names = {"a": ("trainA", "trainB"), "b": ("testA", "testB")}
    for number in range(10, 20):
        (root / "testB" / f"{number}.png").symlink_to(root / "trainB" / f"{number}.png")
    found = check.survey(sources.split(root, parts), SIDE, "crop", 2)
    assert counts(found)["train"] == {"with a": 22, "without a": 20, "with b": 2, "without b": 13}
    assert found.imbalance == 11
    assert found.bytes_in_memory == (22 + 20 + 2 + 4) * 3 * SIDE**2  # each picture once


def test_progress_counts_all_pictures(root: Path) -> None:
    told: list[tuple[int, int]] = []
    split = sources.split(root, sources.DOMAINS)
    check.survey(split, SIDE, "crop", 16, lambda done, total: told.append((done, total)))
    assert told == [(done, 54) for done in range(1, 55)]


def test_what_a_survey_decodes_a_training_finds(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "SMALL", 20_000)
    split = sources.split(root, sources.DOMAINS)
    found = check.survey(split, SIDE, "crop", 16, cache=tmp_path / "kept")
    kept = sorted((tmp_path / "kept").iterdir())
    assert len(kept) == 1  # of the training; the tests are looked at and not kept
    assert (found.bytes_in_memory, found.bytes_on_disk) == (0, 43 * 3 * 32 * 32)
    again = sources.split(root, sources.DOMAINS).train
    folders.read(again.files, SIDE, cache=tmp_path / "kept")
    assert sorted((tmp_path / "kept").iterdir()) == kept


def test_pictures_that_cannot_be_read_at_all_have_no_size(tmp_path: Path) -> None:
    sets = Sets([tmp_path / "absent.png"], {"a": (np.array([0]), np.array([], int))})
    seen = check.survey(Split(sets, sets, sets), SIDE, "crop", 1).sets["train"]["with a"]
    assert (seen.pictures, seen.unreadable, seen.width, seen.modes) == (1, 1, (0, 0, 0), {})


# The command


def test_the_command_tells_of_celeba_in_its_archive(
    dida: Callable[..., Result], tmp_path: Path
) -> None:
    root = drawn_celeba.write(tmp_path / "CelebA", archive=True)
    sheet = tmp_path / "sheet.png"
    result = dida("data", "check", root, "--side", 64, "--batch", 4, "--sheet", sheet)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        *(f"train, {name}\t8 pictures\t178 x 218 pixels\t8 RGB" for name in ALL),
        *(
            f"{kind}, {name}\t2 pictures\t178 x 218 pixels\t2 RGB"
            for kind in ("validation", "test")
            for name in ALL
        ),
        "imbalance\t1.0 to 1",
        "memory\t0.2 MB of decoded pictures",
    ]
    with Image.open(sheet) as picture:
        assert picture.height == 4 * 128 + 5 * 6
        assert picture.width > 8 * 134


def test_a_check_loads_no_torch(root: Path) -> None:
    assert "train, with a" in without(["torch"], "data", "check", root, "--side", SIDE)


def test_the_command_chooses_as_a_training_does(
    dida: Callable[..., Result], tmp_path: Path
) -> None:
    root = drawn_celeba.write(tmp_path / "CelebA")
    choice = ("--a", "Eyeglasses or Bald", "--with", "Smiling", "--without", "Young")
    told = dida("data", "check", root, *choice, "--json", "--batch", 1)
    chosen = [i for i in range(16) if drawn_celeba.smiles(i) and not drawn_celeba.has(i, "Young")]
    having = [i for i in chosen if drawn_celeba.has_glasses(i) or drawn_celeba.has(i, "Bald")]
    train = json.loads(told.out)["sets"]["train"]
    assert {name: seen["pictures"] for name, seen in train.items()} == {
        "with a": len(having),
        "without a": len(chosen) - len(having),
    }
    both = dida("data", "check", root, *choice, "--b", "Male", "--json", "--batch", 1)
    train = json.loads(both.out)["sets"]["train"]
    assert {name: seen["pictures"] for name, seen in train.items()} == {
        "with a": len(having),
        "without a": len(chosen) - len(having),
        "with b": len([i for i in chosen if drawn_celeba.has(i, "Male")]),
        "without b": len([i for i in chosen if not drawn_celeba.has(i, "Male")]),
    }


def test_the_command_sorts_pictures_into_exclusive_folders(
    dida: Callable[..., Result], tmp_path: Path
) -> None:
    root, out = drawn_celeba.write(tmp_path / "CelebA", archive=True), tmp_path / "split"
    asked = ("--data", root, "--a", "Smiling or Bald", "--b", "Eyeglasses", "--without", "Young")
    result = dida("data", "split", *asked, "--out", out)
    assert (result.code, result.err) == (0, "")
    of = {
        i: (
            drawn_celeba.smiles(i) or drawn_celeba.has(i, "Bald"),
            drawn_celeba.has_glasses(i),
            drawn_celeba.part(i),
        )
        for i in range(drawn_celeba.COUNT)
        if not drawn_celeba.has(i, "Young")
    }
    for name, kind in {
        "trainA": (True, False, 0),
        "trainB": (False, True, 0),
        "testA": (True, False, 2),
        "testB": (False, True, 2),
    }.items():
        wanted = [drawn_celeba.name(i) for i, found in of.items() if found == kind]
        assert sorted(path.name for path in (out / name).iterdir()) == wanted
        assert f"{out / name}\t{len(wanted)}" in result.out.splitlines()
    again = dida("data", "split", *asked, "--out", out)
    assert (again.code, "is not empty" in again.err) == (1, True)
    empty = dida("data", "split", *asked, "--with", "Young", "--out", tmp_path / "other")
    assert empty.code == 1 and "no picture to learn from in" in empty.err
    assert not (tmp_path / "other").exists()


def test_the_command_leaves_with_1_and_a_line_when_a_training_would_be_refused(
    dida: Callable[..., Result], root: Path
) -> None:
    shutil.copy(root / "trainA" / "05.png", root / "trainB" / "17.png")
    shutil.copy(root / "trainA" / "05.png", root / "trainA" / "06.png")
    result = dida("data", "check", root, "--side", 32)
    warning, line = result.err.splitlines()
    assert result.code == 1
    assert line.startswith("dida: ") and "05.png and " in line and "with a and without a" in line
    assert warning.startswith("dida: warning: 1 of 22 pictures with a are exact copies")
    shown = "train, with a\t22 pictures\t40 x 36 pixels\t22 RGB\t1 copies"
    assert shown in result.out.splitlines()
    machine = dida("data", "check", root, "--side", 32, "--json")
    assert (machine.code, machine.err) == (1, f"{line}\n")
    told = json.loads(machine.out)
    assert told["ok"] is False and [f"dida: {told['refused'][0]}"] == [line]
    assert len(told["warnings"]) == 1


def test_the_command_tells_of_few_pictures_of_any_size(
    dida: Callable[..., Result], root: Path
) -> None:
    noise(root / "trainA" / "00.png", 500, (31, 90))
    (root / "trainA" / "03.png").write_text("no picture")
    result = dida("data", "check", root, "--side", 32)
    first = result.out.splitlines()[0].split("\t")
    assert first == [
        "train, with a",
        "22 pictures",
        "40 x 36 pixels (31 x 36 to 40 x 90)",
        "21 RGB",
        "1 smaller than 32 px",
        "1 unreadable",
    ]
    assert result.code == 0


@pytest.mark.parametrize(
    ("folder", "options", "code", "words"),
    [
        ("", ("--a", "Smiling"), 2, "list_attr_celeba.txt"),
        ("trainA", (), 1, "neither trainA and trainB"),
        ("", ("--side", "31"), 2, "--side"),
        ("nowhere", (), 1, "neither trainA and trainB"),
    ],
)
def test_what_cannot_be_checked_is_one_line(
    dida: Callable[..., Result],
    root: Path,
    folder: str,
    options: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    result = dida("data", "check", root / folder, *options)
    assert result.code == code
    assert words in result.err and result.err.count("\n") == 1 and result.out == ""


def test_the_command_keeps_many_pictures_below_dida_home(
    dida: Callable[..., Result], root: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "SMALL", 20_000)
    result = dida("data", "check", root, "--side", 32)
    assert len(list((home / "pictures").iterdir())) == 1
    assert f"disk\t0.1 MB of decoded pictures, in {home / 'pictures'}" in result.out.splitlines()
