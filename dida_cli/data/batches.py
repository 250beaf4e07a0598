"""The endless batches that a training takes of pictures."""

import functools
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from dida_cli import images
from dida_cli.config import PARTS, Part
from dida_cli.data.cache import Pictures
from dida_cli.data.folders import Rows, Sets, moved
from dida_cli.data.vary import varied
from dida_cli.players import Pairs, Sides, pairs_of

# Pictures (N, 3, s, s) that lack a part to the same with it, and to guides with the very same part.
Put = Callable[[Tensor, np.random.Generator], tuple[Tensor, Tensor]]


def rows_of(sets: Sets, pictures: Pictures) -> Rows:
    """Which of the pictures that were read of the sets' files have each part, and which lack it."""
    read = pictures.facts["file"]
    places = np.full(len(sets.files), -1)
    places[read] = np.arange(len(read))
    return moved(sets.rows, places)


class Batches:
    """Batches of every part's pictures, a pure function of the step: a resumed run sees what it
    would have seen.

    Each group of a set is gone through in an order of its own, shuffled anew every epoch.
    """

    def __init__(
        self,
        sets: Sets,
        pictures: Pictures,
        *,
        batch: int,
        seed: int,
        flip: bool,
        vary: int = 0,
        put: Mapping[Part, Put] | None = None,
    ) -> None:
        """pictures: what was read of the sets' files; those that cannot be read are left out.

        vary: the side that pictures are cut to, in another place and light; 0: as they were read.
        put: how parts are put into the pictures that lack them, to be pairs.
        """
        read = pictures.facts["file"]
        self.pictures, self.rows = torch.from_numpy(pictures.rows), rows_of(sets, pictures)
        self.names = [str(sets.files[row]) for row in read]
        groups = sets.groups[read] if len(sets.groups) else np.zeros(len(read), int)
        self.groups = groups
        self._groups = {
            (part, lacks): [rows[groups[rows] == group] for group in np.unique(groups[rows])]
            for part, sides in self.rows.items()
            for lacks, rows in enumerate(sides)
        }
        self.batch, self.seed, self.flip, self.vary = batch, seed, flip, vary
        self.put = put or {}
        two_epochs = 2 * sum(map(len, self._groups.values()))
        self._order = functools.lru_cache(maxsize=two_epochs)(self._shuffled)

    def __call__(self, step: int) -> dict[str, Sides | Pairs]:
        """The pictures of a step (0, 1, ...): (batch, 3, side, side) in [-1, 1] of each set."""
        sides = (Sides(self._take(p, False, step), self._take(p, True, step)) for p in self.rows)
        made: dict[str, Sides | Pairs] = dict(zip(self.rows, sides, strict=True))
        for part, put in self.put.items():
            made[pairs_of(part)] = self._pairs(part, put, step)
        return made

    def files(self, step: int) -> list[str]:
        """The names of a step's pictures, in the order of `Sides`."""
        taken = [self.taken(part, lacks, step) for part in self.rows for lacks in (False, True)]
        return [self.names[row] for row in np.concatenate(taken)]

    def taken(self, part: Part, lacks: bool, step: int) -> np.ndarray:
        """Which pictures of a set a step takes, in the order of its batch: int (batch,)."""
        groups = self._groups[part, lacks]
        rows = []
        for place in range(step * self.batch, (step + 1) * self.batch):
            turn, group = divmod(place, len(groups))
            epoch, at = divmod(turn, len(groups[group]))
            rows.append(groups[group][self._order(part, lacks, epoch, group)[at]])
        return np.array(rows)

    def _pairs(self, part: Part, put: Put, step: int) -> Pairs:
        lacks = self._read(part, True, step)
        has, guides = put(lacks, self._random(part, True, step, 4))
        every = torch.cat([lacks, has, guides], dim=1)
        if self.vary:  # guides as what they guide: a part must lie where it lies there
            every = varied(every, self.vary, self._random(part, True, step, 2))
        lacks, has, guides = every.chunk(3, dim=1)
        return Pairs(has, lacks, guides)

    def _take(self, part: Part, lacks: bool, step: int) -> Tensor:
        pictures = self._read(part, lacks, step)
        if self.vary:
            pictures = varied(pictures, self.vary, self._random(part, lacks, step, 2))
        return pictures

    def _read(self, part: Part, lacks: bool, step: int) -> Tensor:
        pictures = images.to_unit(self.pictures[torch.from_numpy(self.taken(part, lacks, step))])
        if self.flip:
            turned = torch.from_numpy(self._random(part, lacks, step, 1).random(self.batch) < 0.5)
            pictures[turned] = pictures[turned].flip(-1)
        return pictures

    def _shuffled(self, part: Part, lacks: bool, epoch: int, group: int) -> np.ndarray:
        count = len(self._groups[part, lacks][group])
        return self._random(part, lacks, epoch, 3 * group).permutation(count)

    def _random(self, part: Part, lacks: bool, time: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, PARTS.index(part), lacks, time, purpose])
