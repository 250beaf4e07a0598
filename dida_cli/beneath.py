"""Going on with a model of masks: its decoder alone learns what its parts lie beneath.

A moustache lies over a smile, and pictures of one face with two smiles, from which that could be
learned, are not there: the mask of a smile that was seen on a face without a moustache goes a
little way over it. But the common code knows the moustache, and the base shows it. So all else
stands still, and the decoder learns from faces of either domain that are given the other's part:
where the base shows something of the face's own (`own_things`), the mask is to be shut.

What is a face's own, nobody has said. It is what the base shows, and the picture too, but not the
bases of other faces that are alike around the part (their median, `Usual`). Bases have neither
part: so this is for parts in whose place the other domain has nothing, or has its own part, as two
kinds of mouths are. Glass, through which a face's own things are seen, learns nothing.

    term        formula                           what it does
    exchange    |layer - layer*|                  layers stay what they are,
    base        |base - base*|                    and so do bases
    claim       BCE(m, m* where nothing is own)   masks too, but over a face's own things
    cover       m |layer - base*| over these      which are to look as they do without the part
    common      see `losses`

* is the decoder's as it was in the model that was begun from. Layers and masks are of pictures'
own parts, and of parts that are exchanged between the domains.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli import losses, nets
from dida_cli.codes import Codes
from dida_cli.config import CriticTarget, Weights
from dida_cli.lookalikes import around, compared
from dida_cli.losses import Losses, error, mean_over
from dida_cli.mask import Layers, claim_loss, opaque, painted

ALIKE = 9  # faces of whose bases the median is what is usual
OWN = 0.2  # of 2, the range of a picture: a base that is so far from it shows something of its own
SEEN = 0.15  # of 2: and so near to it is a picture that shows it too
RAMP = 1.5  # times these, the other end of what is told by degrees


class Usual:
    """The last bases of both domains, by which what is a face's own is told."""

    def __init__(self, size: int) -> None:
        """`size` bases of each domain are remembered."""
        self.size = size
        self.bases = torch.empty(0)  # (N, 3, h, w) in [-1, 1], the last ones first
        self.small = torch.empty(0)  # (N, 3, h', w'), in which they are compared

    def add(self, bases: Tensor) -> None:
        """Remember bases (2 B, 3, h, w) of B pictures of each domain, and forget the oldest."""
        kept = 2 * self.size
        self.bases = torch.cat([bases, self.bases.to(bases)] if len(self.bases) else [bases])[:kept]
        self.small = compared(self.bases)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def of(self, bases: Tensor, masks: Tensor) -> Tensor:
        """What is usual of faces that are alike around parts: (N, 3, h, w).

        Bases (N, 3, h, w), and masks (N, 1, h, w) in [0, 1] of the parts.
        """
        beside = compared(around(masks) * (1 - masks))  # (N, 1, h', w')
        medians = []
        for base, where in zip(compared(bases), beside, strict=True):
            distance = ((base - self.small).abs() * where).sum((1, 2, 3))
            nearest = distance.topk(min(ALIKE, len(distance)), largest=False).indices
            medians.append(self.bases[nearest].median(0).values)
        return torch.stack(medians)


@torch.no_grad()
def bases(model: Layers, decoder: nn.Module, pictures: Tensor) -> Tensor:
    """A decoder's bases of pictures, both (N, 3, side, side) in [-1, 1]."""
    return painted(decoder, model.encode(pictures).without("a", "b"))[0]


def beneath_loss(
    model: Layers,
    critic: nets.Critic,
    a: Tensor,
    b: Tensor,
    weights: Weights,
    target: CriticTarget,
    teacher: nn.Module,
    lookalikes: Usual,
) -> Losses:
    """The loss of going on on pictures a and b, each (B, 3, side, side).

    `teacher` is the model's decoder as it was; all else of the model stands still. `lookalikes`
    have been shown the bases of these pictures.
    """
    both = torch.cat([a, b])
    own = losses.own_parts(model.encode(both))
    with torch.no_grad():
        known = Shown.by(teacher, own)
        faces = torch.cat([both, losses.other(both)])  # (4 B, 3, side, side), whose codes are
        shown = torch.cat([known.base, losses.other(known.base)])
        lies_beneath = torch.cat([opaque(model, mask) for mask in known.mask.chunk(2)])
        over = own_things(faces, shown, lookalikes.of(shown, known.mask)) * around(lies_beneath)
    made = Shown.by(model.decoder, own)
    hidden = made.mask * error(made.layer.detach(), shown)
    terms = {
        "exchange": F.l1_loss(made.layer, known.layer),
        "base": F.l1_loss(made.base, known.base),
        "claim": claim_loss(known.mask * (1 - over), made.mask),
        "cover": mean_over(over, hidden),
        "common": losses.common(critic, own, target),
    }
    return losses.weighted(terms, weights, own.common)


class Shown(NamedTuple):
    """What a decoder makes of 2 B pictures' codes, A's first."""

    base: Tensor  # (2 B, 3, side, side) in [-1, 1]
    layer: Tensor  # (4 B, 3, side, side): own parts, then on the other domain's faces
    mask: Tensor  # (4 B, 1, side, side) in [0, 1]

    @classmethod
    def by(cls, decoder: nn.Module, own: Codes) -> Self:
        """A decoder's of own codes (`losses.own_parts`)."""
        every = (own, own._replace(common=losses.other(own.common)), own.without("a", "b"))
        together = Codes(*(torch.cat(codes) for codes in zip(*every, strict=True)))
        rgb, mask = painted(decoder, together)
        count = 2 * len(own.common)
        return cls(rgb[count:], rgb[:count], mask[:count])


def own_things(faces: Tensor, bases: Tensor, usual: Tensor) -> Tensor:
    """Where faces show something of their own that bases show: (N, 1, h, w) in [0, 1].

    Pictures, their bases and what is usual of such faces, each (N, 3, h, w) in [-1, 1].
    """
    unusual = (error(bases, usual) / OWN - 1) / (RAMP - 1)
    unseen = (error(bases, faces) / SEEN - 1) / (RAMP - 1)
    return unusual.clamp(0, 1) * (1 - unseen.clamp(0, 1))
