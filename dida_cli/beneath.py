"""Going on with a model of masks: its decoder alone learns what its parts lie beneath.

A moustache lies over a smile, and pictures of one face with two smiles, from which that could be
learned, are not there: the mask of a smile that was seen on a face without a moustache goes a
little way over it. But the common code knows the moustache, and the base shows it. So all else
stands still, and the decoder learns from faces of either domain that are given the other's part:
where the base shows something of the face's own (`own_things`), the mask is to be shut.

What is a face's own, nobody has said. It is what the base shows, and the picture too, but next to
none of the bases of faces of the same domain that are alike around the part (`Bases`). (A tongue,
which is left of one of the other mouths, is usual where that is.) Bases have neither part: so this
is for parts in whose place the other domain has nothing, or has its own part, as two kinds of
mouths are. Glass, through which a face's own things are seen, learns nothing.

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
from dida_cli.config import PARTS, CriticTarget, Part, Weights
from dida_cli.lookalikes import around, compared
from dida_cli.losses import Losses, error, mean_over
from dida_cli.mask import Layers, claim_loss, painted, seen_through

ALIKE = 17  # faces that a face is compared with
FEW = 2  # of them may show the same, and it is a face's own
OWN = 0.12  # of 2, the range of a picture: a base that is so far from others shows something
SEEN = 0.15  # of 2: and so near to it is a picture that shows it too
RAMP = 1.5  # times these, the other end of what is told by degrees


class Bases:
    """The last bases of both domains, by which what is a face's own is told."""

    def __init__(self, size: int) -> None:
        """`size` bases of each domain are remembered."""
        self.size = size
        self.known: dict[Part, Tensor] = {}  # (N, 3, h, w) in [-1, 1], the last ones first

    def add(self, bases: Tensor) -> None:
        """Remember bases (2 B, 3, h, w) of pictures, A's first, and forget the oldest."""
        for part, new in zip(PARTS, bases.chunk(2), strict=True):
            before = self.known.get(part, new[:0])
            self.known[part] = torch.cat([new, before])[: self.size]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def unlike(self, part: Part, bases: Tensor, masks: Tensor) -> Tensor:
        """How far bases are from those of faces that are alike around a part: (N, 1, h, w).

        Of each pixel, from the nearest but `FEW`. Bases (N, 3, h, w) are of pictures of the domain
        `part`, and remembered; masks (N, 1, h, w) in [0, 1] say where the part is.
        """
        known = self.known[part]
        small, beside = compared(known), compared(around(masks) * (1 - masks))
        made = []
        for base, shrunk, where in zip(bases, compared(bases), beside, strict=True):
            distance = ((shrunk - small).abs() * where).sum((1, 2, 3))
            nearest = distance.topk(min(1 + ALIKE, len(known)), largest=False).indices
            far = error(known[nearest], base)  # (1 + ALIKE, 1, h, w), 0 for the base itself
            made.append(far.topk(min(2 + FEW, len(far)), 0, largest=False).values[-1])
        return torch.stack(made)


@torch.no_grad()
def bases_of(model: Layers, decoder: nn.Module, pictures: Tensor) -> Tensor:
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
    lookalikes: Bases,
) -> Losses:
    """The loss of going on on pictures a and b, each (B, 3, side, side).

    `teacher` is the model's decoder as it was; all else of the model stands still. `lookalikes`
    have been shown the bases of these pictures.
    """
    both = torch.cat([a, b])
    own = losses.own_parts(model.encode(both))
    with torch.no_grad():
        known = Shown.by(teacher, own)
        faces, bases = (torch.cat([x, losses.other(x)]) for x in (both, known.base))  # (4 B, ...)
        over = over_parts(model, faces, bases, known.mask, lookalikes)
    made = Shown.by(model.decoder, own)
    hidden = made.mask * error(made.layer.detach(), bases)
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


def over_parts(
    model: Layers, faces: Tensor, bases: Tensor, masks: Tensor, lookalikes: Bases
) -> Tensor:
    """Where a face's own things lie over the part that it is given: (4 B, 1, h, w) in [0, 1].

    Faces and their bases (4 B, 3, h, w) are A's, B's, B's and A's; the parts, where masks
    (4 B, 1, h, w) say, A's, B's, A's and B's.
    """
    whose = (PARTS + PARTS, PARTS + PARTS[::-1])
    quarters = zip(*whose, faces.chunk(4), bases.chunk(4), masks.chunk(4), strict=True)
    made = []
    for part, domain, face, base, mask in quarters:
        if seen_through(model, part):
            made.append(torch.zeros_like(mask))
        else:
            unlike = lookalikes.unlike(domain, base, mask)
            made.append(own_things(unlike, error(base, face)) * around(mask))
    return torch.cat(made)


def own_things(unlike: Tensor, unseen: Tensor) -> Tensor:
    """Where faces show something of their own that bases show, in [0, 1].

    `unlike` is how far bases are from those of other faces, `unseen` how far from the pictures.
    """
    own, seen = (
        (distance / start - 1) / (RAMP - 1) for distance, start in ((unlike, OWN), (unseen, SEEN))
    )
    return own.clamp(0, 1) * (1 - seen.clamp(0, 1))
