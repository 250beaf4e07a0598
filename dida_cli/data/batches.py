"""The endless batches that a training takes of pictures."""

import functools

import numpy as np
import torch
from torch import Tensor

from dida_cli import images
from dida_cli.config import PARTS, Part
from dida_cli.data.cache import Pictures
from dida_cli.data.folders import Sets, moved
from dida_cli.data.frames import Bank
from dida_cli.data.vary import varied
from dida_cli.players import Sides, guides_of, pairs_of


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
        drawn: tuple[Part, Bank] | None = None,
    ) -> None:
        """pictures: what was read of the sets' files; those that cannot be read are left out.

        vary: the side that pictures are cut to, in another place and light; 0: as they were read.
        drawn: the part that is glasses, and such, which are drawn onto the pictures that lack it,
            to be pairs, each with a guide.
        """
        read = pictures.facts["file"]
        places = np.full(len(sets.files), -1)
        places[read] = np.arange(len(read))
        self.pictures, self.rows = torch.from_numpy(pictures.rows), moved(sets.rows, places)
        self.names = [str(sets.files[row]) for row in read]
        groups = sets.groups[read] if len(sets.groups) else np.zeros(len(read), int)
        self.groups = groups
        self._groups = {
            (part, lacks): [rows[groups[rows] == group] for group in np.unique(groups[rows])]
            for part, sides in self.rows.items()
            for lacks, rows in enumerate(sides)
        }
        self.batch, self.seed, self.flip, self.vary = batch, seed, flip, vary
        self.drawn = drawn
        two_epochs = 2 * sum(map(len, self._groups.values()))
        self._order = functools.lru_cache(maxsize=two_epochs)(self._shuffled)

    def __call__(self, step: int) -> dict[str, Sides]:
        """The pictures of a step (0, 1, ...): (batch, 3, side, side) in [-1, 1] of each set."""
        sides = (Sides(self._take(p, False, step), self._take(p, True, step)) for p in self.rows)
        made: dict[str, Sides] = dict(zip(self.rows, sides, strict=True))
        if self.drawn:
            part = self.drawn[0]
            made[pairs_of(part)], made[guides_of(part)] = self._pairs(*self.drawn, step)
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

    def _pairs(self, part: Part, frames: Bank, step: int) -> tuple[Sides, Sides]:
        """Pairs, and the guide of each: the next picture, with the same drawn onto it."""
        lacks = self._read(part, True, step)
        others = lacks.roll(-1, 0)
        has, guides = (frames.on(one, self._random(part, True, step, 4)) for one in (lacks, others))
        every = torch.cat([lacks, has, others, guides], dim=1)
        if self.vary:  # guides as what they guide: frames must lie where they lie there
            every = varied(every, self.vary, self._random(part, True, step, 2))
        lacks, has, others, guides = every.chunk(4, dim=1)
        return Sides(has, lacks), Sides(guides, others)

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
