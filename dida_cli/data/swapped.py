"""A region of some pictures put into others, so that a part that lies there has true pairs.

What comes along must go unseen: it is taken from a picture that looks alike around the region, and
its colours are raised to the power by which the two agree there, as far as that is near (the aim of
Pérez et al., Poisson Image Editing, 2003). So white stays nearly white, and black black.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dida_cli import images

SOFT = 0.35  # of the region's radius, over which it fades
SHAKEN = 0.12  # of its size, larger or smaller
RING = 2.0  # of its radius, up to where two pictures are compared, and their colours met
INNER = 0.6  # of its radius, from where on two pictures are compared
COARSE = 24  # pixels each way by which they are
ALIKE = 8  # pictures, the most alike of all, one of which gives
POWER = 2.5  # by which colours, from 0 to 1, are raised at most; the root of which, at least
CAST = 0.3  # of 2: how much lighter or darker a colour of a guide is, at most
WHITE, DARK = 0.8, 0.02  # what white counts as, since 1 is 1 by every power; and the darkest
LITTLE = 1e-5  # a weight that counts for nothing
REACH = 0.37  # of the region's larger radius: how far off a colour still counts


class Swapped:
    """Pictures that have a part, which lies in an ellipse, and give it to others."""

    def __init__(
        self,
        pictures: np.ndarray,
        region: Sequence[float],
        margin: float,
        *,
        flip: bool,
        vary: bool,
    ) -> None:
        """pictures: uint8 (N, 3, s, s).

        region: x and y of its middle, half of its width and of its height, from 0 to 1 in what
            pictures show within a margin, which is of the side of that.
        flip: some give mirrored. vary: they guide in another light than they gave in.
        """
        self.pictures, self.vary = torch.from_numpy(pictures), vary
        whole = 1 + 2 * margin
        x, y, width, height = region
        self.middle = (x + margin) / whole, (y + margin) / whole
        self.half = torch.tensor([width, height]) / whole
        radius = self._radius(COARSE, torch.ones(1, 2))
        self.around = (radius > INNER) & (radius < RING)
        parts = torch.split(self.pictures, 256)
        self.looks = torch.cat(
            [
                self._looks(images.to_unit(part.flip(-1) if mirrored else part))
                for mirrored in range(1 + flip)
                for part in parts
            ]
        )

    def __call__(self, pictures: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Pictures (N, 3, s, s) in [-1, 1] with the region of others, and these others as guides.

        Where light varies they come in another, lest their skin be taken for the part.
        """
        givers = self._givers(pictures, random)
        shaken = 1 + SHAKEN * random.uniform(-1, 1, (len(pictures), 2))
        radius = self._radius(pictures.shape[-1], torch.from_numpy(shaken).float())
        mask = ((1 - radius) / SOFT + 0.5).clamp(0, 1)
        ring = ((radius > 1) & (radius < RING)).float()
        below, above = (self._level(some, ring) for some in (pictures, givers))
        power = (below.log() / above.log()).clamp(1 / POWER, POWER)
        toned = (WHITE * (givers + 1) / 2) ** power / WHITE * 2 - 1
        made = pictures + mask * (toned - pictures)
        light = torch.from_numpy(random.uniform(-1, 1, (len(pictures), 3, 1, 1))).float()
        return made.clamp(-1, 1), (givers + CAST * self.vary * light).clamp(-1, 1)

    def _givers(self, pictures: Tensor, random: np.random.Generator) -> Tensor:
        """For each picture one of those that look most like it, mirrored or not."""
        far = torch.cdist(self._looks(pictures), self.looks)
        alike = far.topk(min(ALIKE, len(self.looks)), largest=False).indices
        drawn = torch.from_numpy(random.integers(alike.shape[1], size=len(alike)))
        best, count = alike[torch.arange(len(alike)), drawn], len(self.pictures)
        givers = images.to_unit(self.pictures[best % count])
        return torch.where((best < count)[:, None, None, None], givers, givers.flip(-1))

    def _looks(self, pictures: Tensor) -> Tensor:
        """What is around the region, in few pixels: (N, 3 x pixels)."""
        small = F.interpolate(pictures, (COARSE, COARSE), mode="area")
        return small[:, :, self.around[0, 0]].flatten(1)

    def _radius(self, side: int, scale: Tensor) -> Tensor:
        """How far pixels are from the region's middle, 1 at its edge: (N, 1, side, side)."""
        place = (torch.arange(side) + 0.5) / side
        x, y = (place - at for at in self.middle)
        half = self.half * scale
        across, down = x / half[:, :1], y / half[:, 1:]
        return torch.hypot(across[:, None, None, :], down[:, None, :, None])

    def _level(self, pictures: Tensor, ring: Tensor) -> Tensor:
        """What colours are, from 0 to 1, in the ring near each pixel: (N, 3, s, s)."""
        near = self._near(torch.cat([ring * (pictures + 1) / 2, ring], dim=1))
        return (WHITE * near[:, :3] / (near[:, 3:] + LITTLE)).clamp(DARK, WHITE)

    def _near(self, maps: Tensor) -> Tensor:
        """The mean of what is near, the nearest first."""
        small = F.avg_pool2d(maps, 4)
        width = 2 * math.ceil(REACH * float(self.half.max()) * small.shape[-1] / 2) + 1
        for _ in range(3):
            small = F.avg_pool2d(small, width, 1, width // 2)
        return F.interpolate(small, maps.shape[2:], mode="bilinear")
