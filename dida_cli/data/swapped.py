"""A region of some pictures put into others, so that a part that lies there has true pairs.

What comes along must go unseen: it is taken from a picture that looks alike around the region, and
its colour is shifted by what the two differ in there, as far as that is near (the aim of Pérez et
al., Poisson Image Editing, 2003).
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
ASKED = 256  # pictures, drawn at random, of which the most alike gives
CAST = 0.3  # of 2: how much lighter or darker a colour of a guide is, at most
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
        self.pictures, self.flip, self.vary = torch.from_numpy(pictures), flip, vary
        whole = 1 + 2 * margin
        x, y, width, height = region
        self.middle = (x + margin) / whole, (y + margin) / whole
        self.half = torch.tensor([width, height]) / whole
        radius = self._radius(COARSE, torch.ones(1, 2))
        self.around = (radius > INNER) & (radius < RING)
        looks = [self._looks(images.to_unit(some)) for some in torch.split(self.pictures, 256)]
        self.looks = torch.cat(looks)

    def __call__(self, pictures: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Pictures (N, 3, s, s) in [-1, 1] with the region of others, and these others as guides.

        Where light varies they come in another, lest their skin be taken for the part.
        """
        givers = self._givers(pictures, random)
        shaken = 1 + SHAKEN * random.uniform(-1, 1, (len(pictures), 2))
        radius = self._radius(pictures.shape[-1], torch.from_numpy(shaken).float())
        mask = ((1 - radius) / SOFT + 0.5).clamp(0, 1)
        ring = ((radius > 1) & (radius < RING)).float()
        near = self._near(torch.cat([ring * (pictures - givers), ring], dim=1))
        shift = near[:, :3] / (near[:, 3:] + LITTLE)
        made = pictures + mask * (givers + shift - pictures)
        light = torch.from_numpy(random.uniform(-1, 1, (len(pictures), 3, 1, 1))).float()
        return made.clamp(-1, 1), (givers + CAST * self.vary * light).clamp(-1, 1)

    def _givers(self, pictures: Tensor, random: np.random.Generator) -> Tensor:
        """For each picture the most alike of some, which are drawn at random."""
        asked = torch.from_numpy(random.integers(len(self.pictures), size=(len(pictures), ASKED)))
        turned = torch.from_numpy(random.random(asked.shape) < 0.5 * self.flip)
        looks = self.looks[asked]
        looks = torch.where(turned[..., None, None, None], looks.flip(-1), looks)
        best = (looks - self._looks(pictures)[:, None]).square().sum((2, 3, 4)).argmin(1)
        each = torch.arange(len(pictures))
        givers = images.to_unit(self.pictures[asked[each, best]])
        return torch.where(turned[each, best][:, None, None, None], givers.flip(-1), givers)

    def _looks(self, pictures: Tensor) -> Tensor:
        """What is around the region, in few pixels."""
        return self.around * F.interpolate(pictures, (COARSE, COARSE), mode="area")

    def _radius(self, side: int, scale: Tensor) -> Tensor:
        """How far pixels are from the region's middle, 1 at its edge: (N, 1, side, side)."""
        place = (torch.arange(side) + 0.5) / side
        x, y = (place - at for at in self.middle)
        half = self.half * scale
        across, down = x / half[:, :1], y / half[:, 1:]
        return torch.hypot(across[:, None, None, :], down[:, None, :, None])

    def _near(self, maps: Tensor) -> Tensor:
        """The mean of what is near, the nearest first."""
        small = F.avg_pool2d(maps, 4)
        width = 2 * math.ceil(REACH * float(self.half.max()) * small.shape[-1] / 2) + 1
        for _ in range(3):
            small = F.avg_pool2d(small, width, 1, width // 2)
        return F.interpolate(small, maps.shape[2:], mode="bilinear")
