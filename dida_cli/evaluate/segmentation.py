"""Does a model paint where something changes? Its mask against the region where the truth differs.

Only drawn faces have a true answer, hence a true region. `DEFINITIONS` says what each figure means.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dida_cli.evaluate.realism import mean_within

TOLERANCE = 8  # levels of 255: more than resampling leaves beside a drawn part
GROWN = 2  # pixels around those that should change or did, where one looks too
THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))

DEFINITIONS = {
    "n": "test pictures",
    "iou": "mean over test pictures of intersection over union of mask > threshold and the true "
    "region, with a 95 % interval (iou_low, iou_high); the true region is where content and true "
    f"answer differ by more than {TOLERANCE} of 255 levels in any channel",
    "iou_nearest, psnr_nearest": "iou and PSNR against the nearest of all right answers, where "
    "there are several: whichever mouth comes where a smile was, it is right",
    "threshold": "the one of 0.05, 0.10 ... 0.95 with the best mean iou on validation pictures",
    "iou_foreign, changed_outside_foreign": "the same on drawings of other kinds than were trained "
    "on: unknown eyes, no brows, dark backgrounds, red, green and blue exchanged",
    "iou_at_half": "the same at the fixed threshold 0.5, with its interval",
    "iou_of_all": "of a mask that covers everything: the floor",
    "changed_outside": "mean over pictures of the absolute change, in levels 0..255, of pixels "
    "outside the true region, which is first widened by a few pixels; 0 = nothing else was touched",
    "changed_unmasked": "the largest absolute change of any pixel, in levels 0..255, where the "
    "mask is 0; 0 = there every edit is its content bit for bit",
}


def true_region(content: Tensor, truth: Tensor) -> Tensor:
    """Where any channel differs by more than `TOLERANCE`: bool (N, 1, h, w).

    From two (N, 3, h, w) in [-1, 1].
    """
    return _change(content, truth).amax(1, keepdim=True) > TOLERANCE


def _change(before: Tensor, after: Tensor) -> Tensor:
    """Absolute change in levels 0..255, not rounded."""
    return (after.double() - before.double()).abs() * 127.5


def touched_region(content: Tensor, truth: Tensor, output: Tensor) -> Tensor:
    """The pixels that should change or did, and all within two of them: bool (N, 1, h, w)."""
    return dilate(true_region(content, truth) | true_region(content, output), GROWN)


def iou(mask: Tensor, region: Tensor) -> Tensor:
    """Intersection over union (N,) in float64 of two bool (N, 1, h, w); two empty ones agree: 1."""
    mask, region = mask.flatten(1), region.flatten(1)
    common, either = (mask & region).sum(1), (mask | region).sum(1)
    return torch.where(either > 0, common.double() / either.clamp_min(1), 1.0)


class Mean(NamedTuple):
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float


def mean_iou(mask: Tensor, region: Tensor, threshold: float) -> Mean:
    """Mean IoU of mask > threshold, mask (N, 1, h, w) in [0, 1], region bool (N, 1, h, w).

    Normal interval over pictures, two or more, kept within 0..1.
    """
    each = iou(mask > threshold, region)
    value = each.mean().item()
    spread = 1.96 * each.std().item() / math.sqrt(len(each))
    return Mean(value, max(0.0, value - spread), min(1.0, value + spread))


def choose_threshold(mask: Tensor, region: Tensor) -> float:
    """The threshold with the best mean IoU, the first of equals; for validation pictures only."""
    return max(THRESHOLDS, key=lambda threshold: mean_iou(mask, region, threshold).value)


def score(mask: Tensor, region: Tensor, threshold: float) -> dict[str, float]:
    """Every figure of test masks (N, 1, h, w) in [0, 1] against regions, bool (N, 1, h, w).

    `threshold` is what `choose_threshold` found on other pictures. Shares 0..1.
    """
    figures = {"n": len(mask), "threshold": threshold}
    for name, level in {"iou": threshold, "iou_at_half": 0.5}.items():
        mean = mean_iou(mask, region, level)
        figures |= {name: mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}
    return figures | {"iou_of_all": iou(torch.ones_like(region), region).mean().item()}


def changed_outside(before: Tensor, after: Tensor, region: Tensor, dilation: int) -> float:
    """Mean absolute change in levels 0..255 outside the region widened by `dilation` pixels.

    Pictures (N, 3, h, w) in [-1, 1], region bool (N, 1, h, w). Mean over channels and pixels, then
    over pictures; those with nothing outside are left out. Raises DidaError when all are.
    """
    change = _change(before, after).mean(1, keepdim=True)
    return mean_within(change, ~dilate(region, dilation))


def changed_unmasked(before: Tensor, after: Tensor, mask: Tensor) -> float:
    """The largest absolute change in levels 0..255 where the mask (N, 1, h, w) is 0."""
    return (_change(before, after) * (mask == 0)).amax().item()


def dilate(region: Tensor, pixels: int) -> Tensor:
    """A bool region (N, 1, h, w), widened as a square brush would."""
    return F.max_pool2d(region.float(), 2 * pixels + 1, stride=1, padding=pixels) > 0
