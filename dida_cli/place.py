"""Going on with a one-sided model of masks: its decoder alone learns the place of its part.

No face is shown with the part and without. But of some thousand faces that have it, one is the twin
of almost any that lacks it, if only what lies around the part is asked for (`Twins`). Where the two
differ, the part is, or something that it hides: another mouth, wherever that is wider than the
smile. And where they do not, something lies over the part: a moustache. So all else stands still,
and the decoder is told of twins what masks learn of nobody else, pixel by pixel.

This is for drawn faces and small parts. Photos have no twins. Nor have faces that are compared
around a beard, from the glasses down to the clothes: after 500 steps its masks opened at all these.

    term              formula                              what it does
    claim             BCE(m, where a differs from n), BCE  masks are of their place, all of it and
                      (m', where a differs from b),        nothing else
                      BCE(m of (c, 0), 0)
    exchange          |blend(layer', b, m') - a|           a part that is given hides what was there
    paint             |layer - a|, |layer' - a| and        layers know what is around the part, and
                      |base(a) - n| where they differ      no base is a blur of many
    reconstruction_a  |blend(layer, n, m) - a|             own parts stay what they are
    base              |base(a) - n|, |base(b) - base*(b)|  so do bases but for that
    common            see `losses`

b is a face without the part, a its twin with a part of the kind that some other face has, ' what
the decoder makes of a's part for b. * is the decoder's as it was in the model that was begun from,
and n the twin without a part that is nearest to base*(a): what a face has in the part's place is
one of several mouths, of which the base shows a mixture. Beside the part, where twins may be of
other people, n is base*(a) itself, and a is b.
"""

from typing import NamedTuple, Self

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
SHARP = 4.0  # the power of its odds that a mask is: some twins are none, and haze would be left


class Faces:
    """The first pictures of one domain."""

    def __init__(self, size: int) -> None:
        """`size` pictures are remembered, in memory that is taken once for all of them."""
        self.size, self.count = size, 0
        self.pictures = torch.empty(0)  # uint8 (size, 3, h, w): four times as many as of floats
        self.small = torch.empty(0)  # (size, 3, h', w'), in which they are compared

    def add(self, pictures: Tensor) -> None:
        """Remember pictures (B, 3, h, w) in [-1, 1], for which there must be room."""
        levels, small = ((pictures + 1) * 127.5).round().to(torch.uint8), compared(pictures)
        if not self.count:
            self.pictures = levels.new_empty(self.size, *levels.shape[1:])
            self.small = small.new_empty(self.size, *small.shape[1:])
        rows = slice(self.count, self.count + len(pictures))
        self.pictures[rows], self.small[rows], self.count = levels, small, rows.stop

    def nearest(self, faces: Tensor, where: Tensor, among: Tensor | None = None) -> Tensor:
        """The likest of each face (N, 3, h, w) in [-1, 1], the same.

        `where` (h', w') says what is compared, `among` (N, M) which pictures come into question.
        """
        known, found = self.small[: self.count, :, where], []
        for row, face in enumerate(compared(faces)[..., where]):
            some = torch.arange(self.count, device=face.device) if among is None else among[row]
            distance = (known[some] - face).abs().mean(1).clamp_max(ENOUGH).mean(1)
            found.append(some[distance.argmin()])
        return self.pictures[torch.stack(found)].float() / 127.5 - 1


class Twins:
    """The first pictures of both domains, and which of them is the twin of a face of the other."""

    def __init__(self, size: int) -> None:
        """`size` pictures of each domain are remembered."""
        self.a, self.b = Faces(size), Faces(size)
        self.kinds = torch.empty(0)  # (N, S * grid * grid), A's parts
        self.open = torch.zeros(())  # (1, 1, h, w): of how many of the first ones a mask is open
        self.looked_at = 0

    @torch.no_grad()
    def add(self, model: Layers, decoder: nn.Module, a: Tensor, b: Tensor) -> None:
        """Remember pictures a and b, each (B, 3, h, w) in [-1, 1], until there are enough.

        `decoder` is the model's as it was, by whose masks it is known where parts are.
        """
        room = self.a.size - self.a.count
        if not room:
            return
        a, b = a[:room], b[:room]
        self.a.add(a)
        self.b.add(b)
        codes = model.encode(a)
        kinds = codes.a.flatten(1)
        self.kinds = torch.cat([self.kinds, kinds]) if len(self.kinds) else kinds
        if self.looked_at < LOOKED_AT:
            mask = opened(painted(decoder, codes.alone("a"))[1])
            self.open = self.open + (mask > OPEN).sum(0, keepdim=True)
            self.looked_at += len(a)

    @property
    def near(self) -> Tensor:
        """1 where a part may be or is near, else 0: (1, 1, h, w)."""
        return around((self.open / self.looked_at > RARE).float())

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def having(self, faces: Tensor, kinds: Tensor) -> Tensor:
        """Of each face its twin of A, with nearly the kind of part that is asked for.

        Faces (N, 3, h, w) in [-1, 1], codes of parts (N, S, grid, grid); (N, 3, h, w) in [-1, 1].
        """
        unlike = torch.cdist(kinds.flatten(1), self.kinds, p=1)
        among = unlike.topk(max(1, len(self.kinds) // KIND), largest=False).indices
        return self.a.nearest(faces, self._where, among)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def lacking(self, faces: Tensor) -> Tensor:
        """Of each face (N, 3, h, w) in [-1, 1] its twin of B, the same."""
        return self.b.nearest(faces, self._where)

    @property
    def _where(self) -> Tensor:
        return compared(self.near)[0, 0] > 0  # (h', w')


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

    `teacher` is the model's decoder as it was; all else of the model stands still. Faces b are
    compared with their twins among `lookalikes`, whose parts are of the kinds that a show.
    """
    having, near = lookalikes.having(b, model.encode(a).a), lookalikes.near
    own = losses.own_parts(model.encode(torch.cat([having, b])))
    with torch.no_grad():
        of_a, of_b = painted(teacher, own.without("a"))[0].chunk(2)
        lacking = blend(lookalikes.lacking(of_a), of_a, near)
    made = Shown.by(model.decoder, own)
    layer, mask = made.own
    moved, where = made.given
    place, given = (differ(having, other) * near for other in (lacking, b))
    terms = {
        "claim": claim_loss(place, sharp(mask))
        + claim_loss(given, sharp(where))
        + claim_loss(torch.zeros_like(made.closed), made.closed),
        "exchange": F.l1_loss(blend(moved, b, where), blend(having, b, near)),
        "paint": mean_over(place, error(layer, having))
        + mean_over(given, error(moved, having))
        + mean_over(place, error(made.base[: len(b)], lacking)),
        "reconstruction_a": F.l1_loss(blend(layer, lacking, mask), having),
        "base": F.l1_loss(made.base, torch.cat([lacking, of_b])),
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
    def by(cls, decoder: nn.Module, own: Codes) -> Self:
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


def differ(one: Tensor, other: Tensor) -> Tensor:
    """1 where pictures (N, 3, h, w) are not the same, else 0: (N, 1, h, w)."""
    return ((one - other).abs().amax(1, keepdim=True) > DIFFERENT).to(one.dtype)
