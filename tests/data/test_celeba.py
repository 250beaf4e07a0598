"""Attribute lists in the text format of CelebA, and the pictures they choose."""

import io
import zipfile
from pathlib import Path

import drawn_celeba
import numpy as np
import pytest

from dida_cli import images
from dida_cli.data import celeba, folders, sources
from dida_cli.data.folders import TEST, TRAIN, VALIDATION, Sets, Split
from dida_cli.data.labels import all_of
from dida_cli.errors import DidaError

SMILING, GLASSES = "Smiling and not Eyeglasses", "Eyeglasses and not Smiling"
EXCLUSIVE: folders.Names = {"a": (SMILING, GLASSES)}

# Every combination of three traits once, as bits: file abc.jpg has Smiling a, Eyeglasses b, Male c.
NAMES = ("Smiling", "Eyeglasses", "Male")
BITS = [f"{number:03b}" for number in range(8)]


def write_list(root: Path, rows: list[str], count: int | None = None) -> Path:
    """A data folder with an attribute list whose rows are written like `110`."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    lines = [str(len(rows) if count is None else count), " ".join(NAMES)]
    for number, row in enumerate(rows):
        signs = " ".join("1" if bit == "1" else "-1" for bit in row)
        lines.append(f"{number:04d}.jpg {signs}")
    path = root / "list_attr_celeba.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_partition(root: Path, parts: list[int]) -> None:
    lines = [f"{number:04d}.jpg {part}" for number, part in enumerate(parts)]
    (root / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")


def numbers(sets: Sets) -> tuple[list[int], list[int]]:
    """The pictures with part a, and those without it, by the numbers they are named by."""
    has, lacks = sets.having("a"), sets.lacking("a")
    return [int(file.stem) for file in has], [int(file.stem) for file in lacks]


def exclusive(root: Path) -> Split:
    return sources.split(root, EXCLUSIVE)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def chosen(root: Path, expression: str) -> list[str]:
    """The rows of BITS an expression is true of."""
    attributes = celeba.read_attributes(write_list(root, BITS))
    return [BITS[row] for row in np.flatnonzero(attributes.where(expression))]


# The text format


def test_an_attribute_list_is_read(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("2\nSmiling Eyeglasses\na.jpg 1 -1\nb.jpg -1 1\n")
    attributes = celeba.read_attributes(path)
    assert attributes.files == ["a.jpg", "b.jpg"]
    assert {name: values.tolist() for name, values in attributes.columns.items()} == {
        "Smiling": [True, False],
        "Eyeglasses": [False, True],
    }


def test_extra_spaces_empty_lines_and_windows_line_ends_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(
        b"\n  2 \r\nSmiling  Eyeglasses \r\na.jpg  1 -1\r\n\r\n   b.jpg\t-1   1   \r\n\r\n"
    )
    attributes = celeba.read_attributes(path)
    assert attributes.files == ["a.jpg", "b.jpg"]
    assert attributes.columns["Smiling"].tolist() == [True, False]
    assert attributes.columns["Eyeglasses"].tolist() == [False, True]


@pytest.mark.parametrize("count", [7, 9])
def test_a_wrong_count_is_refused(tmp_path: Path, count: int) -> None:
    path = write_list(tmp_path, BITS, count)
    with pytest.raises(DidaError, match=f"says {count} pictures but lists 8") as caught:
        celeba.read_attributes(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("row", ["b.jpg 1 0", "b.jpg 1 x", "b.jpg 1", "b.jpg 1 1 1", "b.jpg"])
def test_a_bad_row_is_refused_naming_its_line(tmp_path: Path, row: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"3\nSmiling Eyeglasses\na.jpg 1 -1\n\n{row}\nc.jpg 1 1\n")
    with pytest.raises(DidaError, match="line 5: expected a file name and 2 times 1 or -1") as e:
        celeba.read_attributes(path)
    assert str(path) in str(e.value)


@pytest.mark.parametrize("text", ["", "\n\n", "2\n", "Smiling Eyeglasses\na.jpg 1 -1\n"])
def test_a_text_that_is_no_attribute_list_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(DidaError, match="not a CelebA attribute list") as caught:
        celeba.read_attributes(path)
    assert str(path) in str(caught.value)


def test_a_list_that_is_missing_or_no_text_is_refused_by_name(tmp_path: Path) -> None:
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    for path in (tmp_path / "missing.txt", tmp_path, binary):
        with pytest.raises(DidaError, match="cannot be read") as caught:
            celeba.read_attributes(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("row", ["0001.jpg 3", "0001.jpg", "0001.jpg 0 1", "0001.jpg x"])
def test_a_bad_row_of_the_partition_list_is_refused_naming_its_line(
    tmp_path: Path, row: str
) -> None:
    path = tmp_path / "list_eval_partition.txt"
    path.write_text(f"0000.jpg 0\n{row}\n")
    with pytest.raises(DidaError, match=r"list_eval_partition\.txt, line 2"):
        celeba.read_partition(path, ["0000.jpg", "0001.jpg"])


def test_a_partition_list_must_list_every_file(tmp_path: Path) -> None:
    path = tmp_path / "list_eval_partition.txt"
    path.write_text("0000.jpg 0\n")
    with pytest.raises(DidaError, match=r"does not list 0001\.jpg"):
        celeba.read_partition(path, ["0000.jpg", "0001.jpg"])


def test_a_partition_list_may_be_in_another_order_and_list_more(tmp_path: Path) -> None:
    path = tmp_path / "list_eval_partition.txt"
    path.write_text("0002.jpg 1\n0001.jpg 2\n0000.jpg 0\n")
    assert celeba.read_partition(path, ["0000.jpg", "0001.jpg"]).tolist() == [0, 2]


# Expressions


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("Smiling", ["100", "101", "110", "111"]),
        ("not Smiling", ["000", "001", "010", "011"]),
        ("Smiling and Eyeglasses", ["110", "111"]),
        ("Smiling or Eyeglasses", ["010", "011", "100", "101", "110", "111"]),
        ("not Smiling and Eyeglasses", ["010", "011"]),
        ("not Smiling and not Eyeglasses and not Male", ["000"]),
        # `and` binds before `or`, on either side of it
        ("Smiling or Eyeglasses and Male", ["011", "100", "101", "110", "111"]),
        ("Eyeglasses and Male or Smiling", ["011", "100", "101", "110", "111"]),
        # `not` binds before both
        ("not Smiling or Eyeglasses", ["000", "001", "010", "011", "110", "111"]),
        ("  Smiling   and   not   Male ", ["100", "110"]),
        # brackets bind first, at any depth, with blanks or without
        ("(Smiling)", ["100", "101", "110", "111"]),
        ("(Smiling or Eyeglasses) and Male", ["011", "101", "111"]),
        ("Male and (Smiling or Eyeglasses)", ["011", "101", "111"]),
        ("not (Smiling or Eyeglasses)", ["000", "001"]),
        ("not(Smiling and Eyeglasses)and Male", ["001", "011", "101"]),
        ("not (Male and not (Smiling or not (Eyeglasses)))", BITS[:3] + BITS[4:]),
        ("((Smiling) and ((not Male)))", ["100", "110"]),
        ("not not Smiling", ["100", "101", "110", "111"]),
        ("not Smiling and not (not Male or Eyeglasses)", ["001"]),
    ],
)
def test_expressions(tmp_path: Path, expression: str, wanted: list[str]) -> None:
    assert chosen(tmp_path, expression) == wanted


@pytest.mark.parametrize(
    ("expression", "unknown"),
    [
        ("Beard", "Beard"),
        ("smiling", "smiling"),
        ("Smiling and not Hat", "Hat"),
        ("(Smiling or (Male and Hat))", "Hat"),
        ("Smiling and or", "or"),
        ("not", None),
        ("", None),
        ("Smiling or", None),
        ("(Smiling and", None),
    ],
)
def test_an_unknown_attribute_is_named_with_the_list_of_known_ones(
    tmp_path: Path, expression: str, unknown: str | None
) -> None:
    what = f"no attribute {unknown!r}" if unknown else "an attribute is missing at the end"
    assert refusal(tmp_path, expression) == what


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("Smiling Male", "'Male' is out of place"),
        ("Smiling not Male", "'not' is out of place"),
        ("Smiling)", "')' is out of place"),
        ("(Smiling) (Male)", "'(' is out of place"),
        ("()", "no attribute ')'"),
        ("(Smiling", "a ) is missing"),
        ("(Smiling Male)", "a ) is missing"),
    ],
)
def test_an_expression_that_goes_wrong_is_refused(
    tmp_path: Path, expression: str, what: str
) -> None:
    assert refusal(tmp_path, expression) == what


def refusal(root: Path, expression: str) -> str:
    """What is said of an expression, which every message quotes, with all the list has."""
    with pytest.raises(DidaError) as caught:
        chosen(root, expression)
    path = root / "list_attr_celeba.txt"
    beginning, end = f"{path}: ", f" (in {expression!r}); it has Smiling, Eyeglasses, Male"
    message = str(caught.value)
    assert message.startswith(beginning) and message.endswith(end)
    return message.removeprefix(beginning).removesuffix(end)


def test_brackets_without_end_are_refused_in_a_line(tmp_path: Path) -> None:
    for expression in ("(" * 100_000, "not " * 100_000 + "Male"):
        with pytest.raises(DidaError, match="too deep") as caught:
            chosen(tmp_path, expression)
        assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


@pytest.mark.parametrize("one", BITS)
@pytest.mark.parametrize(
    ("true", "false"),
    [
        (["Smiling or Male"], []),
        (["Smiling", "Male or Eyeglasses"], []),
        (["Smiling or Eyeglasses"], ["Male"]),
        (["Eyeglasses"], ["not Smiling and Male", "Male"]),
        ([], ["Smiling or Male"]),
    ],
)
def test_expressions_are_joined_as_they_are_meant(
    tmp_path: Path, true: list[str], false: list[str], one: str
) -> None:
    wanted = all(one in chosen(tmp_path, e) for e in true)
    wanted = wanted and not any(one in chosen(tmp_path, e) for e in false)
    assert (one in chosen(tmp_path, all_of(true, false))) == wanted


def test_joined_expressions_are_short() -> None:
    assert all_of(["Smiling or Male"]) == "Smiling or Male"
    assert all_of(["Smiling"], ["Eyeglasses"]) == SMILING


# Sets


def test_sets_are_in_list_order(tmp_path: Path) -> None:
    write_list(tmp_path, BITS * 3)
    write_partition(tmp_path, [0] * 24)
    train = exclusive(tmp_path).train
    assert numbers(train) == ([4, 5, 12, 13, 20, 21], [2, 3, 10, 11, 18, 19])
    assert train.having("a")[0] == tmp_path / "images" / "0004.jpg"


def test_each_part_has_its_own_pictures_with_and_without_it(tmp_path: Path) -> None:
    write_list(tmp_path, BITS)
    write_partition(tmp_path, [0] * 8)
    train = sources.split(
        tmp_path, {"a": ("Smiling", "not Smiling"), "b": ("Eyeglasses and Male", "not Eyeglasses")}
    ).train
    assert numbers(train) == ([4, 5, 6, 7], [0, 1, 2, 3])
    assert [int(file.stem) for file in train.having("b")] == [3, 7]
    assert [int(file.stem) for file in train.lacking("b")] == [0, 1, 4, 5]
    assert len(train.files) == 8  # each once, though it is in two sets


def test_pictures_of_no_set_are_left_out(tmp_path: Path) -> None:
    write_list(tmp_path, BITS)
    write_partition(tmp_path, [0] * 8)
    train = sources.split(tmp_path, {"a": ("Male and Smiling", "Male and not Smiling")}).train
    assert [int(file.stem) for file in train.files] == [1, 3, 5, 7]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["010"] * 3 + ["110"], f"no picture to learn from in '{SMILING}'"),
        (["100"] * 3 + ["110"], f"no picture to learn from in '{GLASSES}'"),
    ],
)
def test_an_empty_set_is_refused(tmp_path: Path, rows: list[str], words: str) -> None:
    write_list(tmp_path, rows)
    with pytest.raises(DidaError, match=words) as caught:
        exclusive(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_set_whose_pictures_are_all_held_out_is_refused(tmp_path: Path) -> None:
    write_list(tmp_path, ["100", "010"] * 2)
    write_partition(tmp_path, [0, 1, 0, 2])
    with pytest.raises(DidaError, match=f"no picture to learn from in '{GLASSES}'"):
        exclusive(tmp_path)


def test_a_picture_with_and_without_a_part_is_refused(tmp_path: Path) -> None:
    write_list(tmp_path, BITS)
    with pytest.raises(DidaError, match=r"0006\.jpg: is both with and without part b"):
        sources.split(tmp_path, EXCLUSIVE | {"b": ("Smiling", "Eyeglasses and not Male")})


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    write_list(tmp_path, BITS)
    (tmp_path / "images").rmdir()
    with pytest.raises(DidaError, match="no folder images or img_align_celeba") as caught:
        exclusive(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_celebas_own_name_of_the_picture_folder_is_known(tmp_path: Path) -> None:
    write_list(tmp_path, BITS * 2)
    (tmp_path / "images").rename(tmp_path / "img_align_celeba")
    validation = exclusive(tmp_path).validation
    assert validation.having("a") == [tmp_path / "img_align_celeba" / "0013.jpg"]


# Partitions


def test_the_partition_list_decides(tmp_path: Path) -> None:
    write_list(tmp_path, ["100", "010"] * 6)
    write_partition(tmp_path, [2, 2, 0, 1, 1, 0, 0, 0, 0, 2, 1, 1])
    split = exclusive(tmp_path)
    assert {kind: numbers(sets) for kind, sets in split.kinds.items()} == {
        "train": ([2, 6, 8], [5, 7]),
        "validation": ([4, 10], [3, 11]),
        "test": ([0], [1, 9]),
    }


def test_without_test_pictures_those_of_validation_are_judged_on(tmp_path: Path) -> None:
    write_list(tmp_path, ["100", "010"] * 2)
    write_partition(tmp_path, [0, 0, 1, 1])
    split = exclusive(tmp_path)
    assert numbers(split.test) == numbers(split.validation) == ([2], [3])
    assert list(split.kinds) == ["train", "validation"]


def test_without_a_partition_list_the_last_tenths_are_held_out(tmp_path: Path) -> None:
    write_list(tmp_path, ["100"] * 30 + ["010"] * 20)
    split = exclusive(tmp_path)
    assert {kind: numbers(sets) for kind, sets in split.kinds.items()} == {
        "train": (list(range(24)), list(range(30, 46))),
        "validation": ([27, 28, 29], [48, 49]),
        "test": ([24, 25, 26], [46, 47]),
    }


def test_without_a_partition_list_at_most_64_are_held_out(tmp_path: Path) -> None:
    write_list(tmp_path, ["100"] * 1000 + ["010"] * 1000)
    kinds = exclusive(tmp_path).kinds
    sizes = {kind: tuple(map(len, numbers(sets))) for kind, sets in kinds.items()}
    assert sizes == {"train": (872, 872), "validation": (64, 64), "test": (64, 64)}
    everything = [path for sets in kinds.values() for path in sets.files]
    assert len(everything) == len(set(everything)) == 2000


def test_without_a_partition_list_a_held_out_picture_is_so_of_all_sets(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    write_list(
        tmp_path, ["".join("01"[bit] for bit in random.integers(0, 2, 3)) for _ in range(300)]
    )
    parts: folders.Names = {"a": ("Smiling", "not Smiling"), "b": ("Male", "not Male")}
    kinds = sources.split(tmp_path, parts).kinds
    everything = [path for sets in kinds.values() for path in sets.files]
    assert len(everything) == len(set(everything)) == 300
    for kind, least in (("validation", 14), ("test", 1)):
        for of_side in folders.named(kinds[kind].rows).values():
            assert len(of_side) >= least
    assert sorted(kinds["validation"].files)[-1] == sorted(everything)[-1]


def test_a_file_listed_twice_is_refused_when_it_would_be_on_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "list_attr_celeba.txt"
    (tmp_path / "images").mkdir()
    path.write_text("2\nSmiling Eyeglasses\nsame.jpg 1 -1\nsame.jpg -1 1\n")
    (tmp_path / "list_eval_partition.txt").write_text("same.jpg 0\n")
    with pytest.raises(DidaError, match=r"same\.jpg: is both with and without part a"):
        exclusive(tmp_path)


@pytest.mark.parametrize("part", [VALIDATION, TEST])
def test_a_file_listed_twice_is_refused_when_it_would_be_held_out_too(
    tmp_path: Path, part: int
) -> None:
    rows = [("same.jpg", "1 -1"), ("a.jpg", "1 -1"), ("./same.jpg", "1 -1"), ("b.jpg", "-1 1")]
    (tmp_path / "images").mkdir()
    (tmp_path / "list_attr_celeba.txt").write_text(
        "\n".join(["4", "Smiling Eyeglasses", *(f"{name} {signs}" for name, signs in rows)])
    )
    parts = {"same.jpg": TRAIN, "a.jpg": TRAIN, "./same.jpg": part, "b.jpg": TRAIN}
    (tmp_path / "list_eval_partition.txt").write_text(
        "\n".join(f"{name} {number}" for name, number in parts.items())
    )
    with pytest.raises(DidaError, match=r"same\.jpg: is both trained on and held out"):
        exclusive(tmp_path)


# CelebA as its authors ship it


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("official", [False, True])
def test_celeba_is_read_as_its_authors_ship_it(
    tmp_path: Path, official: bool, archive: bool, end: str
) -> None:
    root = drawn_celeba.write(tmp_path / "CelebA", official=official, archive=archive, end=end)
    before = contents(root)
    train = exclusive(root).train
    smiles, glasses = train.having("a"), train.lacking("a")
    assert [file.name for file in smiles] == [drawn_celeba.name(i) for i in range(0, 16, 4)]
    assert [file.name for file in glasses] == [drawn_celeba.name(i) for i in range(1, 16, 4)]
    square = images.Square(32)
    faces = [images.fit(images.read(io.BytesIO(drawn_celeba.jpeg(i))), square) for i in (0, 4)]
    rows = folders.load(smiles[:2], 32)
    assert (rows.numpy() == [images.pixels(face) for face in faces]).all()
    assert contents(root) == before  # nothing was unpacked


def test_the_official_lists_hold_forty_attributes_and_three_parts(tmp_path: Path) -> None:
    root = drawn_celeba.write(tmp_path)
    attributes = celeba.read_attributes(root / "Anno" / "list_attr_celeba.txt")
    assert list(attributes.columns) == drawn_celeba.NAMES
    for column, values in attributes.columns.items():
        assert values.tolist() == [drawn_celeba.has(i, column) for i in range(24)], column
    kinds = exclusive(root).kinds
    assert {kind: [len(s.having("a")), len(s.lacking("a"))] for kind, s in kinds.items()} == {
        "train": [4, 4],
        "validation": [1, 1],
        "test": [1, 1],
    }


def test_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbf1\nSmiling\na.jpg 1\n")
    assert celeba.read_attributes(path).files == ["a.jpg"]


def test_an_archive_without_a_folder_in_it_is_read_too(tmp_path: Path) -> None:
    root = drawn_celeba.write(tmp_path, official=False, archive=True)
    flat = {drawn_celeba.name(i): drawn_celeba.jpeg(i) for i in range(24)}
    drawn_celeba.write_zip(root / "img_align_celeba.zip", flat)
    assert len(folders.load(exclusive(root).train.having("a"), 32)) == 4


def test_a_folder_of_pictures_goes_before_an_archive(tmp_path: Path) -> None:
    root = drawn_celeba.write(tmp_path)
    (root / "Img" / "img_align_celeba.zip").write_bytes(b"never opened")
    train = exclusive(root).train
    assert train.having("a")[0] == root / "Img" / "img_align_celeba" / "000001.jpg"


@pytest.mark.parametrize("content", [b"", b"half a download", None])
def test_an_archive_that_is_not_whole_is_refused_by_name(
    tmp_path: Path, content: bytes | None
) -> None:
    root = drawn_celeba.write(tmp_path, archive=True)
    path = root / "Img" / "img_align_celeba.zip"
    path.write_bytes(path.read_bytes()[:-500] if content is None else content)
    with pytest.raises(DidaError, match="no whole zip archive") as caught:
        exclusive(root)
    assert str(path) in str(caught.value)


def test_a_listed_name_cannot_lead_out_of_an_archive(tmp_path: Path) -> None:
    root = drawn_celeba.write(tmp_path, official=False, archive=True)
    (tmp_path / "secret.jpg").write_bytes(drawn_celeba.jpeg(0))
    path = root / "list_attr_celeba.txt"
    for outside in ("../secret.jpg", str(tmp_path / "secret.jpg")):
        path.write_text(drawn_celeba.attribute_list().replace("000001.jpg", outside))
        (root / "list_eval_partition.txt").unlink(missing_ok=True)
        train = exclusive(root).train
        with pytest.raises(DidaError, match="no such file in the archive"):
            folders.load(train.having("a")[:1], 32)


@pytest.mark.parametrize("case", ["png", "png folder", "doubled", "doubled png"])
def test_celeba_is_found_as_people_have_it(tmp_path: Path, case: str) -> None:
    write_list(tmp_path, 4 * BITS)
    name = {"png folder": "img_align_celeba_png"}.get(case, "img_align_celeba")
    (tmp_path / "images").rmdir()
    folder = tmp_path / name / name if "doubled" in case else tmp_path / name
    folder.mkdir(parents=True)
    suffix = ".png" if "png" in case else ".jpg"
    for number in range(4 * len(BITS)):
        drawn_celeba.face(number % 24).save(folder / f"{number:04d}{suffix}")
    train = exclusive(tmp_path).train
    assert all(
        file.is_file() and file.suffix == suffix for file in train.files if isinstance(file, Path)
    )
    assert len(folders.read(train.files, 32).rows) == len(train.files) > 0


def test_an_archive_may_have_backslashes(tmp_path: Path) -> None:
    write_list(tmp_path, 4 * BITS)
    (tmp_path / "images").rmdir()
    with zipfile.ZipFile(tmp_path / "img_align_celeba.zip", "w") as archive:
        for number in range(4 * len(BITS)):
            drawn_celeba.face(number % 24).save(contents := io.BytesIO(), "JPEG")
            archive.writestr(f"img_align_celeba\\{number:04d}.jpg", contents.getvalue())
    train = exclusive(tmp_path).train
    assert len(folders.read(train.files, 32).rows) == len(train.files) > 0
