"""Going on with a one-sided model of masks: its decoder alone learns the place of its part.

No face is shown with the part and without. But of some thousand faces that have it, one is the twin
of almost any that lacks it, if only what lies around the part is asked for (`Twins`). Where the two
differ, the part is, or something that it hides: another mouth, wherever that is wider than the
smile. And where they do not, something lies over the part: a moustache. So all else stands still,
and the decoder is told of twins what masks learn of nobody else, pixel by pixel. (Drawn faces have
twins. Photos have none, and this is not for them.)

    term              formula                              what it does
    claim             BCE(m, where twins differ), of own   masks are of that place, all of it and
                      and of given parts; m*(c, 0): none   nothing else
    exchange          |blend(layer', b, m') - the twin|    a part that is given hides what was there
    paint             |layer - the twin| where they differ so layers know what is around it
    reconstruction_a  |blend(layer, base*, m) - a|         and own parts stay what they are
    base              |base - base*|                       so do bases
    common            see `losses`

* is the decoder's as it was in the model that was begun from, ' with the common code of the face b
that the part is given to.

Of an own part it is not known what its twin has in the part's place: of many twins each has
another mouth. `SHARP` makes of what differs from most of them the part, and of what differs from a
few no haze, which would be left of a probability.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli import losses, nets
from dida_cli.codes import Codes
from dida_cli.config import CriticTarget, Weights
from dida_cli.lookalikes import OPEN, around, compared
from dida_cli.losses import Losses, error, mean_over
from dida_cli.mask import SURE, Layers, claim_loss, painted
from dida_cli.painting import blend, opened

KIND = 4  # one of so many faces has nearly the same kind of part
ENOUGH = 0.03  # of 2, the range of a picture: twins that differ by more differ, however much
DIFFERENT = 8 / 127.5  # of 2, in any channel: more than resampling leaves beside a part
RARE = 0.05  # of the faces have their part there: it may be anywhere near
LOOKED_AT = 512  # faces that tell where parts may be
SHARP = 4.0  # so much surer than its odds a mask is


class Twins:
    """The first pictures of A, and which of them is the twin of a face of B."""

    def __init__(self, size: int) -> None:
        """`size` pictures are remembered."""
        self.size = size
        self.pictures = torch.empty(0)  # uint8 (N, 3, h, w): four times as many in the same memory
        self.small = torch.empty(0)  # (N, 3, h', w'), in which they are compared
        self.kinds = torch.empty(0)  # (N, S * grid * grid), their parts' codes
        self.open = torch.empty(0)  # bool (N, 1, h, w), of the first ones' masks

    @torch.no_grad()
    def add(self, model: Layers, decoder: nn.Module, pictures: Tensor) -> None:
        """Remember pictures (B, 3, h, w) in [-1, 1] of A, until there are enough.

        `decoder` is the model's as it was, by whose masks it is known where parts are.
        """
        if not (new := pictures[: self.size - len(self.pictures)]).numel():
            return
        codes = model.encode(new)
        self.pictures = _joined(self.pictures, _bytes(new))
        self.small = _joined(self.small, compared(new))
        self.kinds = _joined(self.kinds, codes.a.flatten(1))
        if len(self.open) < LOOKED_AT:
            self.open = _joined(self.open, opened(painted(decoder, codes.alone("a"))[1]) > OPEN)

    @property
    def near(self) -> Tensor:
        """1 where a part may be or is near, else 0: (1, 1, h, w)."""
        return around((self.open.float().mean(0, keepdim=True) > RARE).float())

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def of(self, faces: Tensor, kinds: Tensor) -> Tensor:
        """A twin of each face of B, with nearly the kind of part it is asked for.

        Faces (N, 3, h, w) in [-1, 1], codes of parts (N, S, grid, grid); (N, 3, h, w) in [-1, 1].
        """
        where = compared(self.near)[0, 0] > 0  # (h', w')
        known, count = self.small[..., where], max(1, len(self.kinds) // KIND)
        found = []
        for face, kind in zip(compared(faces)[..., where], kinds.flatten(1), strict=True):
            like = (self.kinds - kind).abs().sum(1).topk(count, largest=False).indices
            distance = (known[like] - face).abs().mean(1).clamp_max(ENOUGH).mean(1)
            found.append(like[distance.argmin()])
        return self.pictures[torch.stack(found)].float() / 127.5 - 1


def place_loss(
    model: Layers,
    critic: nets.Critic,
    a: Tensor,
    b: Tensor,
    weights: Weights,
    target: CriticTarget,
    teacher: nn.Module,
    lookalikes: Twins,
) -> Losses:
    """The loss of going on on pictures a and b, each (B, 3, side, side).

    `teacher` is the model's decoder as it was; all else of the model stands still. The faces b are
    compared with their twins among `lookalikes`, whose parts are as those of a.
    """
    twins = lookalikes.of(b, model.encode(a).a)
    own = losses.own_parts(model.encode(torch.cat([twins, b])))
    with torch.no_grad():
        bases, _ = painted(teacher, own.without("a"))
    near = lookalikes.near
    part = ((twins - b).abs().amax(1, keepdim=True) > DIFFERENT) * near  # (B, 1, side, side)
    made = Shown.by(model.decoder, own)
    layer, mask = made.own
    moved, where = made.given
    terms = {
        "claim": claim_loss(part, sharp(mask))
        + claim_loss(part, sharp(where))
        + claim_loss(torch.zeros_like(made.closed), made.closed),
        "exchange": F.l1_loss(blend(moved, b, where), blend(twins, b, near)),
        "paint": mean_over(part, error(layer, twins)) + mean_over(part, error(moved, twins)),
        "reconstruction_a": F.l1_loss(blend(layer, bases[: len(b)], mask), twins),
        "base": F.l1_loss(made.base, bases),
        "common": losses.common(critic, own, target),
    }
    return losses.weighted(terms, weights, own.common)


class Shown(NamedTuple):
    """What a decoder makes of the codes of B faces with a part, and of B twins without."""

    own: tuple[Tensor, Tensor]  # layers (B, 3, side, side) in [-1, 1], masks (B, 1, side, side)
    given: tuple[Tensor, Tensor]  # the same, of the parts on the twins' faces
    base: Tensor  # (2 B, 3, side, side) in [-1, 1]
    closed: Tensor  # (2 B, 1, side, side) in [0, 1], masks where no part is

    @classmethod
    def by(cls, decoder: nn.Module, own: Codes) -> "Shown":
        """A decoder's of own codes (`losses.own_parts`)."""
        count = len(own.common) // 2
        given = Codes(own.common[count:], own.a[:count], own.b[count:])
        every = (own.take(slice(0, count)), given, own.without("a"))
        rgb, mask = painted(decoder, Codes(*map(torch.cat, zip(*every, strict=True))))
        sizes = [count, count, 2 * count]
        own_layer, given_layer, base = torch.split(rgb, sizes)
        own_mask, given_mask, closed = torch.split(mask, sizes)
        return cls((own_layer, own_mask), (given_layer, given_mask), base, closed)


def sharp(mask: Tensor) -> Tensor:
    """The odds of masks in [0, 1], of which they are the power `SHARP`, as probabilities."""
    return torch.sigmoid(torch.logit(mask, SURE) / SHARP)


def _joined(known: Tensor, new: Tensor) -> Tensor:
    return torch.cat([known, new]) if len(known) else new


def _bytes(pictures: Tensor) -> Tensor:
    return ((pictures + 1) * 127.5).round().to(torch.uint8)
