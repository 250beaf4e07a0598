"""Which pictures of a folder are learned from, looked at meanwhile, and judged on."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dida_cli.data import avatars, celeba, folders, table
from dida_cli.data.folders import HELD_OUT, TEST, TRAIN, VALIDATION, Found, Names, Sets, Split
from dida_cli.errors import DidaError

# Two plain folders, each with a part of its own that the other lacks.
DOMAINS: Names = {"a": ("trainA", "trainB"), "b": ("trainB", "trainA")}

PORTRAITS = "portraits"  # as data: the archive that lies in the repository
SOURCE, LICENCE = "source", "licence"  # columns of a table whose pictures want credit
_ARCHIVE = Path(__file__).parents[2] / "data" / "portraits.zip"

Fingerprint = dict[str, Any]  # of each set, by its name: how many files, and the sha256 of them


def located(data: Path) -> Path:
    """Where pictures lie that are named so: `portraits` are the repository's, unless there is a
    folder of that name. Raises DidaError when they are not there."""
    if str(data) != PORTRAITS or data.exists():
        return data
    if not _ARCHIVE.is_file():
        raise DidaError(
            "portraits: come with dida's repository, not with the package; clone it and train "
            "there, or give pictures of your own with --data"
        )
    return _ARCHIVE


def split(root: Path, parts: Names, split_by: str = "", balance: str = "") -> Split:
    """The pictures of `root` with and without each part.

    `parts` are expressions over labels where it has an attribute list or tables, else names of
    folders or archives in it. Of tables, `split_by` is a column whose values, persons say, are not
    both learned from and held out; `balance` one of whose values a batch takes equal shares.
    Raises DidaError when there are no pictures to learn from in one of the sets, and for a file
    that is both with and without a part, or both trained on and held out.
    """
    split = _kept_apart(_found(root, parts, split_by, balance))
    for part, sides in split.train.rows.items():
        for place, (rows, words) in enumerate(zip(sides, parts[part], strict=True)):
            if not len(rows):
                others = (sets for kind, sets in split.kinds.items() if kind != "train")
                held = sum(len(sets.rows[part][place]) for sets in others)
                why = f" ({held} held out)" if held else ""
                tip = "add pictures" if held else f"choose others for part {part}"
                raise DidaError(f"{root}: no picture to learn from in {words!r}{why}; {tip}")
    return split


def groups(root: Path, parts: Names, split_by: str, by: str) -> list[str]:
    """What a table says of each picture that is judged on, in their order: `kind=made`.

    `by`: a column, or an expression, of which pictures are told it or `not` it.
    """
    labels = table.read(root)
    start = f"{by}=" if by in labels.columns else ""
    values = np.unique(labels.column(by)).tolist()  # in the order that `split` numbers them
    names = [f"{start}{v}" if v != "" else f"{by} unknown" for v in values]
    return [names[group] for group in split(root, parts, split_by, by).test.groups.tolist()]


def is_labelled(root: Path) -> bool:
    """Whether there is an attribute list or a table, by which pictures are chosen."""
    return _is_celeba(root) or (not _is_domains(root) and table.is_table(root))


def credited(root: Path, parts: Names, split_by: str) -> dict[str, int]:
    """How many pictures are learned from of which source and licence, where a table tells them."""
    if not is_labelled(root) or _is_celeba(root):
        return {}
    labels, told = table.read(root), []
    for name in (SOURCE, LICENCE):
        if name not in labels.columns:
            return {}
        values = np.unique(labels.column(name))
        told.append(values[split(root, parts, split_by, name).train.groups].tolist())
    return dict(Counter(map(": ".join, zip(*told, strict=True))).most_common())


def is_ours(root: Path) -> bool:
    """Whether pictures come from dida: drawn by it, or those of its repository."""
    return is_drawn(root) or root.resolve() == _ARCHIVE


def is_drawn(root: Path) -> bool:
    """Whether a folder's pictures are faces that dida has drawn."""
    return _is_celeba(root) and (root / avatars.FACTORS_LIST).is_file()


