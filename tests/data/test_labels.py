"""Tables of labels, and expressions over what they tell and what they leave open."""

import re

import numpy as np
import pytest

from dida_cli.data import labels
from dida_cli.data.labels import Labels
from dida_cli.errors import DidaError

TABLE = b"""file,glasses,mouth,yaw,note
a.jpg,1,2,0.1,good one
b.jpg,0,0,-0.3,
c.jpg,,1,0.5,x
d.jpg,yes,,,x
e.jpg,No,2,0,x
"""


def table(contents: bytes = TABLE) -> Labels:
    return labels.read_csv(contents, "t.csv")


def chosen(expression: str) -> str:
    read = table()
    return "".join(read.files[row][0] for row in np.flatnonzero(read.where(expression)))


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("glasses", "ad"),
        ("not glasses", "be"),  # of c nobody knows
        ("glasses or not glasses", "abde"),
        ("glasses or mouth=1", "acd"),
        ("not (glasses and mouth=2)", "bce"),  # c smiles not, whatever it wears
        ("mouth=2", "ae"),
        ("mouth=2.0", "ae"),
        ("not mouth=2", "bc"),
        ("yaw>0.05", "ac"),
        ("yaw<0.05", "be"),
        ("not yaw<0.05", "ac"),
        ("yaw>-0.5 and not yaw>0", "be"),
        ("note=x", "cde"),
        ("not note=x", "a"),
    ],
)
def test_what_is_not_known_is_neither_so_nor_otherwise(expression: str, wanted: str) -> None:
    assert chosen(expression) == wanted


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("smile", "no attribute 'smile' (in 'smile'); it has glasses, mouth, yaw, note"),
        ("smile=1", "no attribute 'smile'"),
        ("mouth", "mouth says more than yes and no: compare it, as mouth=2"),
        ("yaw<left", "'left' is no number"),
        ("glasses mouth=2", "'mouth=2' is out of place"),
    ],
)
def test_a_wrong_expression_is_told_with_what_there_is(expression: str, words: str) -> None:
    with pytest.raises(DidaError, match=re.escape(words)) as caught:
        chosen(expression)
    assert str(caught.value).startswith("t.csv: ")


def test_yes_or_no_cannot_be_compared() -> None:
    read = Labels("list", ["a"], {"Male": np.array([True])})
    with pytest.raises(DidaError, match="Male says yes or no"):
        read.where("Male=1")


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", "no table of labels"),
        (b"file\na.jpg\n", "no table of labels"),
        (b"file,smile,smile\n", "no table of labels"),
        (b"file,smile\na.jpg,1\nb.jpg,1,0\n", "line 3: has 3 values for 2 columns"),
        (b"file,smile\na.jpg,1\na.jpg,0\n", "line 3: a.jpg a second time"),
        (b"file,smile\n\xff.jpg,1\n", "not readable as CSV"),
        (b'file,smile\n"a.jpg,1\n', "not readable as CSV"),
    ],
)
def test_a_wrong_table_is_refused_by_name_and_line(contents: bytes, words: str) -> None:
    with pytest.raises(DidaError, match=words) as caught:
        table(contents)
    assert str(caught.value).startswith("t.csv")


def test_spaces_and_a_byte_order_mark_do_not_matter() -> None:
    read = table(b"\xef\xbb\xbffile, smile\r\na.jpg, 1\r\n\r\n")
    assert read.files == ["a.jpg"] and read.where("smile").all()


def test_tables_of_the_same_pictures_are_one() -> None:
    other = labels.read_csv(b"file,source,glasses\nc.jpg,web,1\nf.jpg,web,1\n", "u.csv")
    both = labels.joined([table(), other], "here")
    assert both.files == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg"]
    assert both.where("glasses").tolist() == [True, False, True, True, False, True]
    assert both.where("source=web").tolist() == [False, False, True, False, False, True]
    assert both.where("note=x").tolist() == [False, False, True, True, True, False]


def test_tables_that_contradict_each_other_are_refused() -> None:
    other = labels.read_csv(b"file,glasses\nb.jpg,1\n", "u.csv")
    with pytest.raises(DidaError, match=r"u\.csv: glasses of b\.jpg is '1', in another table '0'"):
        labels.joined([table(), other], "here")
