"""Attribute lists in the text format of CelebA, and the exclusive domains they make."""

import io
from pathlib import Path

import drawn_celeba
import numpy as np
import pytest

from dida_cli import images
from dida_cli.config import ModelConfig
from dida_cli.data import celeba, folders, sources
from dida_cli.data.celeba import TEST, TRAIN, VALIDATION, Selection
from dida_cli.errors import DidaError

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


def numbers(paths: list[Path]) -> list[int]:
    return [int(path.stem) for path in paths]


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
    assert {name: values.tolist() for name, values in attributes.has.items()} == {
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
    assert attributes.has["Smiling"].tolist() == [True, False]
    assert attributes.has["Eyeglasses"].tolist() == [False, True]


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
        ("not not Smiling", "not Smiling"),
        ("Smiling Male", "Smiling Male"),
        ("", ""),
        ("Smiling or", ""),
    ],
)
def test_an_unknown_attribute_is_named_with_the_list_of_known_ones(
    tmp_path: Path, expression: str, unknown: str
) -> None:
    with pytest.raises(DidaError, match="it has Smiling, Eyeglasses, Male") as caught:
        chosen(tmp_path, expression)
    message = str(caught.value)
    assert str(tmp_path / "list_attr_celeba.txt") in message
    assert f"no attribute {unknown!r} (in {expression!r})" in message


# Domains


def test_domains_are_exclusive_and_in_list_order(tmp_path: Path) -> None:
    write_list(tmp_path, BITS * 3)
    write_partition(tmp_path, [0] * 24)
    train = celeba.from_attributes(tmp_path, Selection())[TRAIN]
    assert numbers(train.a) == [4, 5, 12, 13, 20, 21]
    assert numbers(train.b) == [2, 3, 10, 11, 18, 19]
    assert train.a[0] == tmp_path / "images" / "0004.jpg"


def test_further_conditions_hold_for_both_domains(tmp_path: Path) -> None:
    write_list(tmp_path, BITS)
    write_partition(tmp_path, [0] * 8)
    having = celeba.from_attributes(tmp_path, Selection(having=("Male",)))[TRAIN]
    assert (numbers(having.a), numbers(having.b)) == ([5], [3])
    lacking = celeba.from_attributes(tmp_path, Selection(lacking=("Male",)))[TRAIN]
    assert (numbers(lacking.a), numbers(lacking.b)) == ([4], [2])


def test_several_conditions_must_all_hold(tmp_path: Path) -> None:
    write_list(tmp_path, BITS)
    write_partition(tmp_path, [0] * 8)
    both = Selection(a="Smiling", b="not Smiling", having=("Male", "Eyeglasses"))
    train = celeba.from_attributes(tmp_path, both)[TRAIN]
    assert (numbers(train.a), numbers(train.b)) == ([7], [3])
    neither = Selection(a="Smiling", b="not Smiling", lacking=("Male", "Eyeglasses"))
    train = celeba.from_attributes(tmp_path, neither)[TRAIN]
    assert (numbers(train.a), numbers(train.b)) == ([4], [0])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["010", "110"], "no picture has Smiling and lacks Eyeglasses"),
        (["100", "110"], "no picture has Eyeglasses and lacks Smiling"),
    ],
)
def test_an_empty_domain_is_refused(tmp_path: Path, rows: list[str], words: str) -> None:
    write_list(tmp_path, rows)
    with pytest.raises(DidaError, match=words) as caught:
        celeba.from_attributes(tmp_path, Selection())
    assert str(tmp_path) in str(caught.value)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    write_list(tmp_path, BITS)
    (tmp_path / "images").rmdir()
    with pytest.raises(DidaError, match="no folder images or img_align_celeba") as caught:
        celeba.from_attributes(tmp_path, Selection())
    assert str(tmp_path) in str(caught.value)


def test_celebas_own_name_of_the_picture_folder_is_known(tmp_path: Path) -> None:
    write_list(tmp_path, BITS)
    (tmp_path / "images").rename(tmp_path / "img_align_celeba")
    pair = celeba.from_attributes(tmp_path, Selection())[VALIDATION]
    assert pair.a == [tmp_path / "img_align_celeba" / "0005.jpg"]


# Partitions


def test_the_partition_list_decides(tmp_path: Path) -> None:
    write_list(tmp_path, ["100", "010"] * 6)
    write_partition(tmp_path, [2, 2, 0, 1, 1, 0, 0, 0, 0, 2, 1, 1])
    parts = celeba.from_attributes(tmp_path, Selection())
    assert {part: (numbers(pair.a), numbers(pair.b)) for part, pair in parts.items()} == {
        TRAIN: ([2, 6, 8], [5, 7]),
        VALIDATION: ([4, 10], [3, 11]),
        TEST: ([0], [1, 9]),
    }


def test_without_a_partition_list_the_last_tenths_are_held_out(tmp_path: Path) -> None:
    write_list(tmp_path, ["100"] * 30 + ["010"] * 20)
    parts = celeba.from_attributes(tmp_path, Selection())
    assert {part: (numbers(pair.a), numbers(pair.b)) for part, pair in parts.items()} == {
        TRAIN: (list(range(24)), list(range(30, 46))),
        VALIDATION: ([27, 28, 29], [48, 49]),
        TEST: ([24, 25, 26], [46, 47]),
    }


def test_without_a_partition_list_at_most_64_are_held_out(tmp_path: Path) -> None:
    write_list(tmp_path, ["100"] * 1000 + ["010"] * 1000)
    parts = celeba.from_attributes(tmp_path, Selection())
    sizes = {part: (len(pair.a), len(pair.b)) for part, pair in parts.items()}
    assert sizes == {TRAIN: (872, 872), VALIDATION: (64, 64), TEST: (64, 64)}
    everything = [path for pair in parts.values() for path in pair.a + pair.b]
    assert len(everything) == len(set(everything)) == 2000


