"""What a training would see: told in numbers, refused or warned of by the pictures' contents."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import drawn_celeba
import numpy as np
import pytest
from conftest import Result
from PIL import Image

from dida_cli.config import ModelConfig
from dida_cli.data import check, folders, sources
from dida_cli.data.folders import Pair, Verdict
from dida_cli.errors import DidaError

CONFIG = ModelConfig(side=32)
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
    train = sources.for_training(sources.record(root, None, None, [], [])).train
    a, b = (folders.read(files, CONFIG) for files in (train.a, train.b))
    return check.training(train, a, b)


def survey(root: Path, batch: int = 16) -> check.Survey:
    return check.survey(sources.parts(sources.record(root, None, None, [], [])), CONFIG, batch)


# By content


def test_nothing_is_said_of_pictures_that_are_well(root: Path) -> None:
    assert verdict(root) == survey(root).verdict == Verdict()


def test_one_picture_in_both_domains_is_refused_naming_both_files(root: Path) -> None:
    a, b = root / "trainA" / "05.png", root / "trainB" / "17.png"
    with Image.open(a) as picture:
        picture.save(b.with_suffix(".bmp"))  # another file, the same pixels
    b.unlink()
    refused, _ = verdict(root).refused, verdict(root).noted
    assert refused == (
        f"{a} and {b.with_suffix('.bmp')} are the same picture, in A and in B; "
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


def test_exact_copies_within_a_domain_are_warned_of(root: Path) -> None:
    for number in (3, 9):
        shutil.copy(root / "trainB" / "01.png", root / "trainB" / f"{number:02d}.png")
    assert verdict(root) == Verdict(
        noted=(
            f"2 of 21 pictures of B are exact copies, the first: {root / 'trainB' / '03.png'} "
            f"of {root / 'trainB' / '01.png'}",
        )
    )


def test_a_picture_of_one_colour_is_warned_of(root: Path) -> None:
    blank(root / "trainB" / "04.png", 7)
    blank(root / "trainA" / "04.png", 8)
    assert verdict(root).refused == ()
    assert verdict(root).noted == tuple(
        f"1 of {count} pictures of {name} are of one colour, the first: "
        f"{root / f'train{name}' / '04.png'}"
        for name, count in (("A", 22), ("B", 21))
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
    assert line.startswith("2 of 21 pictures of B are of one colour")


def test_many_unreadable_pictures_are_refused(root: Path) -> None:
    for number in (4, 5):
        (root / "trainB" / f"{number:02d}.png").write_text("no picture")
    (line,) = verdict(root).refused
    assert line.startswith("2 of 21 pictures cannot be read")


def test_a_verdict_refuses_or_warns() -> None:
    with pytest.raises(DidaError, match=r"^first$"):
        Verdict(("first", "second"), ("a warning",)).enforce()
    with pytest.warns(UserWarning) as caught:
        Verdict(noted=("one", "other")).enforce()
    assert [str(one.message) for one in caught] == ["one", "other"]


@pytest.mark.parametrize(("held", "trained"), [("testA", "trainA"), ("testB", "trainA")])
def test_a_test_picture_that_is_trained_on_is_told_of(root: Path, held: str, trained: str) -> None:
    shutil.copy(root / trained / "06.png", root / held / "01.png")
    found = survey(root).verdict
    count = PARTS[held]
    assert found == Verdict(
        noted=(
            f"1 of {count} pictures of test {held[-1]} are also in the training's {trained[-1]}, "
            f"the first: {root / held / '01.png'} is {root / trained / '06.png'}",
        )
    )
    assert verdict(root) == Verdict()  # a training looks at few of them


def test_an_unreadable_test_picture_is_told_of(root: Path) -> None:
    (root / "testB" / "01.png").write_text("no picture")
    (line,) = survey(root).verdict.noted
    assert line.startswith("1 of 4 pictures of test B cannot be read, the first: ")
    assert str(root / "testB" / "01.png") in line


def test_without_test_folders_what_is_held_out_is_looked_at(root: Path) -> None:
    for name in ("testA", "testB"):
        shutil.rmtree(root / name)
    found = survey(root)
    assert {name: (a.pictures, b.pictures) for name, (a, b) in found.parts.items()} == {
        "train": (22, 21),
        "held out": (2, 2),
    }


def test_a_domain_smaller_than_the_batch_is_refused(root: Path) -> None:
    assert survey(root, batch=21).verdict == Verdict()
    (line,) = survey(root, batch=22).verdict.refused
    assert "domain B has 21 pictures, fewer than the batch of 22" in line


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
    assert found.parts["train"][0] == check.Seen(
        pictures=22,
        unreadable=1,
        one_colour=1,
        copies=1,
        enlarged=2,
        width=(31, 40, 50),
        height=(20, 36, 90),
        modes={"RGB": 20, "L": 1},
    )
    assert {name: (a.pictures, b.pictures) for name, (a, b) in found.parts.items()} == {
        "train": (22, 21),
        "held out": (2, 2),
        "test": (3, 4),
    }
    assert found.imbalance == 22 / 21
    assert (found.bytes_in_memory, found.bytes_on_disk) == (43 * 3 * 32 * 32, 0)


def test_progress_counts_the_pictures_of_all_parts(root: Path) -> None:
    told: list[tuple[int, int]] = []
    parts = sources.parts(sources.record(root, None, None, [], []))
    check.survey(parts, CONFIG, 16, lambda done, total: told.append((done, total)))
    assert told == [(done, 54) for done in range(1, 55)]


def test_what_a_survey_decodes_a_training_finds(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "SMALL", 20_000)
    parts = sources.parts(sources.record(root, None, None, [], []))
    found = check.survey(parts, CONFIG, 16, cache=tmp_path / "kept")
    kept = sorted((tmp_path / "kept").iterdir())
    assert len(kept) == 2  # of the training; the tests are looked at and not kept
    assert (found.bytes_in_memory, found.bytes_on_disk) == (0, 43 * 3 * 32 * 32)
    train = sources.for_training(sources.record(root, None, None, [], [])).train
    for files in (train.a, train.b):
        folders.load(files, CONFIG, cache=tmp_path / "kept")
    assert sorted((tmp_path / "kept").iterdir()) == kept


def test_pictures_that_cannot_be_read_at_all_have_no_size(tmp_path: Path) -> None:
    files = [tmp_path / "absent.png"]
    parts = {"train": Pair(files, files)}
    seen = check.survey(parts, CONFIG, 1).parts["train"][0]
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
        "train A\t4 pictures\t178 x 218 pixels\t4 RGB",
        "train B\t4 pictures\t178 x 218 pixels\t4 RGB",
        *(
            f"{p} {d}\t1 pictures\t178 x 218 pixels\t1 RGB"
            for p in ("validation", "test")
            for d in "AB"
        ),
        "imbalance\t1.0 to 1",
        "memory\t0.1 MB of decoded pictures",
    ]
    with Image.open(sheet) as picture:
        assert picture.height == 2 * 128 + 3 * 6
        assert picture.width > 4 * 134


def test_the_command_chooses_as_a_training_does(
    dida: Callable[..., Result], tmp_path: Path
) -> None:
    root = drawn_celeba.write(tmp_path / "CelebA")
    choice = (
        "--a",
        "Eyeglasses",
        "--b",
        "not Eyeglasses",
        "--with",
        "Smiling",
        "--without",
        "Bald",
    )
    result = dida("data", "check", root, *choice, "--json", "--batch", 1)
    chosen = [i for i in range(16) if i % 2 == 0 and not drawn_celeba.has(i, "Bald")]
    train = json.loads(result.out)["parts"]["train"]
    assert train["A"]["pictures"] == len([i for i in chosen if i % 4 == 2])
    assert train["B"]["pictures"] == len([i for i in chosen if i % 4 == 0])


def test_the_command_leaves_with_1_and_a_line_when_a_training_would_be_refused(
    dida: Callable[..., Result], root: Path
) -> None:
    shutil.copy(root / "trainA" / "05.png", root / "trainB" / "17.png")
    shutil.copy(root / "trainA" / "05.png", root / "trainA" / "06.png")
    result = dida("data", "check", root, "--side", 32)
    warning, line = result.err.splitlines()
    assert result.code == 1
    assert line.startswith("dida: ") and "05.png and " in line and "in A and in B" in line
    assert warning.startswith("dida: warning: 1 of 22 pictures of A are exact copies")
    assert "train A\t22 pictures\t40 x 36 pixels\t22 RGB\t1 copies" in result.out.splitlines()
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
        "train A",
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
        ("", ("--side", "33"), 1, "side"),
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
    assert len(list((home / "pictures").iterdir())) == 2
    assert f"disk\t0.1 MB of decoded pictures, in {home / 'pictures'}" in result.out.splitlines()
