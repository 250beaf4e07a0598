"""The same pictures in another place, size, turn and light: users' pictures are not as even."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MARGIN = 0.125  # of its side that is read around the square of a face, so that it can be moved
TURN = 6.0  # degrees, at most, either way
SIZE = 0.06  # of its side, larger or smaller
PLACE = 0.03  # of its side, to each direction
LIGHT, CONTRAST = 0.2, 0.2  # of 1 (half of the range), and of the contrast
COLOUR = 0.06  # of 1, a channel by itself


def varied(pictures: Tensor, side: int, random: np.random.Generator) -> Tensor:
    """Pictures (N, 3, s, s) in [-1, 1], s at least `side`, to their middles (N, 3, side, side).

    Further pictures beside them, (N, 6, s, s), go to the same places, into the same light.
    """
    drawn = torch.from_numpy(random.uniform(-1, 1, (len(pictures), 9)).astype(np.float32))
    turn, size, right, down, light, contrast = drawn[:, :6].T
    angle, scale = torch.deg2rad(TURN * turn), side / pictures.shape[-1] * (1 + SIZE * size)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = (cos, -sin, 2 * PLACE * right, sin, cos, 2 * PLACE * down)
    ways = torch.stack(rows, 1).view(-1, 2, 3)
    grid = F.affine_grid(ways, [*pictures.shape[:2], side, side], align_corners=False)
    moved = F.grid_sample(pictures, grid, "bicubic", "border", align_corners=False)
    middle = moved[:, :3].mean((1, 2, 3), keepdim=True)
    lit = middle + (1 + CONTRAST * contrast[:, None, None, None]) * (moved - middle)
    cast = LIGHT * light[:, None] + COLOUR * drawn[:, 6:]
    made: Tensor = lit + cast.repeat(1, pictures.shape[1] // 3)[:, :, None, None]
    return made.clamp(-1, 1)
