"""What a training would see, told before hours are spent on it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dida_cli import images
from dida_cli.config import ModelConfig
from dida_cli.data import folders
from dida_cli.data.cache import Pictures
from dida_cli.data.folders import File, Pair, Verdict
from dida_cli.errors import DidaError

NO_PICTURE = (
    *images.DAMAGE,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    DidaError,
)


@dataclass(frozen=True)
class Domain:
    """One domain of one part of a set, decoded."""

    name: str  # A, or what tells it from the training's: test A
    files: Sequence[File]
    pictures: Pictures

    def file(self, row: int) -> File:
        return self.files[int(self.pictures.facts["file"][row])]

    def contents(self) -> dict[bytes, int]:
        """The digest of each different picture, with the first row that is it."""
        digests, rows = np.unique(self.pictures.facts["digest"], return_index=True)
        return {digest.tobytes(): int(row) for digest, row in zip(digests, rows, strict=True)}


@dataclass(frozen=True)
class Seen:
    """What one domain of one part holds: counts of pictures, and sizes of their files in pixels."""

    pictures: int
    unreadable: int
    one_colour: int
    copies: int  # of another picture of the domain, pixel by pixel
    enlarged: int  # smaller than the model's side
    width: tuple[int, int, int]  # least, median, largest; of readable headers
    height: tuple[int, int, int]
    modes: dict[str, int]


@dataclass(frozen=True)
class Survey:
    """What there is in every part, and what a training would say to it."""

    parts: dict[str, tuple[Seen, Seen]]  # by the part's name, (A, B); the training's first
    train: tuple[Domain, Domain]
    verdict: Verdict
    bytes_in_memory: int  # that the training's decoded pictures take
    bytes_on_disk: int

    @property
    def imbalance(self) -> float:
        """How many times as many pictures the larger domain has to learn from."""
        fewer, more = sorted(len(domain.files) for domain in self.train)
        return more / max(1, fewer)


def training(files: Pair, a: Pictures, b: Pictures) -> Verdict:
    """What is wrong with the pictures of a training, by their contents.

    Refused: a picture in both domains, more than 5 % unreadable or of one colour. Warned of: fewer
    of those, and exact copies within a domain.
    """
    return _domains(Domain("A", files.a, a), Domain("B", files.b, b))


def survey(
    parts: Mapping[str, Pair],
    config: ModelConfig,
    batch: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    cache: Path | None = None,
) -> Survey:
    """Look at every picture of every part, the training's first, as a model would see it.

    The training's pictures are kept as `folders.read` keeps them, those of the other parts are
    not. What refuses a training is told in the verdict.
    """
    total = sum(len(pair.a) + len(pair.b) for pair in parts.values())
    done = 0
    domains: list[Domain] = []
    for part, pair in parts.items():
        for name, files in (("A", pair.a), ("B", pair.b)):

            def report(here: int, _: int, before: int = done) -> None:
                on_progress(before + here, total)

            if part == next(iter(parts)):
                pictures = folders.read(files, config, report, cache=cache)
            else:
                pictures, name = folders.look_through(files, config, report), f"{part} {name}"
            domains.append(Domain(name, files, pictures))
            done += len(files)
    a, b, *others = domains
    verdict = _enough(next(iter(parts.values())), batch) + _domains(a, b)
    for other in others:
        verdict += _also_trained_on((a, b), other) + _unreadable(other)
    seen = [_seen(domain, config) for domain in domains]
    sizes = [len(domain.files) * 3 * config.side**2 for domain in (a, b)]
    on_disk = sum(size for size in sizes if cache and size > folders.SMALL)
    return Survey(
        parts=dict(zip(parts, zip(seen[::2], seen[1::2], strict=True), strict=True)),
        train=(a, b),
        verdict=verdict,
        bytes_in_memory=sum(sizes) - on_disk,
        bytes_on_disk=on_disk,
    )


def _seen(domain: Domain, config: ModelConfig) -> Seen:
    headers = [header for header in folders.in_threads(_header, domain.files) if header]
    sizes = np.array([header[:2] for header in headers], int).reshape(-1, 2)
    width, height = (_range(column) for column in sizes.T)
    facts = domain.pictures.facts
    return Seen(
        pictures=len(domain.files),
        unreadable=len(domain.pictures.unreadable),
        one_colour=int(facts["blank"].sum()),
        copies=len(facts) - len(domain.contents()),
        enlarged=int((sizes.min(axis=1) < config.side).sum()),
        width=width,
        height=height,
        modes=dict(Counter(header[2] for header in headers).most_common()),
    )


def _range(values: np.ndarray) -> tuple[int, int, int]:
    if not len(values):
        return 0, 0, 0
    return int(values.min()), int(np.median(values)), int(values.max())


def _header(file: File) -> tuple[int, int, str] | None:
    """Width, height and mode as the file says; None for what is no picture."""
    try:
        with Image.open(folders.contents(file), formats=images.FORMATS) as picture:
            return *picture.size, picture.mode
    except NO_PICTURE:
        return None


def _domains(a: Domain, b: Domain) -> Verdict:
    verdict = Verdict()
    for domain in (a, b):
        verdict += folders.readable(domain.pictures, len(domain.files))
        verdict += _of_one_colour(domain) + _copies(domain)
    return verdict + _in_both(a, b)


def _enough(train: Pair, batch: int) -> Verdict:
    try:
        folders.check_enough(train, batch)
    except DidaError as error:
        return Verdict((str(error),))
    return Verdict()


def _of_one_colour(domain: Domain) -> Verdict:
    rows = np.flatnonzero(domain.pictures.facts["blank"])
    if not len(rows):
        return Verdict()
    share = f"{len(rows)} of {len(domain.files)} pictures of {domain.name}"
    line = f"{share} are of one colour, the first: {domain.file(rows[0])}"
    if len(rows) > folders.SKIPPED_SHARE * len(domain.files):
        return Verdict((f"{line}; take them out",))
    return Verdict(noted=(line,))


def _copies(domain: Domain) -> Verdict:
    first = domain.contents()
    again = np.setdiff1d(np.arange(len(domain.pictures.facts)), list(first.values()))
    if not len(again):
        return Verdict()
    original = first[domain.pictures.facts["digest"][again[0]].tobytes()]
    return Verdict(
        noted=(
            f"{len(again)} of {len(domain.files)} pictures of {domain.name} are exact copies, "
            f"the first: {domain.file(again[0])} of {domain.file(original)}",
        )
    )


def _in_both(a: Domain, b: Domain) -> Verdict:
    same = _same(a, b)
    if not same:
        return Verdict()
    row, other = same[0]
    more = f" (and {len(same) - 1} more such pairs)" if len(same) > 1 else ""
    return Verdict(
        (
            f"{a.file(row)} and {b.file(other)} are the same picture, in A and in B{more}; "
            "take it out of one of them",
        )
    )


def _also_trained_on(train: Sequence[Domain], held: Domain) -> Verdict:
    verdict = Verdict()
    for domain in train:
        if same := _same(held, domain):
            row, other = same[0]
            verdict += Verdict(
                noted=(
                    f"{len(same)} of {len(held.files)} pictures of {held.name} are also in the "
                    f"training's {domain.name}, the first: {held.file(row)} is "
                    f"{domain.file(other)}",
                )
            )
    return verdict


def _unreadable(domain: Domain) -> Verdict:
    lines = domain.pictures.unreadable
    if not lines:
        return Verdict()
    share = f"{len(lines)} of {len(domain.files)} pictures of {domain.name}"
    return Verdict(noted=(f"{share} cannot be read, the first: {lines[0]}",))


def _same(one: Domain, other: Domain) -> list[tuple[int, int]]:
    """The rows of the pictures that are in both, in the order of the first."""
    rows, others = one.contents(), other.contents()
    return sorted((row, others[digest]) for digest, row in rows.items() if digest in others)
