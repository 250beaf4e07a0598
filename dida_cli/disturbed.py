"""Edits as inputs of the way back, such that they tell nothing of it but what one sees.

A network that learns to undo edits of its own finds in them what nobody sees: a trace of what was
taken off, a texture that real parts do not have. Then no code is needed, and real pictures, which
have neither, come out wrong. So inputs are changed by more or less than they were, by some of what
changed in others, and are now and then seen, with their targets, through a blur.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from dida_cli.nets import box

FAINT = 0.05  # of 2: a change up to here is left out; from twice that on it counts whole
SAME = 0.2  # of the inputs are not changed at all: there is nothing to undo
STRENGTH = 0.3  # more or less of the change that makes an input
STRANGE, STRANGERS = 0.6, 0.7  # of another's change, at most, on so many of what was taken off
BLURRED = 0.25  # of the inputs, with their targets, are seen through a blur, as many through two
NOISE, NOISY = 0.02, 0.3  # of 2, on so many of the inputs


def visible(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """`after` where people would see that it is not `before`, and where that is.

    Pictures (N, 3, s, s) in [-1, 1] to a picture, which is `before` bit for bit where the mask
    (N, 1, s, s) in [0, 1] is 0.
    """
    mask = ((largest(after - before, 3) - FAINT) / FAINT).clamp(0, 1)
    return before + mask * (after - before), mask


def inputs(real: Tensor, shift: Tensor) -> Tensor:
    """Inputs of the way back: pictures, W then V, changed by `shift`, more or less, or not at all.

    To what was taken off comes some of what was taken off another picture, or the reverse of it.
    """
    strength = 1 + STRENGTH * _between(real)
    given = visible(real, real + strength * shift)[0]
    off = shift.chunk(2)[0]
    strange = STRANGE * _between(off) * some(off, STRANGERS) * off.roll(1, 0)
    given = given + torch.cat([strange, torch.zeros_like(strange)])
    return torch.where(some(real, SAME), real, given)


def seen(given: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs, some noisy, and their targets: some through a 3 x 3 box blur, some through two."""
    noisy = given + NOISE * some(given, NOISY) * torch.randn_like(given)
    pair = torch.cat([noisy, target], dim=1)
    once = box(pair)
    draw = torch.rand(len(pair), 1, 1, 1, device=pair.device)
    pair = torch.where(draw < BLURRED, once, torch.where(draw < 2 * BLURRED, box(once), pair))
    return pair[:, :3], pair[:, 3:]


def resized(pictures: Tensor, side: int) -> Tensor:
    """To a smaller side by the mean of what falls together, to a larger one by going between."""
    if side == pictures.shape[-1]:
        return pictures
    mode = "area" if side < pictures.shape[-1] else "bilinear"
    return F.interpolate(pictures, size=(side, side), mode=mode)


def largest(change: Tensor, width: int) -> Tensor:
    """The largest change of any channel near each pixel: (N, 1, s, s)."""
    most = change.abs().amax(1, keepdim=True)
    return F.max_pool2d(most, width, stride=1, padding=width // 2)


def some(pictures: Tensor, share: float) -> Tensor:
    """A share of the pictures, at random: bool (N, 1, 1, 1)."""
    return torch.rand(len(pictures), 1, 1, 1, device=pictures.device) < share


def _between(pictures: Tensor) -> Tensor:
    """A number between -1 and 1 for each picture, at random: (N, 1, 1, 1)."""
    return 2 * torch.rand(len(pictures), 1, 1, 1, device=pictures.device) - 1
