"""Tables of labels, and expressions that say which pictures are meant.

    Smiling and not (Eyeglasses or Male)     columns that say yes or no
    mouth=2 and yaw<0.15                     columns of values

What a table leaves empty is unknown: neither `glasses` nor `not glasses` is true of such a picture
(Kleene, 1938). Tables are CelebA's lists (`celeba`) or CSV files, whose first column names files.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dida_cli.config import Part
from dida_cli.errors import DidaError

WORD = re.compile(r"[()]|[^\s()]+")  # of an expression
COMPARED = re.compile(r"([^=<>]+)([=<>])([^=<>]+)")
YES, NO = ("1", "true", "yes"), ("0", "-1", "false", "no")


class Truth(NamedTuple):
    """Of which files something is true and of which false; of the others it is unknown."""

    yes: np.ndarray  # bool (files,)
    no: np.ndarray

    def __invert__(self) -> "Truth":
        return Truth(self.no, self.yes)

    def __and__(self, other: "Truth") -> "Truth":
        return Truth(self.yes & other.yes, self.no | other.no)

    def __or__(self, other: "Truth") -> "Truth":
        return Truth(self.yes | other.yes, self.no & other.no)


@dataclass(frozen=True)
class Labels:
    """A table: names of files, and columns of what is known of each, bool or text (files,)."""

    where_from: str  # for messages
    files: list[str]
    columns: Mapping[str, np.ndarray]

    def where(self, expression: str) -> np.ndarray:
        """The files an expression is true of: names, `not`, `and`, `or` (binding in this order)
        and brackets.

        bool (files,). Raises DidaError naming what it does not know, or where it went wrong.
        """
        return self._truth(expression).yes

    def _truth(self, expression: str) -> Truth:
        words = WORD.findall(expression)[::-1]  # still to be read, the next one last
        try:
            found = self._any_of(words)
            if words:
                raise ValueError(f"{words[-1]!r} is out of place")
        except ValueError as error:
            known = ", ".join(self.columns)
            raise DidaError(
                f"{self.where_from}: {error} (in {expression!r}); it has {known}"
            ) from None
        except RecursionError:
            told = "brackets within brackets, too deep to be read"
            raise DidaError(f"{self.where_from}: {told}") from None
        return found

    def rows(
        self, parts: Mapping[Part, tuple[str, str]]
    ) -> dict[Part, tuple[np.ndarray, np.ndarray]]:
        """Of each part, which files have it and which lack it, by expressions: int (n,)."""
        return {
            part: (np.flatnonzero(self.where(has)), np.flatnonzero(self.where(lacks)))
            for part, (has, lacks) in parts.items()
        }

    def column(self, name: str) -> np.ndarray:
        """What is known of each file under this name; of an expression, itself or `not` itself.

        Raises DidaError when there is no such.
        """
        if name in self.columns:
            return self.columns[name]
        yes, no = self._truth(name)
        return np.where(yes, name, np.where(no, f"not {name}", ""))

    def _column(self, name: str) -> np.ndarray:
        if name not in self.columns:
            raise ValueError(f"no attribute {name!r}")
        return self.columns[name]

    def _any_of(self, words: list[str]) -> Truth:
        found = self._all_of(words)
        while _comes("or", words):
            found = found | self._all_of(words)
        return found

    def _all_of(self, words: list[str]) -> Truth:
        found = self._one_of(words)
        while _comes("and", words):
            found = found & self._one_of(words)
        return found

    def _one_of(self, words: list[str]) -> Truth:
        if _comes("not", words):
            return ~self._one_of(words)
        if _comes("(", words):
            found = self._any_of(words)
            if not _comes(")", words):
                raise ValueError("a ) is missing")
            return found
        if not words:
            raise ValueError("an attribute is missing at the end")
        word = words.pop()
        if word not in self.columns and (compared := COMPARED.fullmatch(word)):
            return self._compared(*compared.groups())
        return self._said(word)

    def _said(self, name: str) -> Truth:
        """A column that says yes or no."""
        column = self._column(name)
        if column.dtype == bool:
            return Truth(column, ~column)
        low = np.char.lower(column)
        yes, no = np.isin(low, YES), np.isin(low, NO)
        if others := sorted(set(column[~(yes | no) & (low != "")].tolist())):
            raise ValueError(f"{name} says more than yes and no: compare it, as {name}={others[0]}")
        return Truth(yes, no)

    def _compared(self, name: str, sign: str, value: str) -> Truth:
        column = self._column(name)
        if column.dtype == bool:
            raise ValueError(f"{name} says yes or no and cannot be compared")
        known, number = column != "", _number(value)
        if sign == "=" and number is None:
            return Truth(known & (column == value), known & (column != value))
        if number is None:
            raise ValueError(f"{value!r} is no number")
        numbers = np.array([np.nan if (n := _number(v)) is None else n for v in column.tolist()])
        if sign == "=":
            return Truth(known & (numbers == number), known & (numbers != number))
        known = ~np.isnan(numbers)
        smaller = numbers < number if sign == "<" else numbers > number
        return Truth(known & smaller, known & ~smaller)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _comes(word: str, words: list[str]) -> bool:
    """Whether this is the next word, which is then read."""
    if words[-1:] != [word]:
        return False
    words.pop()
    return True


def all_of(true: Sequence[str], false: Sequence[str] = ()) -> str:
    """The expression that all of these expressions are true, and those false."""
    if len(true) == 1 and not false:
        return true[0]
    return " and ".join([*map(_enclosed, true), *(f"not {_enclosed(one)}" for one in false)])


def _enclosed(expression: str) -> str:
    return expression if len(expression.split()) == 1 else f"({expression})"


def read_csv(contents: bytes, where_from: str) -> Labels:
    """A CSV file whose first column names files. Raises DidaError naming the line that is wrong."""
    try:
        rows = csv.reader(io.StringIO(contents.decode("utf-8-sig"), newline=""), strict=True)
        names = [name.strip() for name in next(rows, [])]
        if len(names) < 2 or len(set(names)) < len(names) or "" in names:
            raise DidaError(
                f"{where_from}: no table of labels: its first line must name columns, "
                "the first of which holds the files' names"
            )
        table: dict[str, list[str]] = {}
        for row in rows:
            line = f"{where_from}, line {rows.line_num}"
            if not row:
                continue
            if len(row) != len(names):
                raise DidaError(f"{line}: has {len(row)} values for {len(names)} columns")
            if row[0] in table:
                raise DidaError(f"{line}: {row[0]} a second time")
            table[row[0]] = [value.strip() for value in row[1:]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DidaError(f"{where_from}: not readable as CSV ({error})") from None
    columns = np.array(list(table.values()), dtype=str).reshape(len(table), len(names) - 1).T
    return Labels(where_from, list(table), dict(zip(names[1:], columns, strict=True)))


def joined(tables: Sequence[Labels], where_from: str) -> Labels:
    """Tables of the same files as one; what a table does not tell of a file is unknown.

    Raises DidaError when two tell a column of one name differently.
    """
    files = list(dict.fromkeys(file for table in tables for file in table.files))
    columns: dict[str, np.ndarray] = {}
    for table in tables:
        places = {file: row for row, file in enumerate(table.files)}
        rows = np.array([places.get(file, -1) for file in files])
        for name, values in table.columns.items():
            told = np.where(rows < 0, "", values[rows])
            before = columns.setdefault(name, told)
            if (differ := (before != told) & (before != "") & (told != "")).any():
                file = files[int(differ.argmax())]
                raise DidaError(
                    f"{table.where_from}: {name} of {file} is {str(told[differ][0])!r}, "
                    f"in another table {str(before[differ][0])!r}; keep one of them"
                )
            columns[name] = np.where(before == "", told, before)
    return Labels(where_from, files, columns)
