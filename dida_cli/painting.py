"""What one part does to a picture: it is put on, or taken off and the base shows.

Both are steps of one form, image = kept * onto + paint, so that several are one again.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

CLOSED = 0.02  # an edit takes a mask up to here for 0, which a sigmoid never reaches
NEAR = 40  # of a mask's side, one is how far its neighbourhood reaches
LONE = 0.15  # of that, half open: specks or haze, no part; from twice that on a mask is as it is
REMOVAL_GAIN = 4  # of a part's own mask: where it is said to be taken off
FRAME_GAIN = (1.5, 6.0)  # the same of what is seen through: beside brows, and on even skin
EVEN = 0.15  # of 2, the range of a picture: what a base varies by on even skin; at twice that, none
STEEP = 3.0  # of a mask's change over three pixels: an edge, which is not glass
DIM = 0.1  # of the square of what shows through glass: so little of it is half believed


def blend(new: Tensor, onto: Tensor, mask: Tensor) -> Tensor:
    """mask * new + (1 - mask) * onto; where the mask is 0 it is `onto` bit for bit (ICLR 2020)."""
    return onto + mask * (new - onto)


def of_any_strength(mask: Tensor, least: float, most: float) -> Tensor:
    """Masks (N, 1, h, w) in [0, 1], each by a strength of its own, from `least` to `most`."""
    strength = torch.empty_like(mask[:, :, :1, :1]).uniform_(least, most)
    return (strength * mask).clamp_max(1)


def opened(mask: Tensor) -> Tensor:
    """Masks (N, 1, h, w) in [0, 1], exactly 0 where they were up to `CLOSED` and where no part is.

    Specks and haze are none: a part is larger or more solid, and the finest frame is longer.
    """
    mask = (mask - CLOSED).clamp_min(0) / (1 - CLOSED)
    reach = max(1, mask.shape[-1] // NEAR)
    half_open = (2 * mask).clamp_max(1)
    around = F.avg_pool2d(half_open, 2 * reach + 1, 1, reach, count_include_pad=False)
    return mask * (around / LONE - 1).clamp(0, 1)


class Step(NamedTuple):
    """What one part does to a picture: image = kept * onto + paint."""

    mask: Tensor  # (N, 1, h, w) in [0, 1]: where
    kept: Tensor  # (N, 1, h, w), 1 where the mask is 0
    paint: Tensor  # (N, 3, h, w), 0 where the mask is 0

    def of(self, some: Tensor) -> "Step":
        """The step on some pictures, bool (N, 1, 1, 1), and nothing on the others."""
        return Step(self.mask * some, 1 - (1 - self.kept) * some, self.paint * some)

    def on(self, picture: Tensor) -> Tensor:
        """Pictures (N, 3, h, w) after the step."""
        return self.kept * picture + self.paint

    def after(self, first: "Step") -> "Step":
        """Both steps in one."""
        mask = 1 - (1 - first.mask) * (1 - self.mask)
        return Step(mask, first.kept * self.kept, self.kept * first.paint + self.paint)


def put_on(rgb: Tensor, mask: Tensor) -> Step:
    """A layer painted onto a picture."""
    return Step(mask, 1 - mask, mask * rgb)


def taken_off(base: Tensor, rgb: Tensor, mask: Tensor, *, glass: bool) -> Step:
    """A layer taken off a picture that shows it: the base is painted there, and on the rim.

    A quarter of the mask is enough: the mask as it is would leave a shadow of the part and, in
    pictures larger than it, an outline; grown by whole pixels it would take the brows along. So
    would a quarter of a frame's: near what the base shows of a face, more of the mask is asked for,
    and less where there is but skin (`_frame_gain`).

    Behind glass is the picture itself: of x = mask * rgb + (1 - mask) * bare, the bare. The less
    comes through, the less that is believed (as Wiener's filter does), and the more is the base's.
    So is the edge of a frame, where the mask is half open too: it would stay as an outline.
    """
    mask = opened(mask)
    covered = (mask * (_frame_gain(base.detach()) if glass else REMOVAL_GAIN)).clamp_max(1)
    rim = F.avg_pool2d(covered, 3, stride=1, padding=1, count_include_pad=False)
    solid = put_on(base, torch.maximum(covered, rim))
    if not glass:
        return solid
    through = 1 - mask
    kept = through * (1 + DIM) / (through.square() + DIM)  # so much brighter than it came
    seen = kept * through  # 1 where there is nothing to take off, 0 where the layer is solid
    clear = Step(solid.mask, kept, (1 - seen) * base - kept * mask * rgb)
    even = (1 - STEEP * (_widest(mask) + _widest(-mask))).clamp_min(0)  # 0 at the edge of a frame
    return Step(*(even * c + (1 - even) * s for c, s in zip(clear, solid, strict=True)))


def _frame_gain(base: Tensor) -> Tensor:
    """How far beyond its mask a frame is taken off bases (N, 3, h, w): (N, 1, h, w)."""
    reach = max(1, base.shape[-1] // NEAR)
    varies = (_widest(base, reach) + _widest(-base, reach)).amax(1, keepdim=True)
    least, most = FRAME_GAIN
    return most - (most - least) * (varies / EVEN - 1).clamp(0, 1)


def _widest(values: Tensor, reach: int = 1) -> Tensor:
    """The largest of each pixel of (N, C, h, w) and those up to `reach` away, in each channel."""
    return F.max_pool2d(values, 2 * reach + 1, stride=1, padding=reach)