def test_training_learns_from_one_part_and_looks_at_the_validation_part(tmp_path: Path) -> None:
    write_list(tmp_path, ["100", "010"] * 3)
    write_partition(tmp_path, [0, 0, 1, 1, 2, 2])
    split = celeba.for_training(tmp_path, Selection())
    assert (numbers(split.train.a), numbers(split.train.b)) == ([0], [1])
    assert (numbers(split.held_out.a), numbers(split.held_out.b)) == ([2], [3])


def test_a_file_listed_twice_is_refused_when_it_would_be_in_both_domains(tmp_path: Path) -> None:
    path = tmp_path / "list_attr_celeba.txt"
    (tmp_path / "images").mkdir()
    path.write_text("2\nSmiling Eyeglasses\nsame.jpg 1 -1\nsame.jpg -1 1\n")
    (tmp_path / "list_eval_partition.txt").write_text("same.jpg 0\n")
    with pytest.raises(DidaError, match=r"same\.jpg: is in both domains"):
        celeba.for_training(tmp_path, Selection())


@pytest.mark.parametrize("part", [VALIDATION, TEST])
def test_a_file_listed_twice_is_refused_when_it_would_be_held_out_too(
    tmp_path: Path, part: int
) -> None:
    rows = [("same.jpg", "1 -1"), ("a.jpg", "1 -1"), ("./same.jpg", "1 -1"), ("b.jpg", "-1 1")]
    (tmp_path / "images").mkdir()
    (tmp_path / "list_attr_celeba.txt").write_text(
        "\n".join(["4", "Smiling Eyeglasses", *(f"{name} {signs}" for name, signs in rows)])
    )
    parts = {"same.jpg": 0, "a.jpg": 0, "./same.jpg": part, "b.jpg": 0}
    (tmp_path / "list_eval_partition.txt").write_text(
        "\n".join(f"{name} {number}" for name, number in parts.items())
    )
    with pytest.raises(DidaError, match=r"same\.jpg: is both trained on and held out"):
        celeba.from_attributes(tmp_path, Selection())


# CelebA as its authors ship it


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("official", [False, True])
def test_celeba_is_read_as_its_authors_ship_it(
    tmp_path: Path, official: bool, archive: bool, end: str
) -> None:
    root = drawn_celeba.write(tmp_path / "CelebA", official=official, archive=archive, end=end)
    before = contents(root)
    found = sources.record(root, None, None, [], [])
    train = sources.for_training(found).train
    assert [file.name for file in train.a] == [drawn_celeba.name(i) for i in range(0, 16, 4)]
    assert [file.name for file in train.b] == [drawn_celeba.name(i) for i in range(1, 16, 4)]
    config = ModelConfig(side=32)
    faces = [images.fit(images.read(io.BytesIO(drawn_celeba.jpeg(i))), config) for i in (0, 4)]
    rows = folders.load(train.a[:2], config)
    assert (rows.numpy() == [images.pixels(face) for face in faces]).all()
    assert contents(root) == before  # nothing was unpacked


def test_the_official_lists_hold_forty_attributes_and_three_parts(tmp_path: Path) -> None:
    root = drawn_celeba.write(tmp_path)
    attributes = celeba.read_attributes(root / "Anno" / "list_attr_celeba.txt")
    assert list(attributes.has) == drawn_celeba.NAMES
    for column, values in attributes.has.items():
        assert values.tolist() == [drawn_celeba.has(i, column) for i in range(24)], column
    parts = sources.parts(sources.record(root, None, None, [], []))
    assert {part: [len(p.a), len(p.b)] for part, p in parts.items()} == {
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
    train = celeba.for_training(root, Selection()).train
    assert len(folders.load(train.a, ModelConfig(side=32))) == 4


def test_a_folder_of_pictures_goes_before_an_archive(tmp_path: Path) -> None:
    root = drawn_celeba.write(tmp_path)
    (root / "Img" / "img_align_celeba.zip").write_bytes(b"never opened")
    train = celeba.for_training(root, Selection()).train
    assert train.a[0] == root / "Img" / "img_align_celeba" / "000001.jpg"


@pytest.mark.parametrize("content", [b"", b"half a download", None])
def test_an_archive_that_is_not_whole_is_refused_by_name(
    tmp_path: Path, content: bytes | None
) -> None:
    root = drawn_celeba.write(tmp_path, archive=True)
    path = root / "Img" / "img_align_celeba.zip"
    path.write_bytes(path.read_bytes()[:-500] if content is None else content)
    with pytest.raises(DidaError, match="no whole zip archive") as caught:
        celeba.for_training(root, Selection())
    assert str(path) in str(caught.value)


def test_a_listed_name_cannot_lead_out_of_an_archive(tmp_path: Path) -> None:
    root = drawn_celeba.write(tmp_path, official=False, archive=True)
    (tmp_path / "secret.jpg").write_bytes(drawn_celeba.jpeg(0))
    path = root / "list_attr_celeba.txt"
    for outside in ("../secret.jpg", str(tmp_path / "secret.jpg")):
        path.write_text(drawn_celeba.attribute_list().replace("000001.jpg", outside))
        (root / "list_eval_partition.txt").unlink(missing_ok=True)
        train = celeba.for_training(root, Selection()).train
        with pytest.raises(DidaError, match="no such file in the archive"):
            folders.load(train.a[:1], ModelConfig(side=32))
