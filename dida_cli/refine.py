"""Going on with a model of masks whose guides are obeyed: faces are shown, and seen, more sharply.

A training of everything weighs what a base shows against all that moves parts into their own codes,
and an edit teaches the common encoder at the price of a pass of all networks. Here the separate
encoders stand still, and layers and masks are to stay what they are in the model that was begun
from, the teacher (as in Learning without Forgetting, Li and Hoiem, 2016). The common encoder and
the decoder learn:

    term              formula                              what it does
    reconstruction    |blend(layer, base, m) - x|          as in `mask`
    base              |base - x| away from the part        brows and hair are sharp in a base
    cycle             |base of E_c(edit) - x| where the    what a part hides is known by what of it
                      edit hides x, and how unlike they    can still be seen
                      are in form
    cycle_common      |E_c(edit) - c| / |c|                so is the code
    keep              |m - m*| + |layer - layer*|, also    a part stays what and where it is: * is
                      of (c, a'); |base - base*| under     the teacher's, ' of the other domain's
                      a part that is not seen through      pictures
    common            see `losses`

Edits are the teacher's: each face is given the part of one of the other domain. For the common
encoder they are as they would be if drawn, which `mask` does without: the own part is mostly left
on; and where a layer that knows nothing of the face it was seen on is as its picture is (`TRUE`),
the part hides all there is, and the picture's own pixels are pasted. A frame is then a frame, for
painted glass is never quite solid, and what shines through it would be learned instead.

Of a brow that may be here or there, half a brow is the best guess by colours, and the more that is
uncertain, the fainter it gets. By form (`unlike`) it is a whole one, at the likeliest place.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from dida_cli import losses, nets
from dida_cli.codes import Codes
from dida_cli.config import CriticTarget, Weights
from dida_cli.losses import Losses, error, mean_over, relative
from dida_cli.mask import Layers, bare, layers_and_bases, opaque
from dida_cli.painting import REMOVAL_GAIN, blend

OWN = 0.7  # of the faces that are given a part keep their own
STRENGTH = (0.8, 1.4)  # of an edit: fainter and more solid than made
PASTED = 0.7  # of edits have the picture's own pixels where the part hides all
TRUE = 0.15  # of 2, the range of a picture: so near a layer comes to its picture there
SOLID = 0.5  # of a mask: from here on a part may hide all
FORM = 0.2  # of what is unlike in form, beside colours
WINDOW = 5  # pixels at a side that have one form: a brow is as high
STILL = 0.0036  # (0.03 of 2, the range of a picture)^2: below, a window is flat
BESIDE = 2  # pixels around a part that are no target for a base: its edge


def refine_loss(
    model: Layers,
    critic: nets.Critic,
    a: Tensor,
    b: Tensor,
    weights: Weights,
    target: CriticTarget,
    teacher: Layers,
) -> Losses:
    """The loss of going on with `teacher` on pictures a and b, each (B, 3, side, side)."""
    both, half = torch.cat([a, b]), len(a)
    with torch.no_grad():
        known = losses.own_parts(teacher.encode(both))
        taught = Shown.by(teacher, known)
        own = torch.rand_like(taught.mask[:, :, :1, :1]) < OWN
        onto = torch.where(own, both, bare(teacher, both, taught.base, taught.layer, taught.mask))
        edits, painted = worn(onto, taught.given, taught.where, losses.other(both))
        covered = (REMOVAL_GAIN * taught.mask).clamp_max(1)
        near = F.max_pool2d(covered, 2 * BESIDE + 1, stride=1, padding=BESIDE)
    codes = model.encoders.common(nets.shrunk(torch.cat([edits, both]), model.config.shrink))
    through, common = codes.chunk(2)  # (2 B, C, grid, grid)
    shown = Shown.by(model, known._replace(common=common))
    seen = model.base(known._replace(common=through))
    hidden = painted * (1 - near)
    rebuilt = blend(shown.layer, shown.base, shown.mask)
    terms = {
        "reconstruction_a": F.l1_loss(rebuilt[:half], a),
        "reconstruction_b": F.l1_loss(rebuilt[half:], b),
        "base": (error(shown.base, both) * (1 - near)).mean(),
        "cycle": mean_over(hidden, error(seen, both) + FORM * unlike(seen, both)),
        "cycle_common": relative(through, common.detach()),
        "keep": kept(shown, taught, opaque(teacher, near)),
        "common": losses.common(critic, known._replace(common=common), target),
    }
    return losses.weighted(terms, weights, common)


class Shown(NamedTuple):
    """What a decoder makes of the codes of 2 B pictures, A's first."""

    layer: Tensor  # (2 B, 3, side, side) in [-1, 1]: of the own part
    base: Tensor  # (2 B, 3, side, side)
    mask: Tensor  # (2 B, 1, side, side) in [0, 1]: of the own part
    given: Tensor  # (2 B, 3, side, side): the layer of a part of the other domain's
    where: Tensor  # (2 B, 1, side, side): its mask

    @classmethod
    def by(cls, model: Layers, own: Codes) -> Self:
        """By a model, of the pictures' own codes."""
        others = own._replace(a=losses.other(own.a), b=losses.other(own.b))
        return cls(*layers_and_bases(model, own)[:3], *model.layer(others))


def worn(onto: Tensor, layer: Tensor, mask: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """Faces that wear a part as if they were drawn with it, and where it lies.

    `onto` (N, 3, h, w) in [-1, 1] are given a layer (N, 3, h, w) by masks (N, 1, h, w), of the
    parts that pictures `source` (N, 3, h, w) have.
    """
    some = torch.empty_like(mask[:, :, :1, :1])  # (N, 1, 1, 1)
    where = (some.uniform_(*STRENGTH) * mask).clamp_max(1)
    hides_all = (error(layer, source) < TRUE) & (mask > SOLID) & (some.uniform_() < PASTED)
    return torch.where(hides_all, source, blend(layer, onto, where)), where


def kept(shown: Shown, taught: Shown, covered: Tensor) -> Tensor:
    """`keep`: how far masks are from the teacher's, layers where those are open, and bases.

    Bases where `covered`, (2 B, 1, side, side) in [0, 1], says so.
    """
    pairs = ((shown.mask, taught.mask), (shown.where, taught.where))
    masks = sum(F.l1_loss(new, old) for new, old in pairs)
    layers = error(shown.layer, taught.layer) * taught.mask
    layers = layers + error(shown.given, taught.given) * taught.where
    bases = error(shown.base, taught.base) * covered
    return masks + (layers + bases).mean()


def unlike(picture: Tensor, truth: Tensor) -> Tensor:
    """1 - contrast * structure of SSIM (Wang et al., 2004), (N, 1, h, w) of two (N, 3, h, w).

    0: the same up to brightness; 1: nothing alike. In square windows, `WINDOW` pixels at a side.
    """

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, WINDOW, 1, WINDOW // 2, count_include_pad=False)

    mean_x, mean_y = mean(picture), mean(truth)
    variances = mean(picture.square()) - mean_x.square() + mean(truth.square()) - mean_y.square()
    covariance = mean(picture * truth) - mean_x * mean_y
    alike = (2 * covariance + STILL) / (variances + STILL)
    return (1 - alike).mean(1, keepdim=True)
