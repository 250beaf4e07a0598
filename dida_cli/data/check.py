"""What a training would see, told before hours are spent on it."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from dida_cli import images
from dida_cli.config import Fit
from dida_cli.data import folders
from dida_cli.data.cache import Pictures
from dida_cli.data.folders import File, Progress, Sets, Split, Verdict
from dida_cli.errors import DidaError


class Decoded:
    """A set of pictures, decoded, or all of one kind.

    Attributes:
        name: with a, without a ...; for train, for validation, for test.
        rows: which of the files that were asked for are in it: int (n,).
        pictures: of all these files, uint8 (N, 3, side, side).
        places: which of them are in it, in the order of the files: int (readable,).
        facts, files: of these, in the same order.
        unreadable: a line for each file of the set that is no picture.
        first: the digest of each different picture, with its first place among `files`.
    """

    def __init__(
        self, name: str, files: Sequence[File], rows: np.ndarray, pictures: Pictures
    ) -> None:
        read = pictures.facts["file"]
        self.name, self.rows, self.pictures = name, rows, pictures.rows
        self.places = np.flatnonzero(np.isin(read, rows))
        self.facts = pictures.facts[self.places]
        self.files = [files[row] for row in self.facts["file"]]
        others = np.setdiff1d(np.arange(len(files)), read)
        self.unreadable = list(compress(pictures.unreadable, np.isin(others, rows)))
        digests, firsts = np.unique(self.facts["digest"], return_index=True)
        self.first = {d.tobytes(): int(row) for d, row in zip(digests, firsts, strict=True)}

    def share(self, count: int) -> str:
        """So many of these pictures, in words."""
        return f"{count} of {len(self.rows)} pictures {self.name}"

    def shared_with(self, other: "Decoded") -> list[tuple[File, File]]:
        """The pictures that are in both, in this order, each as the file here and there."""
        both = sorted((row, other.first[d]) for d, row in self.first.items() if d in other.first)
        return [(self.files[here], other.files[there]) for here, there in both]


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
        verdict += _within(one)
    pairs = [sorted((same[f"with {part}"], same[f"without {part}"])) for part in train.rows]
    for has, lacks in dict.fromkeys(map(tuple, pairs)):
        if shared := decoded[has].shared_with(decoded[lacks]):
            files = " and ".join(map(str, shared[0]))
            more = f" (and {len(shared) - 1} more such pairs)" if len(shared) > 1 else ""
            line = f"{files} are the same picture, {has} and {lacks}{more}"
            verdict += Verdict((f"{line}; take it out of one of them",))
    return verdict


def survey(
    split: Split,
    side: int,
    fit: Fit,
    batch: int,
    on_progress: Progress = folders.unheard,
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

    kinds, pictures = split.kinds, {}
    for kind, sets in kinds.items():
        pictures[kind] = folders.read(
            sets.files, side, fit, report, cache=cache, keep=kind == "train"
        )
        done += len(sets.files)
    same = _same_sets(split.train)
    decoded = {kind: _decoded(sets, pictures[kind], same) for kind, sets in kinds.items()}
    verdict = folders.enough(split.train, batch) + training(split.train, pictures["train"])
    train, *held_out = (
        Decoded(f"for {kind}", sets.files, np.arange(len(sets.files)), pictures[kind])
        for kind, sets in kinds.items()
    )
    for one in held_out:
        verdict += _held_out(one, train)
    return Survey(
        {kind: _seen(sets, decoded[kind], side) for kind, sets in kinds.items()},
        decoded["train"],
        verdict,
        *folders.decoded_bytes(len(split.train.files), side, fit),
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
    seen = {}
    for name, one in decoded.items():
        whole = [header for header in (headers[row] for row in one.rows) if header]
        sizes = np.array([header[:2] for header in whole] or [(0, 0)])
        width, height = ((int(c.min()), int(np.median(c)), int(c.max())) for c in sizes.T)
        seen[name] = Seen(
            pictures=len(one.rows),
            unreadable=len(one.unreadable),
            one_colour=int(one.facts["blank"].sum()),
            copies=len(one.facts) - len(one.first),
            enlarged=sum(min(header[:2]) < side for header in whole),
            width=width,
            height=height,
            modes=dict(Counter(header[2] for header in whole).most_common()),
        )
    return seen


def _header(file: File) -> tuple[int, int, str] | None:
    """Width, height and mode as the file says; None for what is no picture."""
    with suppress(DidaError):  # of a damaged archive
        return images.header(folders.contents(file))
    return None


def _within(one: Decoded) -> Verdict:
    """What is wrong with a training's set by itself."""
    verdict = folders.too_many(one.unreadable, len(one.rows), f"pictures {one.name}")
    blank = list(compress(one.files, one.facts["blank"]))
    if blank:
        line = f"{one.share(len(blank))} are of one colour, the first: {blank[0]}"
        if len(blank) > folders.SKIPPED_SHARE * len(one.rows):
            verdict += Verdict((f"{line}; take them out",))
        else:
            verdict += Verdict(noted=(line,))
    again = np.setdiff1d(np.arange(len(one.facts)), list(one.first.values()))
    if len(again):
        original = one.first[one.facts["digest"][again[0]].tobytes()]
        copy = f"{one.files[again[0]]} of {one.files[original]}"
        line = f"{one.share(len(again))} are exact copies, the first: {copy}"
        verdict += Verdict(noted=(line,))
    return verdict


def _held_out(held: Decoded, train: Decoded) -> Verdict:
    """What is wrong with pictures that are held out, none of which refuses a training."""
    noted = []
    if shared := held.shared_with(train):
        first = " is ".join(map(str, shared[0]))
        noted.append(f"{held.share(len(shared))} are also trained on, the first: {first}")
    if lines := held.unreadable:
        noted.append(f"{held.share(len(lines))} cannot be read, the first: {lines[0]}")
    return Verdict(noted=tuple(noted))
