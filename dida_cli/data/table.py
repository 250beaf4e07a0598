"""Pictures chosen by tables of labels: CSV files beside them, in one folder or one zip archive.

The first column of each table names pictures, by their path there or by their name alone, as
Kaggle's CelebA has it. A column `partition` says what a picture is for, as numbers (0 training,
1 validation, 2 test) or in these words; else `split_by` names a column, of persons say, such that
all pictures of one value are for the same.
"""

import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dida_cli import images
from dida_cli.data.folders import TEST, TRAIN, VALIDATION, Archive, File, Found, Member, Names
from dida_cli.data.labels import Labels, joined, read_csv
from dida_cli.errors import DidaError

SUFFIX, ARCHIVE, PNG = ".csv", ".zip", ".png"
PARTITION = "partition"
KINDS = {"0": TRAIN, "1": VALIDATION, "2": TEST} | {
    "training": TRAIN,
    "train": TRAIN,
    "validation": VALIDATION,
    "test": TEST,
}
TENTHS = 10  # of the values of `split_by`; one is tested on, one is looked at, the rest learned
HELD_OUT = {0: TEST, 1: VALIDATION}


def is_table(root: Path) -> bool:
    """Whether pictures there are told by a table: a folder with a CSV file, or such an archive."""
    return bool(_tables(root))


def read(root: Path) -> Labels:
    """All tables of a folder or archive as one. Raises DidaError for one that cannot be read."""
    tables = [read_csv(file.read_bytes(), str(file)) for file in _tables(root)]
    of_pictures = [table for table in tables if _names_pictures(table)]
    if not of_pictures:
        raise DidaError(f"{root}: no table whose first column names pictures; put one there")
    return joined(of_pictures, str(root))


def found(root: Path, parts: Names, split_by: str = "", balance: str = "") -> Found:
    """The pictures whose labels make these expressions true, in the order of the table.

    `balance` names a column whose values are groups, of which a batch takes as many of each.
    """
    labels, known = read(root), _pictures(root)
    files = [_find(known, name.replace("\\", "/")) for name in labels.files]
    if missing := next((n for n, f in zip(labels.files, files, strict=True) if f is None), None):
        raise DidaError(f"{root}: {missing} is in its table, but no such picture is there")
    rows = labels.rows(parts)
    there = [file for file in files if file is not None]
    kinds, held_out = np.full(len(there), TRAIN), [VALIDATION, TEST]
    if split_by:
        kinds, held_out = _split_by(labels, split_by), []
    elif PARTITION in labels.columns:
        kinds, held_out = _partition(labels), []
    none = np.zeros(0, int)
    groups = np.unique(labels.column(balance), return_inverse=True)[1] if balance else none
    return Found(there, rows, kinds, held_out, groups)


def _find(known: Mapping[str, File], name: str) -> File | None:
    """A listed picture, by its path or its name; also where it was made a PNG since."""
    plain = os.path.basename(name)
    names = (name, plain, os.path.splitext(name)[0] + PNG, os.path.splitext(plain)[0] + PNG)
    return next((known[one] for one in names if one in known), None)


def _tables(root: Path) -> Sequence[File]:
    """The CSV files of a folder or an archive, by name."""
    if root.is_dir():
        return sorted(root.glob(f"*{SUFFIX}"))
    if not (root.suffix.lower() == ARCHIVE and root.is_file()):
        return []
    archive = Archive(root)
    return [Member(archive, n) for n in sorted(archive.members) if n.lower().endswith(SUFFIX)]


def _names_pictures(table: Labels) -> bool:
    return any(name.lower().endswith(images.SUFFIXES) for name in table.files[:1])


def _pictures(root: Path) -> dict[str, File]:
    """Every picture there by its path, and by its name where no other has the same."""
    files: dict[str, File] = {}
    if root.is_dir():
        for folder, _, names in os.walk(root):
            inside = Path(folder)
            for name in names:
                if name.lower().endswith(images.SUFFIXES):
                    files[(inside / name).relative_to(root).as_posix()] = inside / name
        archives = sorted(root.glob(f"*{ARCHIVE}"))
    else:
        archives = [root]
    for archive in archives:
        files |= {member.inside: member for member in Archive(archive).pictures()}
    named: dict[str, list[File]] = {}
    for path, file in files.items():
        named.setdefault(os.path.basename(path), []).append(file)
    return files | {n: same[0] for n, same in named.items() if len(same) == 1 and n not in files}


def _split_by(labels: Labels, name: str) -> np.ndarray:
    """What each picture is for: the same for all of one value, by a checksum of that; int (files,).

    A picture of which the value is not known is its own.
    """
    values = labels.column(name)
    of_file = [str(value) or file for value, file in zip(values, labels.files, strict=True)]
    return np.array([HELD_OUT.get(zlib.crc32(v.encode()) % TENTHS, TRAIN) for v in of_file])


def _partition(labels: Labels) -> np.ndarray:
    values = labels.columns[PARTITION].tolist()
    for file, value in zip(labels.files, values, strict=True):
        if str(value).lower() not in KINDS:
            raise DidaError(
                f"{labels.where_from}: partition of {file} is {value!r}; "
                "0 training, 1 validation, 2 test"
            )
    return np.array([KINDS[str(value).lower()] for value in values])
