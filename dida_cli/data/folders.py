"""Folders of pictures, and the endless batches a training takes from two domains."""

import functools
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dida_cli import images
from dida_cli.config import ModelConfig
from dida_cli.errors import DidaError

SKIPPED_SHARE = 0.05  # of a domain's files may be unreadable before the training is refused
HELD_OUT = 64  # pictures of each domain kept for looking at, where no list says which


@dataclass(frozen=True)
class Pair:
    """Files of the two domains; unpaired, of any number."""

    a: list[Path]
    b: list[Path]


@dataclass(frozen=True)
class Split:
    """What is learned from, and what is only looked at."""

    train: Pair
    held_out: Pair


def from_folders(root: Path) -> Split:
    """trainA, trainB and, if present, testA, testB below `root`.

    Without test folders the last 64 pictures (a tenth at most) of each domain are held out.
    """
    train = Pair(images.pictures_in(root / "trainA"), images.pictures_in(root / "trainB"))
    if (root / "testA").exists() or (root / "testB").exists():
        split = Split(
            train, Pair(images.pictures_in(root / "testA"), images.pictures_in(root / "testB"))
        )
    else:
        split = Split(*map(Pair, *(_hold_out(files) for files in (train.a, train.b))))
    check_apart(split)
    return split


def _hold_out(files: list[Path]) -> tuple[list[Path], list[Path]]:
    count = max(1, min(HELD_OUT, len(files) // 10))
    return files[:-count], files[-count:]


def check_apart(split: Split) -> None:
    """Raises DidaError when a file is in both domains, or both trained on and held out."""
    a, b, held = (
        {path.resolve() for path in files}
        for files in (split.train.a, split.train.b, split.held_out.a + split.held_out.b)
    )
    if same := sorted(a & b):
        raise DidaError(f"{same[0]}: is in both domains; a picture may be in A or in B, not both")
    if seen := sorted((a | b) & held):
        raise DidaError(f"{seen[0]}: is both trained on and held out; take it out of one of them")


def check_enough(train: Pair, batch: int) -> None:
    """Raises DidaError when a domain is smaller than its share of a batch."""
    for name, count in (("A", len(train.a)), ("B", len(train.b))):
        if count < batch:
            raise DidaError(
                f"domain {name} has {count} pictures, fewer than the batch of {batch}; "
                f"add pictures or use --batch {max(1, count)}"
            )


def load(
    files: Sequence[Path],
    config: ModelConfig,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """All files as the model sees them: uint8 (N, 3, side, side), in memory.

    Unreadable files are named in a warning and skipped; DidaError above 5 % of them.
    """
    rows = torch.empty(len(files), 3, config.side, config.side, dtype=torch.uint8)
    unreadable: list[str] = []
    kept = 0
    with ThreadPoolExecutor() as pool:
        read = functools.partial(_read_or_error, config=config)
        for done, row in enumerate(pool.map(read, files), start=1):
            if isinstance(row, DidaError):
                unreadable.append(str(row))
            else:
                rows[kept] = torch.from_numpy(row)
                kept += 1
            on_progress(done, len(files))
    if len(unreadable) > SKIPPED_SHARE * len(files):
        raise DidaError(
            f"{len(unreadable)} of {len(files)} pictures cannot be read, the first: {unreadable[0]}"
        )
    for line in unreadable:
        warnings.warn(f"skipped {line}", stacklevel=2)
    return rows[:kept]


def _read_or_error(path: Path, config: ModelConfig) -> np.ndarray | DidaError:
    try:
        return images.pixels(images.fit(images.read(path), config))
    except DidaError as error:
        return error


class Batches:
    """Batches of both domains, a pure function of the step: a resumed run sees what it would have.

    Each domain is gone through in an order of its own, shuffled anew every epoch.
    """

    def __init__(self, a: Tensor, b: Tensor, *, batch: int, seed: int, flip: bool) -> None:
        self.domains = (a, b)
        self.batch, self.seed, self.flip = batch, seed, flip
        self._order = functools.lru_cache(maxsize=4)(self._shuffled)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """The pictures of a step (0, 1, ...): two tensors (batch, 3, side, side) in [-1, 1]."""
        a, b = (self._take(domain, step) for domain in (0, 1))
        return a, b

    def _take(self, domain: int, step: int) -> Tensor:
        rows = self.domains[domain]
        places = range(step * self.batch, (step + 1) * self.batch)
        chosen = [self._order(domain, place // len(rows))[place % len(rows)] for place in places]
        pictures = images.to_unit(rows[torch.as_tensor(np.array(chosen))])
        if self.flip:
            random = np.random.default_rng([self.seed, domain, step, 1])
            turned = torch.from_numpy(random.random(self.batch) < 0.5)
            pictures[turned] = pictures[turned].flip(-1)
        return pictures

    def _shuffled(self, domain: int, epoch: int) -> np.ndarray:
        random = np.random.default_rng([self.seed, domain, epoch, 0])
        return random.permutation(len(self.domains[domain]))


def write_folders(
    out: Path,
    wanted: Mapping[str, Sequence[Path]],
    *,
    link: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Copy (or link) the wanted files into folders of those names, made at once in `out`."""
    total = sum(map(len, wanted.values()))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as made:
        new = Path(made) / "new"
        done = 0
        for name, files in wanted.items():
            (new / name).mkdir(parents=True)
            for file in files:
                if not file.exists():
                    raise DidaError(f"{file}: no such file, though it is listed; get it too")
                if (new / name / file.name).exists():
                    raise DidaError(f"{file}: a second picture of this name in {name}; rename it")
                if link:
                    (new / name / file.name).symlink_to(file.resolve())
                else:
                    shutil.copyfile(file, new / name / file.name)
                done += 1
                on_progress(done, total)
        if out.exists():
            out.rmdir()  # empty, as the caller has seen; otherwise this refuses
        new.rename(out)
