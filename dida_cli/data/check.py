"""What a training would see, told before hours are spent on it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from dida_cli import images
from dida_cli.config import Fit
from dida_cli.data import folders
from dida_cli.data.cache import Pictures
from dida_cli.data.folders import File, Sets, Split, Verdict
from dida_cli.errors import DidaError

NO_PICTURE = (
    *images.DAMAGE,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    DidaError,
)

Header = tuple[int, int, str]  # width, height, mode


@dataclass(frozen=True, eq=False)
class Decoded:
    """A set of pictures, decoded, or all of one kind."""

    name: str  # with a, without a ...; for train, for validation, for test
    files: Sequence[File]  # of all sets of its kind
    rows: np.ndarray  # which of them are in this one: int (n,)
    pictures: Pictures  # of all

    @cached_property
    def places(self) -> np.ndarray:
        """Which of the pictures are in this set, in the order of the files: int (readable,)."""
        return np.flatnonzero(np.isin(self.pictures.facts["file"], self.rows))

    @cached_property
    def facts(self) -> np.ndarray:
        """What is known of each of them."""
        facts: np.ndarray = self.pictures.facts[self.places]
        return facts

    @cached_property
    def unreadable(self) -> list[str]:
        """A line for each file of the set that is no picture."""
        lacking = np.setdiff1d(np.arange(len(self.files)), self.pictures.facts["file"])
        lines = zip(np.isin(lacking, self.rows), self.pictures.unreadable, strict=True)
        return [line for is_here, line in lines if is_here]

    @cached_property
    def contents(self) -> dict[bytes, int]:
        """The digest of each different picture, with the first row of `facts` that is it."""
        digests, rows = np.unique(self.facts["digest"], return_index=True)
        return {digest.tobytes(): int(row) for digest, row in zip(digests, rows, strict=True)}

    def file(self, row: int) -> File:
        """The file of a row of `facts`."""
        return self.files[int(self.facts["file"][row])]

    def share(self, count: int) -> str:
        """So many of these pictures, in words."""
        return f"{count} of {len(self.rows)} pictures {self.name}"


@dataclass(frozen=True)
class Seen:
    """What a set of pictures holds: counts of pictures, and sizes of their files in pixels."""

    pictures: int
    unreadable: int
    one_colour: int
    copies: int  # of another picture of the set, pixel by pixel
    enlarged: int  # smaller than the model's side
    width: tuple[int, int, int]  # least, median, largest; of readable headers
    height: tuple[int, int, int]
    modes: dict[str, int]


@dataclass(frozen=True, eq=False)
class Survey:
    """What there is in every set, and what a training would say to it.

    Sets are called "with a", "without a", "with b", "without b". One that has the very pictures of
    a set before it (two folders, of which each lacks what the other has) is left out.
    """

    sets: dict[str, dict[str, Seen]]  # of train, validation and, where there are others, test
    train: dict[str, Decoded]
    verdict: Verdict
    bytes_in_memory: int  # that the training's decoded pictures take
    bytes_on_disk: int

    @property
    def imbalance(self) -> float:
        """How many times as many pictures the largest set has to learn from as the smallest."""
        counts = [len(one.rows) for one in self.train.values()]
        return max(counts) / max(1, min(counts))


def training(train: Sets, pictures: Pictures) -> Verdict:
    """What is wrong with the pictures of a training, by their contents.

    Refused: a picture both with and without a part, more than 5 % of a set unreadable or of one
    colour. Warned of: fewer of those, and exact copies within a set.
    """
    verdict = folders.skipped(pictures.unreadable)
    same = _same_sets(train)
    decoded = _decoded(train, pictures, same)
    for one in decoded.values():
        verdict += folders.too_many(one.unreadable, len(one.rows), f"pictures {one.name}")
        verdict += _of_one_colour(one) + _copies(one)
    pairs = [sorted((same[f"with {part}"], same[f"without {part}"])) for part in train.rows]
    for has, lacks in dict.fromkeys(map(tuple, pairs)):
        verdict += _on_both_sides(decoded[has], decoded[lacks])
    return verdict


def survey(
    split: Split,
    side: int,
    fit: Fit,
    batch: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    cache: Path | None = None,
) -> Survey:
    """Look at every picture, the training's first, as a model would see it.

    The training's pictures are kept as `folders.read` keeps them, the others are not. What refuses
    a training is told in the verdict.
    """
    total = sum(len(sets.files) for sets in split.kinds.values())
    done = 0

    def report(here: int, _: int) -> None:
        on_progress(done + here, total)

    pictures = {}
    for kind, sets in split.kinds.items():
        if kind == "train":
            pictures[kind] = folders.read(sets.files, side, fit, report, cache=cache)
        else:
            pictures[kind] = folders.look_through(sets.files, side, fit, report)
        done += len(sets.files)
    same = _same_sets(split.train)
    decoded = {k: _decoded(sets, pictures[k], same) for k, sets in split.kinds.items()}
    verdict = _enough(split.train, batch) + training(split.train, pictures["train"])
    train, *held_out = (
        Decoded(f"for {kind}", sets.files, np.arange(len(sets.files)), pictures[kind])
        for kind, sets in split.kinds.items()
    )
    for one in held_out:
        verdict += _also_trained_on(train, one) + _unreadable(one)
    size = len(split.train.files) * 3 * side**2
    on_disk = size if cache and size > folders.SMALL else 0
    return Survey(
        sets={kind: _seen(sets, decoded[kind], side) for kind, sets in split.kinds.items()},
        train=decoded["train"],
        verdict=verdict,
        bytes_in_memory=size - on_disk,
        bytes_on_disk=on_disk,
    )


def _same_sets(train: Sets) -> dict[str, str]:
    """Each set's name, and that of the first set of the same pictures."""
    first: dict[bytes, str] = {}
    named = folders.named(train.rows)
    return {name: first.setdefault(np.sort(rows).tobytes(), name) for name, rows in named.items()}


