"""What a model that knows the parts already would change, and how it is followed."""

import torch
from torch import Tensor

from dida_cli.config import Part
from dida_cli.disturbed import largest, resized
from dida_cli.players import Network, Sides

TOLD = 0.06  # of 2: where a teacher changes a picture by more it is followed less and less


@torch.no_grad()
def told(teacher: Network, part: Part, sides: Sides) -> Tensor:
    """What the teacher would change: the part taken off pictures, put on those that lack it.

    (2 B, 3, s, s) at the teacher's side.
    """
    small = Sides(*(resized(pictures, teacher.config.side) for pictures in sides))
    has, lacks = teacher.encode(small.has), teacher.encode(small.lacks)
    off = teacher.compose(has.without(part), small.has, has).image
    on = teacher.compose(lacks._replace(**{part: has.of(part)}), small.lacks, lacks).image
    return torch.cat([off - small.has, on - small.lacks]).float()


def taught(change: Tensor, told: Tensor, rest: float, focus: float) -> Tensor:
    """mean |change - told| at the teacher's side: where it changes a picture by `rest` (1 to 0)."""
    inside = (largest(told, 5) > TOLD).float()
    weight = 1 - inside + inside * (1 + focus) * rest
    return (weight * (resized(change, told.shape[-1]) - told).abs()).mean()