def _is_celeba(root: Path) -> bool:
    return celeba.list_in(root, celeba.ATTRIBUTE_LIST) is not None


def _is_domains(root: Path) -> bool:
    return any(folders.is_there(root / name) for name in DOMAINS["a"])


def _found(root: Path, parts: Names, split_by: str, balance: str) -> Found:
    is_celeba = _is_celeba(root)
    if not is_celeba and is_labelled(root):
        return table.found(root, parts, split_by, balance)
    if column := split_by or balance:
        raise DidaError(f"{root}: has no table with a column {column!r}; put one there (.csv)")
    if is_celeba:
        return celeba.found(root, parts)
    names = sorted({name for sides in parts.values() for name in sides})
    if any(folders.is_there(root / name) for name in names):
        return folders.found(root, parts)
    asked = " and ".join(name if name.isalnum() else repr(name) for name in names)
    raise DidaError(
        f"{root}: holds neither {asked} nor {celeba.ATTRIBUTE_LIST} nor a table of labels (.csv); "
        "give such a folder with --data"
    )


def _kept_apart(found: Found) -> Split:
    """What was found, each file once, as what it is for."""
    sets, kinds = _each_once(found)
    for part, (has, lacks) in sets.rows.items():
        if len(both := np.intersect1d(has, lacks)):
            raise DidaError(
                f"{sets.files[both[0]].resolve()}: is both with and without part {part}; "
                "a picture may be in one of the two only"
            )
    kinds = _hold_out(sets, kinds, found.held_out)
    train, validation, test = (sets.only(kinds == kind) for kind in (TRAIN, VALIDATION, TEST))
    return Split(train, validation, test if test.files else validation)


def _each_once(found: Found) -> tuple[Sets, np.ndarray]:
    """The files that are in any set, each once, by however many names; and their kinds."""
    places = np.full(len(found.files), -1)
    known: dict[Path, int] = {}
    first: list[int] = []  # row of each different file
    for row in np.unique(np.concatenate(list(folders.named(found.rows).values()))):
        path = folders.real(found.files[row])
        places[row] = place = known.setdefault(path, len(first))
        if place == len(first):
            first.append(row)
        elif (found.kinds[row] == TRAIN) != (found.kinds[first[place]] == TRAIN):
            raise DidaError(f"{path}: is both trained on and held out; take it out of one of them")
    files = [found.files[row] for row in first]
    groups = found.groups[first] if len(found.groups) else found.groups
    return Sets(files, folders.moved(found.rows, places), groups), found.kinds[first]


def _hold_out(sets: Sets, kinds: np.ndarray, held_out: Sequence[int]) -> np.ndarray:
    """The kinds, but each of `held_out` has the last 64 (a tenth at most) of every training set.

    The very last are of the first of them. Whoever is held out of one set is so of all.
    """
    after = kinds.copy()
    for turn in reversed(range(len(held_out))):  # what is set last stands
        for rows in folders.named(sets.rows).values():
            learned = rows[kinds[rows] == TRAIN]
            count = max(1, min(HELD_OUT, len(learned) // 10))
            end = max(0, len(learned) - turn * count)
            after[learned[max(0, end - count) : end]] = held_out[turn]
    return after


def fingerprint(train: Sets) -> Fingerprint:
    """What tells these pictures from others, wherever they lie: by names and sizes of files."""
    words = [json.dumps([file.name, folders.stat(file)[0]]).encode() for file in train.files]
    return {
        name: {
            "files": len(rows),
            "sha256": hashlib.sha256(b"".join(words[row] for row in rows)).hexdigest(),
        }
        for name, rows in folders.named(train.rows).items()
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each set whose fingerprint has changed."""
    lines = []
    nothing = {"files": 0}
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name, nothing), now.get(name, nothing)
        if old["files"] != new["files"]:
            lines.append(f"pictures {name}: {old['files']} files -> {new['files']}")
        elif old != new:
            lines.append(f"pictures {name}: {old['files']} files -> other names or sizes")
    return lines
