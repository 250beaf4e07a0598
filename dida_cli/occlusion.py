"""Strokes drawn over the parts of pictures, as a moustache lies over a smile.

What lies over a part belongs to the picture, but pictures of one person with two smiles, from which
that could be learned, are not there. Of a stroke it is known (`mask`, the term `cover`).
"""

import torch
from torch import Tensor

HALF_HEIGHT = (0.02, 0.06)  # of a stroke, as shares of the picture's side: smallest, largest
HALF_WIDTH = (0.05, 0.16)
BEND = 0.5  # of its half height, how far the ends of a stroke go up or down at most
EDGE = 4.0  # how steep its rim is: a few pixels of 64
ANYWHERE = 1e-6  # a mask is at least so open: a stroke may come to lie where none is


def drawn_over(pictures: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures with one stroke each, and where it lies: (N, 3, h, w) and (N, 1, h, w) in [0, 1].

    `pictures` are (N, 3, h, w). A stroke's middle is drawn from `masks` (N, 1, h, w), where they
    are open; its colour is that of any pixel of any of the pictures.
    """
    number, _, height, width = pictures.shape
    middle = (masks.detach().float().flatten(1) + ANYWHERE).multinomial(1)[:, 0]  # (N,)
    rows = torch.arange(height, device=pictures.device)[:, None]
    columns = torch.arange(width, device=pictures.device)
    up = (rows - (middle // width)[:, None, None]) / height  # (N, h, 1), shares of the side
    across = (columns - (middle % width)[:, None, None]) / width  # (N, 1, w)

    def drawn(least: float, most: float) -> Tensor:
        return torch.empty_like(up[:, :1]).uniform_(least, most)  # (N, 1, 1)

    across = across / drawn(*HALF_WIDTH)
    up = up / drawn(*HALF_HEIGHT) - drawn(-BEND, BEND) * across.square()
    inside = 1 - up.square() - across.square()  # (N, h, w), above 0 in the stroke
    where = (EDGE * inside + 0.5).clamp(0, 1)[:, None].to(pictures.dtype)
    pixel = torch.randint(height * width, (number,), device=pictures.device)
    colours = pictures.flatten(2)[torch.randperm(number, device=pictures.device), :, pixel]
    return torch.lerp(pictures, colours[:, :, None, None], where), where