def _decoded(sets: Sets, pictures: Pictures, same: dict[str, str]) -> dict[str, Decoded]:
    """The sets by their names, those left out that are the same as another."""
    rows = folders.named(sets.rows)
    return {n: Decoded(n, sets.files, rows[n], pictures) for n in dict.fromkeys(same.values())}


def _seen(sets: Sets, decoded: dict[str, Decoded], side: int) -> dict[str, Seen]:
    headers = list(folders.in_threads(_header, sets.files))
    return {
        name: _counted(one, [headers[row] for row in one.rows], side)
        for name, one in decoded.items()
    }


def _counted(one: Decoded, headers: Sequence[Header | None], side: int) -> Seen:
    whole = [header for header in headers if header]
    sizes = np.array([header[:2] for header in whole], int).reshape(-1, 2)
    width, height = (_range(column) for column in sizes.T)
    return Seen(
        pictures=len(one.rows),
        unreadable=len(one.unreadable),
        one_colour=int(one.facts["blank"].sum()),
        copies=len(one.facts) - len(one.contents),
        enlarged=int((sizes.min(axis=1) < side).sum()),
        width=width,
        height=height,
        modes=dict(Counter(header[2] for header in whole).most_common()),
    )


def _range(values: np.ndarray) -> tuple[int, int, int]:
    if not len(values):
        return 0, 0, 0
    return int(values.min()), int(np.median(values)), int(values.max())


def _header(file: File) -> Header | None:
    """Width, height and mode as the file says; None for what is no picture."""
    try:
        with Image.open(folders.contents(file), formats=images.FORMATS) as picture:
            return *picture.size, picture.mode
    except NO_PICTURE:
        return None


def _enough(train: Sets, batch: int) -> Verdict:
    try:
        folders.check_enough(train, batch)
    except DidaError as error:
        return Verdict((str(error),))
    return Verdict()


def _of_one_colour(one: Decoded) -> Verdict:
    rows = np.flatnonzero(one.facts["blank"])
    if not len(rows):
        return Verdict()
    line = f"{one.share(len(rows))} are of one colour, the first: {one.file(rows[0])}"
    if len(rows) > folders.SKIPPED_SHARE * len(one.rows):
        return Verdict((f"{line}; take them out",))
    return Verdict(noted=(line,))


def _copies(one: Decoded) -> Verdict:
    again = np.setdiff1d(np.arange(len(one.facts)), list(one.contents.values()))
    if not len(again):
        return Verdict()
    original = one.contents[one.facts["digest"][again[0]].tobytes()]
    copy = f"{one.file(again[0])} of {one.file(original)}"
    return Verdict(noted=(f"{one.share(len(again))} are exact copies, the first: {copy}",))


def _on_both_sides(has: Decoded, lacks: Decoded) -> Verdict:
    same = _same(has, lacks)
    if not same:
        return Verdict()
    row, other = same[0]
    more = f" (and {len(same) - 1} more such pairs)" if len(same) > 1 else ""
    return Verdict(
        (
            f"{has.file(row)} and {lacks.file(other)} are the same picture, {has.name} and "
            f"{lacks.name}{more}; take it out of one of them",
        )
    )


def _also_trained_on(train: Decoded, held: Decoded) -> Verdict:
    same = _same(held, train)
    if not same:
        return Verdict()
    row, other = same[0]
    pair = f"{held.file(row)} is {train.file(other)}"
    return Verdict(noted=(f"{held.share(len(same))} are also trained on, the first: {pair}",))


def _unreadable(held: Decoded) -> Verdict:
    lines = held.unreadable
    if not lines:
        return Verdict()
    return Verdict(noted=(f"{held.share(len(lines))} cannot be read, the first: {lines[0]}",))


def _same(one: Decoded, other: Decoded) -> list[tuple[int, int]]:
    """The rows of the pictures that are in both, in the order of the first."""
    return sorted(
        (row, other.contents[digest])
        for digest, row in one.contents.items()
        if digest in other.contents
    )
